import json
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from components.expectations import check, load_suite, log_aggregates, parse_suite, reasons
from schemas.errors import ConfigurationError
from schemas.features import specify
from schemas.sources import known, load
from schemas.transaction import SECOND_US

ROWS = 600
SIMULATED = load("simulated")
START_US = int(datetime(2024, 3, 1, tzinfo=UTC).timestamp()) * SECOND_US
MINUTE_US = 60 * SECOND_US


def log(mapping=SIMULATED, **changed):
    """A plausible log, a minute between payments; amounts lie evenly around the middle of the mapping's own band."""
    low, high = mapping.expected_median_amount
    times = START_US + np.arange(ROWS) * MINUTE_US
    amounts = pa.array(np.linspace(100, 100 * (low + high) - 100, ROWS).round().astype(np.int64))
    columns = {
        "transaction_id": pa.array([f"t{row}" for row in range(ROWS)]),
        "event_time": pa.array(times, pa.timestamp("us", "UTC")),
        "card_id": pa.array([f"c{row % 20}" for row in range(ROWS)]),
        "merchant_id": pa.array([f"m{row % 30}" for row in range(ROWS)]),
        "amount_minor": amounts,
        "amount_base_minor": amounts,
        "currency": pa.array([mapping.base_currency] * ROWS),
        "latitude": pa.array([None, 48.2] * (ROWS // 2)),
        "longitude": pa.array([None, 16.4] * (ROWS // 2)),
        "country": pa.array([None, "AT"] * (ROWS // 2)),
        "merchant_category": pa.array(["food"] * ROWS),
        "is_fraud": pa.array([row % 100 == 0 for row in range(ROWS)]),
        "label_time": pa.array(times + mapping.label_delay_s * SECOND_US, pa.timestamp("us", "UTC")),
    }
    return pa.table({name: column for name, column in (columns | changed).items() if name in mapping.provided})


def changed_at(table, name, row, value):
    values = table[name].to_pylist()
    values[row] = value
    return table.set_column(table.column_names.index(name), name, pa.array(values, table[name].type))


def failures(transactions, features=None, mapping=SIMULATED, **settings):
    return {r.subject: r for r in reasons(check(transactions, features, mapping, **settings))}


def features(mapping=SIMULATED, **changed):
    """Feature rows without history: counts are 0, all else is missing, except what is given."""
    spec = specify(mapping.provided)
    plain = {i.name: 0.0 if "count" in i.name or "distinct" in i.name else np.nan for i in spec.numeric if i.width == 1}
    return pa.table({name: np.full(ROWS, value) for name, value in (plain | changed).items()})


@pytest.mark.parametrize("source", known())
def test_a_plausible_log_of_any_shipped_source_passes(source):
    mapping = load(source)
    report = check(log(mapping), features(mapping), mapping)
    assert [result for result in report.results if not result.success] == []
    assert {result.suite for result in report.results} == {"transactions", "features"}


@pytest.mark.parametrize("source", known())
def test_no_log_passes_both_before_and_after_its_amounts_are_taken_times_a_hundred(source):
    mapping = load(source)
    low, high = mapping.expected_median_amount
    assert high / low < 100
    hundredfold = pa.array(log(mapping)["amount_base_minor"].to_numpy() * 100)
    assert "median_amount" in failures(log(mapping, amount_base_minor=hundredfold), mapping=mapping)


def test_a_median_outside_its_band_stops_with_a_message_for_people():
    mapping = load("handbook")
    in_cents = log(mapping, amount_base_minor=pa.array(np.full(ROWS, 446_400)))
    reason = failures(in_cents, mapping=mapping)["median_amount"]
    assert reason.severity == "stop" and reason.observed == 4464.0
    assert reason.message == (
        "median amount 4464 EUR is outside [20, 100] that mapping handbook expects: are amounts in another unit?"
    )


def test_each_bad_value_stops_and_is_named():
    faults = {
        "duplicate_transaction_ids": ("transaction_id", "t8"),
        "missing_required_values": ("merchant_id", None),
        "labels_without_time": ("label_time", None),
        "amount_base_minor": ("amount_base_minor", -1),
        "currency": ("currency", "CHF"),
        "latitude": ("latitude", 90.5),
        "longitude": ("longitude", -180.5),
        "country": ("country", "Austria"),
    }
    table = log()
    for column, value in faults.values():
        table = changed_at(table, column, 7, value)
    found = failures(table)
    assert found.keys() == faults.keys()
    assert {reason.severity for reason in found.values()} == {"stop"}
    assert not [reason.message for reason in found.values() if "$" in reason.message]


def test_impossible_times_stop_and_are_named():
    table = changed_at(log(), "event_time", 0, datetime(1970, 1, 20, tzinfo=UTC))
    table = changed_at(table, "event_time", -1, datetime(2286, 1, 1, tzinfo=UTC))
    found = failures(table)
    # The late event also comes after its own label.
    assert found.keys() == {"first_event_time", "last_event_time", "label_time"}
    assert "1970-01-20T00:00:00+00:00" in found["first_event_time"].message


def test_a_label_known_before_its_transaction_stops():
    reason = failures(changed_at(log(), "label_time", 7, datetime(2024, 2, 1, tzinfo=UTC)))["label_time"]
    assert "1 of 600 rows checked, such as 2024-02-01T00:00:00 against 2024-03-01T00:07:00" in reason.message


def test_a_failing_row_is_shown():
    reason = failures(changed_at(log(), "amount_base_minor", 7, -1))["amount_base_minor"]
    assert reason.observed == "1 of 600 rows checked, such as -1"
    assert reason.message.endswith("[0, 10000000] minor units of EUR: 1 of 600 rows checked, such as -1")


@pytest.mark.parametrize("frauds", [0, ROWS // 10])
def test_a_fraud_share_outside_the_mappings_band_stops(frauds):
    assert failures(log(is_fraud=pa.array([row < frauds for row in range(ROWS)]))).keys() == {"fraud_share"}


def test_the_fraud_share_counts_labelled_rows_only():
    labels = [row == 0 if row < 100 else None for row in range(ROWS)]
    table = log(is_fraud=pa.array(labels))
    assert log_aggregates(table, SIMULATED)["fraud_share"] == 0.01
    assert log_aggregates(table, SIMULATED)["labelled_rows"] == 100


def test_a_log_without_any_label_stops():
    unlabelled = log(is_fraud=pa.nulls(ROWS, pa.bool_()), label_time=pa.nulls(ROWS, pa.timestamp("us", "UTC")))
    assert failures(unlabelled).keys() == {"labelled_rows"}


def test_an_empty_log_stops_and_does_not_raise():
    assert failures(log().slice(0, 0)).keys() == {"rows", "labelled_rows"}


def test_a_column_that_the_mapping_promises_and_the_table_lacks_stops():
    reason = failures(log().drop_columns(["latitude"]))["latitude"]
    assert reason.severity == "stop" and "could not be evaluated" in reason.message


def test_single_rows_are_sampled_systematically_and_aggregates_are_not():
    table = changed_at(log(), "amount_base_minor", 1, -1)
    table = changed_at(table, "transaction_id", 1, "t2")
    report = check(table, features(card_id_count_1h=1.0), SIMULATED, sample_rows=250)
    checked = {(result.column, result.rows_checked, result.rows_read) for result in report.results}
    # Every third of 600 rows: 0, 3, 6, ...; row 1 is not among them.
    assert {("amount_base_minor", 200, ROWS), ("card_id_count_24h", 200, ROWS)} <= checked
    assert ("duplicate_transaction_ids", ROWS, ROWS) in checked
    failed = {result.column for result in report.results if not result.success}
    assert failed == {"duplicate_transaction_ids", "card_id_count_24h"}


def test_the_sample_must_hold_a_row():
    with pytest.raises(ConfigurationError, match="sample_rows is 0"):
        check(log(), None, SIMULATED, sample_rows=0)


def test_a_feature_that_contradicts_another_stops():
    amount = "card_id_amount_base_minor"
    contradictory = features(
        **{"card_id_count_24h": 2.0, "card_id_night_count_30d": 1.0, "merchant_id_card_id_distinct_24h": 3.0},
        **{f"{amount}_mean_24h": 9.0, f"{amount}_max_24h": 8.0, "merchant_id_fraud_rate_7d": 1.01},
    )
    found = failures(log(), contradictory)
    assert found.keys() == {
        "card_id_count_7d",
        "card_id_count_30d",
        "merchant_id_count_24h",
        f"{amount}_max_24h",
        "merchant_id_fraud_rate_7d",
    }
    assert all("600 of 600 rows checked" in reason.message for reason in found.values())
    assert f"{amount}_mean_24h" in str(found[f"{amount}_max_24h"].limit)


def test_a_missing_feature_contradicts_nothing():
    assert failures(log(), features(card_id_amount_base_minor_sum_24h=5.0)) == {}


def test_the_suites_name_declared_features_only():
    declared = {i.name for i in specify(SIMULATED.provided).inputs}
    suite = load_suite("features", SIMULATED)
    assert {column for expectation in suite.rows for column in expectation.columns} <= declared


def test_placeholders_are_filled_from_the_mapping():
    entry = "{type: t, column: rows, max_value: $amount_limit_minor, regex: '^a$$', message: '$observed of $source'}"
    (expectation,) = parse_suite(f"{{suite: s, log: [{entry}]}}", SIMULATED, "s.yaml").log
    assert expectation.arguments == {"column": "rows", "max_value": 10_000_000, "regex": "^a$"}
    assert expectation.message == "$observed of simulated"


@pytest.mark.parametrize(
    ("entry", "named"),
    [
        ("{type: t, column: rows}", "message"),
        ("{column: rows, message: m}", "type"),
        ("{type: t, column: rows, max_value: $limit, message: m}", "limit"),
        ("{type: t, column: rows, message: more than $limit}", "limit"),
        ("{type: t, column: mean_amount, message: m}", "mean_amount"),
    ],
)
def test_a_malformed_suite_is_an_error_that_names_the_file_and_the_word(entry, named):
    with pytest.raises(ConfigurationError, match=rf"s\.yaml: '{named}'"):
        parse_suite(f"{{suite: s, log: [{entry}]}}", SIMULATED, "s.yaml")


def test_the_report_is_json_with_rows_read_and_checked():
    raw = json.loads(check(log(), None, SIMULATED).to_json())
    median = next(result for result in raw["results"] if result["column"] == "median_amount")
    assert median == {
        "suite": "transactions",
        "expectation": "expect_column_values_to_be_between",
        "column": "median_amount",
        "success": True,
        "observed": pytest.approx(55.0),
        "limit": "min_value: 10, max_value: 100",
        "message": "",
        "rows_checked": ROWS,
        "rows_read": ROWS,
    }


def test_great_expectations_leaves_nothing_behind_and_shows_no_progress(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    check(log(), None, SIMULATED)
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")
