import json
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from components.expectations import ExpectationResult, checking, reading, reasons
from components.expectations.checking import check
from components.expectations.reading import Source
from components.expectations.suites import parse_suite
from schemas.errors import ConfigurationError
from schemas.features import specify
from schemas.sources import known, load
from tests.components.expectations.plausible import ROWS, SIMULATED, changed_at, checked, features, log


def failures(*arguments, **settings):
    """What the gate is told, by column."""
    found = reasons(checked(*arguments, **settings))
    return {reason.subject.split(" (")[0]: reason for reason in found}


@pytest.mark.parametrize("source", known())
def test_a_plausible_log_of_any_shipped_source_passes(source):
    report = checked(log(load(source)), mapping=load(source))
    assert [result for result in report.results if not result.success] == []
    assert {result.suite.split(".")[0] for result in report.results} == {"transactions", "features"}


def test_a_simulated_log_with_all_its_features_passes(tiny_examples):
    spec = tiny_examples.spec
    report = check(
        Source(tiny_examples.log.num_rows, tiny_examples.log.to_batches(10_000)),
        reading.numbers(tiny_examples.root, "train", spec),
        spec,
        SIMULATED,
    )
    assert [result for result in report.results if not result.success] == []
    asked = {result.suite for result in report.results}
    tables = ("log", "currencies", "merchants", "cities", "countries", "rows")
    assert asked == {*(f"transactions.{table}" for table in tables), "features.features", "features.relations"}


def test_the_handbooks_log_passes(handbook_log):
    from components.ingest import ingest

    mapping = load("handbook")
    transactions = ingest(handbook_log, mapping, None).transactions
    read = Source(transactions.num_rows, transactions.to_batches(100_000))
    report = check(read, Source(0, []), specify(mapping.provided), mapping)
    assert [result for result in report.results if not result.success] == []


@pytest.mark.parametrize("source", known())
def test_no_log_passes_both_before_and_after_its_amounts_are_taken_times_a_hundred(source):
    low, high = load(source).expected_median_amount
    assert high / low < 100


def test_a_hundredfold_amount_in_one_currency_stops_and_names_the_currency():
    table = log()
    factor = np.where(np.array(table["currency"].to_pylist()) == "JPY", 100, 1)
    for name in ("amount_minor", "amount_base_minor"):
        table = table.set_column(table.column_names.index(name), name, pa.array(table[name].to_numpy() * factor))
    report = checked(table)
    (median, granular) = [result for result in report.results if not result.success]
    assert (median.suite, median.column, median.segment) == ("transactions.currencies", "median_amount", "JPY")
    assert isinstance(median.observed, float) and median.observed > 1_000
    assert median.limit == "min_value: 10, max_value: 100" and median.severity == "stop"
    assert median.message.startswith("the median amount in JPY is worth ")
    assert (granular.column, granular.segment, granular.observed) == ("round_share", "JPY", 1.0)


def test_a_median_outside_its_band_stops_with_a_message_for_people():
    mapping = load("handbook")
    reason = failures(log(mapping, amount_base_minor=np.full(ROWS, 446_401)), mapping=mapping)["median_amount"]
    assert reason.severity == "stop" and reason.observed == 4464.01
    assert reason.message == (
        "the median amount in EUR is worth 4464.01 EUR, outside [20, 100] that mapping handbook expects: are amounts "
        "in EUR in another unit, or is its rate wrong?"
    )


def test_each_bad_value_is_named():
    faults = {
        "duplicate_transaction_ids": ("transaction_id", "t8"),
        "missing_required_values": ("merchant_id", None),
        "card_numbers_in_clear": ("card_id", "4111111111111111"),
        "labels_without_time": ("label_time", None),
        "smallest_amount_minor": ("amount_minor", -1),
        "largest_amount": ("amount_base_minor", 10_000_001),
        "currency": ("currency", "CHF"),
        "latitude": ("latitude", 90.5),
        "half_places": ("longitude", None),
        "longitude": ("longitude", -180.5),
        "country": ("country", "Austria"),
        "merchant_category": ("merchant_category", ""),
        "city": ("city", ""),
    }
    table = log()
    for number, (column, value) in enumerate(faults.values()):
        table = changed_at(table, column, 2 * number + 7, value)
    found = failures(table)
    assert found.keys() == faults.keys()
    assert {column: reason.severity for column, reason in found.items() if reason.severity != "stop"} == {
        "half_places": "warn"
    }
    assert not [reason.message for reason in found.values() if "$" in reason.message]
    assert "4111" not in "".join(reason.message for reason in found.values())
    assert (
        found["latitude"].message == f"latitudes lie outside [-90, 90] degrees: 1 of {ROWS} rows checked, such as 90.5"
    )
    assert "country Austria" in found["country"].message and "currency CHF" in found["currency"].message


def test_values_that_are_too_often_the_same_are_named():
    row = np.arange(ROWS)
    names = log()["transaction_id"].to_pylist()
    day_us = 86_400 * 1_000_000
    times = log()["event_time"].cast(pa.int64()).to_numpy() // day_us * day_us
    late = pa.array(times + 6 * day_us, pa.timestamp("us", "UTC"))
    table = log(
        transaction_id=names,
        event_time=pa.array(times, pa.timestamp("us", "UTC")),
        label_time=late,
        latitude=np.zeros(ROWS),
        longitude=np.zeros(ROWS),
        device_id=["unknown"] * ROWS,
        amount_minor=np.where(row % 4 == 1, 0, row // 10 * 100),
        merchant_category=[f"category {at // 20 % 3}" for at in row],
        country=[("AT", "DE", "FR")[at // 20 % 3] for at in row],
        city=[f"city {at % 10}" for at in row],
    )
    report = checked(table)
    found = [
        (result.suite.split(".")[1], result.column, result.severity) for result in report.results if not result.success
    ]
    assert found == [
        ("log", "midnight_share", "stop"),
        ("log", "late_label_share", "stop"),
        ("log", "null_island_share", "stop"),
        ("log", "top_device_share", "stop"),
        ("currencies", "zero_share", "stop"),
        ("currencies", "round_share", "warn"),
        ("merchants", "main_category_share", "stop"),
        ("merchants", "main_country_share", "warn"),
        ("cities", "main_country_share", "stop"),
    ]
    messages = {result.column: result.message for result in report.results if not result.success}
    assert "later than 5 days" in messages["late_label_share"]
    assert (
        "such as m0,"
        in {r.column: r.message for r in report.results if r.suite.endswith("merchants")}["main_category_share"]
    )
    (rounded,) = [result for result in report.results if result.column == "round_share"]
    assert rounded.segment == "EUR, GBP, JPY and 1 more" and "(and so in GBP, JPY, USD)" in rounded.message


def test_impossible_times_and_labels_stop_and_are_named():
    table = changed_at(log(), "event_time", 0, datetime(1970, 1, 20, tzinfo=UTC))
    table = changed_at(table, "event_time", -1, datetime(2286, 1, 1, tzinfo=UTC))
    table = changed_at(table, "event_time", 9, datetime(2024, 3, 1, tzinfo=UTC))
    table = changed_at(table, "is_fraud", 8, None)
    found = failures(table)
    # The late event also comes after its own label, the early one long before.
    assert found.keys() == {
        "first_event_time",
        "last_event_time",
        "rows_out_of_order",
        "labels_before_transaction",
        "label_times_without_label",
    }
    assert "1970-01-20T00:00:00+00:00" in found["first_event_time"].message
    assert found["rows_out_of_order"].observed == found["labels_before_transaction"].observed == 1


@pytest.mark.parametrize("frauds", [0, ROWS // 10])
def test_a_fraud_share_outside_the_mappings_band_stops(frauds):
    assert failures(log(is_fraud=np.arange(ROWS) < frauds)).keys() == {"fraud_share"}


def test_a_log_without_any_label_stops():
    unlabelled = log(is_fraud=pa.nulls(ROWS, pa.bool_()), label_time=pa.nulls(ROWS, pa.timestamp("us", "UTC")))
    assert failures(unlabelled).keys() == {"labelled_rows"}


def test_an_empty_log_stops_and_does_not_raise():
    assert failures(log().slice(0, 0)).keys() == {"rows", "labelled_rows"}


def test_of_a_single_row_its_value_is_told_from_a_table_of_all():
    found = failures(changed_at(log().slice(1, 1), "latitude", 0, 95.0))
    assert found["latitude"].observed == "1 of 1 rows checked, such as 95"
    assert found["fraud_share"].observed == 0.0


def test_a_column_that_the_mapping_promises_and_the_table_lacks_stops():
    reason = failures(log().drop_columns(["latitude"]))["absent_columns"]
    assert reason.severity == "stop" and "latitude" in reason.message


def test_single_rows_are_sampled_systematically_and_tables_are_made_of_all():
    table = changed_at(log(), "latitude", 7, 95.0)
    table = changed_at(table, "transaction_id", 1, "t2")
    report = checked(table, {"card_id_probe_count_24h": 1.0}, sample_rows=ROWS // 3)
    of = {(result.column, result.rows_checked, result.rows_read) for result in report.results}
    # Every third row: 0, 3, 6, ...; row 7 is not among them.
    assert {("latitude", ROWS // 3, ROWS), ("duplicate_transaction_ids", ROWS, ROWS), ("violations", 600, 600)} <= of
    failed = {result.column for result in report.results if not result.success}
    assert failed == {"duplicate_transaction_ids", "violations"}


def test_batches_of_any_size_come_to_the_same_report():
    table = changed_at(changed_at(log(), "latitude", 9, 95.0), "merchant_category", 12, "")
    spec = specify(SIMULATED.provided)
    batches = Source(ROWS, table.to_batches(700))
    cut = check(batches, Source(600, [features(spec, rows=100)] * 6), spec, SIMULATED, sample_rows=ROWS // 3)
    assert cut == checked(table, sample_rows=ROWS // 3)
    assert {result.column for result in cut.results if not result.success} == {"latitude", "merchant_category"}


def test_the_sample_must_hold_a_row():
    with pytest.raises(ConfigurationError, match="sample_rows is 0"):
        checked(log(), sample_rows=0)


def test_a_feature_that_breaks_its_declaration_stops_and_is_named():
    amount = "card_id_amount_base_minor"
    report = checked(
        log(),
        {
            "card_id_count_24h": 2.0,
            "merchant_id_fraud_rate_7d": 1.01,
            f"{amount}_sum_1h": 0.0,
            "merchant_id_count_1h": 0.5,
        },
    )
    found = {result.column: result for result in report.results if not result.success}
    assert found.keys() == {"impossible", "fractions", "lost", "made_up", "violations"}
    assert found["impossible"].message.startswith("600 values of merchant_id_fraud_rate_7d lie outside [0, 1]")
    assert found["fractions"].segment == "merchant_id_count_1h"
    assert found["made_up"].segment == f"{amount}_sum_1h"
    assert "card_id_count_24h" not in found["lost"].message and f"{amount}_sum_24h" in found["lost"].segment
    assert "card_id_count_7d is below card_id_count_24h in 600 rows, such as 0 below 2" in found["violations"].message


def test_an_expectation_that_cannot_be_evaluated_stops_and_says_so(monkeypatch):
    entry = "{type: expect_column_values_to_match_regex, column: city, regex: '(', message: m}"
    broken = parse_suite(f"{{suite: transactions, rows: [{entry}]}}", SIMULATED, "s.yaml")
    whole = checking.load_suite("features", SIMULATED)
    monkeypatch.setattr(checking, "load_suite", lambda name, _: broken if name == "transactions" else whole)
    (result,) = [result for result in checked(log()).results if not result.success]
    assert "of city in transactions.rows could not be evaluated" in result.message


def test_the_report_is_json_with_rows_read_and_checked():
    report = checked(log())
    raw = json.loads(report.to_json())["results"]
    assert tuple(ExpectationResult(**result) for result in raw) == report.results
    median = next(result for result in raw if result["column"] == "median_amount")
    assert median == {
        "suite": "transactions.log",
        "expectation": "expect_column_values_to_be_between",
        "column": "median_amount",
        "success": True,
        "observed": 54.995,
        "limit": "min_value: 10, max_value: 100",
        "message": "",
        "rows_checked": ROWS,
        "rows_read": ROWS,
        "severity": "stop",
        "segment": "",
    }
