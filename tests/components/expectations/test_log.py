import statistics
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.expectations import reading
from components.expectations.log import COLUMNS, LogSummary
from schemas.sources import load
from tests.components.expectations.plausible import ROWS, SIMULATED, log


def tables(table, mapping=SIMULATED, rows_at_once=None):
    summary = LogSummary(table.column_names, mapping)
    for batch in table.to_batches(rows_at_once):
        summary.add(pa.Table.from_batches([batch]))
    return {name: one.frame for name, one in summary.tables().items()}


def test_tables_have_their_columns_only():
    found = tables(log())
    assert {name: set(frame.columns) <= set(COLUMNS[name]) for name, frame in found.items()} == dict.fromkeys(
        COLUMNS, True
    )


@settings(max_examples=10)
@given(st.integers(150, ROWS + 1))
def test_batches_of_any_size_come_to_the_same_tables(rows_at_once):
    # Of the last rows every other repeats an id, out of order and without a label.
    rows = np.r_[np.arange(ROWS - 100), np.arange(ROWS - 100, ROWS)[::-2]]
    table = log(is_fraud=pa.array([None] * 50 + [False, True] * 60 + [False] * (ROWS - 170))).take(
        np.r_[rows, rows[-9:]]
    )
    cut, uncut = tables(table, rows_at_once=rows_at_once), tables(table)
    assert cut.keys() == uncut.keys() == COLUMNS.keys()
    for name, frame in uncut.items():
        assert frame.equals(cut[name])


def test_amounts_are_summed_up_by_currency_exactly():
    table = log()
    found = tables(table, rows_at_once=333)
    decimals = {"EUR": 2, "JPY": 0}
    rows = table.select(["currency", "amount_minor", "amount_base_minor"]).to_pylist()
    for currency in decimals:
        minor = [row["amount_minor"] for row in rows if row["currency"] == currency]
        base = [row["amount_base_minor"] for row in rows if row["currency"] == currency]
        (of,) = found["currencies"].query("currency == @currency").to_dict("records")
        assert of["rows"] == len(minor) and of["smallest_amount_minor"] == min(minor)
        assert of["median_amount"] == statistics.median(base) / 100
        assert of["largest_amount"] == max(base) / 100
        assert of["round_share"] == sum(amount % 100 == 0 for amount in minor) / len(minor)
    assert found["log"]["median_amount"][0] == statistics.median(row["amount_base_minor"] for row in rows) / 100


def test_few_rows_of_a_currency_or_a_merchant_are_not_judged():
    table = log().slice(0, 150)
    found = tables(table)
    assert found["currencies"]["median_amount"].isna().all() and found["currencies"]["rows"].sum() == 150
    assert "merchants" not in found
    # Of 120 cards; a stuck device shows only beside many.
    assert tables(table.slice(0, 90))["log"].get("top_device_share") is None


def test_the_share_of_a_merchants_main_category_is_of_its_rows():
    merchant = ["corner shop"] * 300 + ["chain"] * (ROWS - 300)
    category = ["food"] * 200 + ["fuel"] * 100 + ["books"] * (ROWS - 300)
    frame = tables(log(merchant_id=merchant, merchant_category=category))["merchants"].set_index("merchant")
    assert frame["main_category_share"].to_dict() == {"corner shop": pytest.approx(2 / 3), "chain": 1.0}
    assert frame["rows"].to_dict() == {"corner shop": 300, "chain": ROWS - 300}


def test_repeated_ids_are_counted_over_all_batches():
    ids = [f"t{row % (ROWS - 5)}" for row in range(ROWS)]
    assert tables(log(transaction_id=ids), rows_at_once=100)["log"]["duplicate_transaction_ids"][0] == 5
    assert sum(count - 1 for count in Counter(ids).values()) == 5


def test_the_fraud_share_counts_labelled_rows_only():
    labels = pa.array([row == 0 if row < 100 else None for row in range(ROWS)])
    row = tables(log(is_fraud=labels))["log"].iloc[0]
    assert (row["fraud_share"], row["labelled_rows"]) == (0.01, 100)


def test_a_card_number_needs_its_check_digit():
    cards = ["4111111111111111"] * 3 + ["4111111111111112", "596", "k1_4111111111111111"] * 100
    row = tables(log().slice(0, len(cards)).set_column(2, "card_id", pa.array(cards)))["log"].iloc[0]
    assert row["card_numbers_in_clear"] == 1


def test_card_numbers_that_a_source_has_elsewhere_are_blotted_out():
    mapping = load("sparkov")
    merchants = tables(log(mapping, merchant_id=["4111 1111 1111 1111"] * ROWS), mapping)["merchants"]
    assert merchants["merchant"].to_list() == ["#### #### #### ####"]
    token = tables(log(merchant_id=["4111111111111111"] * ROWS))["merchants"]
    assert token["merchant"].to_list() == ["4111111111111111"]


def test_only_what_a_source_provides_is_summed_up():
    mapping = load("handbook")
    found = tables(log(mapping), mapping)
    assert found.keys() == {"log", "currencies"}
    assert {"null_island_share", "top_device_share"}.isdisjoint(found["log"].columns)


def test_a_log_is_read_in_batches_of_a_bounded_size(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "LOG_ROWS", 1_000)
    pq.write_table(log(), tmp_path / "log.parquet")
    source = reading.transactions(tmp_path / "log.parquet")
    assert source.rows == ROWS and [batch.num_rows for batch in source.batches] == [1_000] * 4 + [800]
