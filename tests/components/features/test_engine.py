from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings

from components.features.compare import compare
from components.features.engine import compute_features
from schemas.errors import LogColumnsError, LogError
from schemas.features import (
    DAY,
    HOUR,
    MONTH,
    NIGHT,
    PROBE,
    WEEK,
    Feature,
    Filter,
    RowInput,
    specify,
)
from schemas.transaction import COLUMN
from tests import oracle
from tests.components.features.logs import DAY_US, SECOND_US, log, logs

HOUR_US = 3_600 * SECOND_US
EVERYTHING = specify(COLUMN)
# What the declaration could ask for and does not: every aggregate over every kind of column it takes, with filters.
UNUSUAL = specify(
    COLUMN,
    (
        *(
            Feature("card_merchant", aggregate, window, "amount_minor", where)
            for aggregate in ("sum", "mean", "std", "min", "max")
            for window in (HOUR, MONTH)
            for where in (PROBE, NIGHT, Filter("large", "amount_minor", ">=", 501))
        ),
        Feature("card", "count", DAY, where=Filter("small", "amount_minor", "<", 501)),
        Feature("card", "distinct", DAY, "city", PROBE, cap=1),
        Feature("device", "distinct", MONTH, "amount_minor", cap=2),
        Feature("merchant", "distinct", WEEK, "event_time", cap=3),
        *(
            Feature("merchant", "last", column=column)
            for column in ("event_time", "latitude", "card_id", "transaction_id")
        ),
        *(Feature("device", "recent", column=column, k=3) for column in ("latitude", "city", "event_time")),
        *(Feature("device", aggregate, k=2) for aggregate in ("recent_seconds_between", "recent_distance_km_between")),
        Feature("card", "first_seen", column="amount_minor"),
        Feature("device", "speed_km_per_h_since_last"),
        Feature("card_merchant", "fraud_rate", HOUR),
        Feature("merchant", "seconds_since_first_fraud", HOUR),
        Feature("device", "seconds_since_first_fraud", WEEK),
        Feature("card_merchant", "seconds_since_last_fraud", DAY),
        Feature("device", "seconds_since_last_genuine", HOUR),
    ),
    tuple(RowInput(column) for column in ("card_id", "latitude", "city", "second_of_day", "amount_minor")),
)


def feature(declared: Feature, rows: list[dict[str, Any]]) -> list[Any]:
    return compute_features(log(rows), specify(COLUMN, (declared,), ()))[declared.name].to_pylist()


def assert_equal(computed: pa.Table, expected: pa.Table) -> None:
    assert computed.schema == expected.schema
    assert computed["transaction_id"].equals(expected["transaction_id"])
    difference = compare(computed, expected)
    assert difference.agree or not computed.num_rows, difference


@settings(max_examples=150, deadline=None)
@given(logs())
def test_the_engine_agrees_with_the_oracle_on_the_whole_declaration(transactions: pa.Table) -> None:
    assert_equal(compute_features(transactions, EVERYTHING), oracle.features(transactions, EVERYTHING))


@settings(max_examples=75, deadline=None)
@given(logs())
def test_the_engine_agrees_with_the_oracle_on_what_could_be_declared(transactions: pa.Table) -> None:
    assert_equal(compute_features(transactions, UNUSUAL), oracle.features(transactions, UNUSUAL))


def test_a_window_never_holds_the_transaction_itself_nor_another_with_its_time() -> None:
    rows = [{"event_time": 0}, {"event_time": 5}, {"event_time": 5}, {"event_time": 6}]
    assert feature(Feature("card", "count", HOUR), rows) == [0, 1, 1, 3]


@pytest.mark.parametrize(("event_time", "held"), [(-1, 0), (0, 1), (1, 1)])
def test_the_tail_of_a_window_moves_in_hops(event_time: int, held: int) -> None:
    # 24 h before 01:59:59.999999 of the next day is inside the hour that began 24 h before 01:00, which stays whole.
    now = DAY_US + 2 * HOUR_US - 1
    rows = [{"event_time": HOUR_US + event_time}, {"event_time": now}, {"event_time": now + 1}]
    assert feature(Feature("card", "count", DAY), rows)[1:] == [held, 1]


def test_hops_before_1970_count_downwards() -> None:
    now = 27 * DAY_US + DAY_US // 2
    rows = [{"event_time": -3 * DAY_US - 1}, {"event_time": -3 * DAY_US}, {"event_time": now}]
    assert feature(Feature("card", "count", MONTH), rows) == [0, 1, 1]


def test_the_last_of_several_events_at_one_time_is_the_one_with_the_largest_id_in_bytes() -> None:
    rows = [
        {"transaction_id": "\ue000", "amount_base_minor": 1},
        # As UTF-16 this would come before U+E000.
        {"transaction_id": "\U00010000", "amount_base_minor": 2},
        {"transaction_id": "z", "amount_base_minor": 3},
        {"transaction_id": "a", "amount_base_minor": 4, "event_time": 1},
    ]
    assert feature(Feature("card", "last", column="amount_base_minor"), rows)[3] == 2
    assert feature(Feature("card", "recent", column="amount_base_minor", k=3), rows)[3] == [2, 1, 3]


def test_a_label_counts_from_the_moment_after_it_became_known() -> None:
    rows: list[dict[str, Any]] = [
        {"event_time": 0, "is_fraud": True, "label_time": DAY_US},
        {"event_time": 1, "is_fraud": False, "label_time": DAY_US + 1},
        {"event_time": 2, "is_fraud": None},
        *({"event_time": DAY_US + moment} for moment in range(3)),
    ]
    assert feature(Feature("merchant", "fraud_count", WEEK), rows)[3:] == [0, 1, 1]
    assert feature(Feature("merchant", "fraud_rate", WEEK), rows)[4:] == [1, 0.5]
    assert np.isnan(feature(Feature("merchant", "fraud_rate", WEEK), rows)[:4]).all()


def test_an_attack_is_as_old_as_the_first_label_of_fraud_in_the_window() -> None:
    rows: list[dict[str, Any]] = [
        {"event_time": 0, "is_fraud": False, "label_time": HOUR_US},
        {"event_time": 1, "is_fraud": True, "label_time": 2 * HOUR_US},
        {"event_time": 2, "is_fraud": True, "label_time": 26 * HOUR_US},
        *({"event_time": 2 * HOUR_US + after_us} for after_us in (0, 1_500_000, 26 * HOUR_US, 7 * 24 * HOUR_US)),
    ]
    in_week = feature(Feature("merchant", "seconds_since_first_fraud", WEEK), rows)
    # The hop of an hour begins with the first label, which is in the window for as long.
    assert np.isnan(in_week[:4]).all() and in_week[4:] == [1.5, 26 * 3_600, 7 * 24 * 3_600]
    in_day = feature(Feature("merchant", "seconds_since_first_fraud", DAY), rows)
    assert np.isnan([*in_day[:4], in_day[6]]).all() and in_day[4:6] == [1.5, 2 * 3_600]


def test_the_last_label_of_either_kind_says_whether_an_attack_goes_on() -> None:
    rows: list[dict[str, Any]] = [
        {"event_time": 0, "is_fraud": True, "label_time": HOUR_US},
        {"event_time": 1, "is_fraud": True, "label_time": 2 * HOUR_US},
        {"event_time": 2, "is_fraud": False, "label_time": 3 * HOUR_US},
        *({"event_time": hours * HOUR_US} for hours in (2, 3, 4)),
    ]
    fraud = feature(Feature("merchant", "seconds_since_last_fraud", WEEK), rows)
    assert np.isnan(fraud[:3]).all() and fraud[3:] == [3_600, 3_600, 7_200]
    genuine = feature(Feature("merchant", "seconds_since_last_genuine", WEEK), rows)
    assert np.isnan(genuine[:5]).all() and genuine[5:] == [3_600]


def test_a_transaction_without_the_key_has_no_feature_and_feeds_none() -> None:
    rows: list[dict[str, Any]] = [{"event_time": 0}, {"event_time": 1}, {"event_time": 2, "device_id": "d"}]
    counts = feature(Feature("device", "count", HOUR), rows)
    assert np.isnan(counts[:2]).all()
    assert counts[2] == 0


def test_events_older_than_the_look_back_are_forgotten() -> None:
    rows: list[dict[str, Any]] = [{"event_time": 0, "city": "Beijing"}, {"event_time": 31 * DAY_US, "city": "Beijing"}]
    assert feature(Feature("card", "first_seen", column="city"), rows) == [1, 1]
    assert feature(Feature("card", "last", column="city"), rows) == ["", ""]
    rows[1]["event_time"] -= 1
    assert feature(Feature("card", "first_seen", column="city"), rows) == [1, 0]


def test_distinct_stops_at_its_cap() -> None:
    rows = [{"event_time": minute, "merchant_id": f"m{minute}"} for minute in range(6)]
    assert feature(Feature("card", "distinct", HOUR, "merchant_id", cap=3), rows) == [0, 1, 2, 3, 3, 3]


def test_beijing_to_shenzhen_in_ten_minutes_is_faster_than_any_plane() -> None:
    rows = [
        {"event_time": 0, "latitude": 39.9042, "longitude": 116.4074},
        {"event_time": 600 * SECOND_US, "latitude": 22.5431, "longitude": 114.0579},
    ]
    assert feature(Feature("card", "distance_km_since_last"), rows)[1] == pytest.approx(1_943, abs=5)
    assert feature(Feature("card", "speed_km_per_h_since_last"), rows)[1] == pytest.approx(11_658, abs=30)


def test_deviations_of_large_amounts_lose_nothing_to_cancellation() -> None:
    amounts = [10**12 - 1, 10**12, 10**12 + 1]
    rows = [{"event_time": number, "amount_base_minor": amount} for number, amount in enumerate([*amounts, 0])]
    deviation = feature(Feature("card", "std", MONTH, "amount_base_minor"), rows)[3]
    assert deviation == pytest.approx((2 / 3) ** 0.5, rel=1e-12)


def test_a_sum_that_might_not_fit_is_refused() -> None:
    rows = [{"event_time": number, "amount_base_minor": 2**62} for number in range(4)]
    with pytest.raises(LogError, match="63 bits"):
        feature(Feature("card", "sum", HOUR, "amount_base_minor"), rows)


def test_a_log_may_sum_to_more_than_63_bits_when_its_windows_do_not() -> None:
    times = [hour * 2 * HOUR_US + beside for hour in range(4) for beside in (0, 1)]
    rows = [{"event_time": time, "amount_base_minor": 2**62} for time in times]
    assert feature(Feature("card", "sum", HOUR, "amount_base_minor"), rows)[1::2] == [2**62] * 4
    assert feature(Feature("card", "std", HOUR, "amount_base_minor"), rows)[1::2] == [0] * 4


def test_a_table_without_a_needed_column_is_refused_by_name() -> None:
    with pytest.raises(LogColumnsError, match="device_id"):
        compute_features(log([{}]).drop_columns(["device_id"]), EVERYTHING)


@pytest.mark.parametrize("column", ["transaction_id", "event_time"])
def test_a_transaction_without_id_or_time_is_refused(column: str) -> None:
    with pytest.raises(LogError, match=column):
        compute_features(log([{column: None}]), EVERYTHING)


def test_one_key_with_nearly_all_traffic_agrees_with_the_oracle() -> None:
    random = np.random.default_rng(7)
    rows = [
        {
            "event_time": int(random.integers(0, 3 * DAY_US)),
            "card_id": "busy" if number % 20 else f"c{number}",
            "merchant_id": f"m{random.integers(80)}",
            "amount_base_minor": int(random.integers(0, 10_000)),
            "city": random.choice(["Beijing", "Shenzhen", "Wuhan"]),
            "is_fraud": bool(random.random() < 0.1),
            "label_time": 4 * DAY_US,
        }
        for number in range(180)
    ]
    assert_equal(compute_features(log(rows), EVERYTHING), oracle.features(log(rows), EVERYTHING))
