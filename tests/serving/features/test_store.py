import math
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import ArtifactError, ConfigurationError
from schemas.features import (
    DAY,
    FEATURES,
    HOUR,
    LOOK_BACK,
    MONTH,
    OVER_LABEL_TIMES,
    WEEK,
    Feature,
    FeatureSpec,
    specify,
)
from schemas.transaction import COLUMN
from serving.features import MemoryTable, TableFeatureStore
from serving.features.encoding import decode
from serving.features.keys import AFTER, ENTITY, ENTITY_BYTES, STATE
from serving.features.table import Range, Table
from tests import oracle
from tests.components.features.logs import DAY_US, SECOND_US, log, logs
from tests.components.features.test_engine import EVERYTHING, UNUSUAL, assert_equal
from tests.serving.features.replays import events, in_order, replayed, table

MINUTE_US = 60 * SECOND_US
NewStore = Callable[..., TableFeatureStore]


def store_of(*features: Feature, lateness_s: int = 600) -> TableFeatureStore:
    return TableFeatureStore.in_memory(specify(COLUMN, features, ()), lateness_s)


def payment(number: int, event_time: int, **columns: Any) -> dict[str, Any]:
    plain = {"card_id": "c", "merchant_id": "m", "amount_minor": 1_000, "amount_base_minor": 1_000}
    return {"transaction_id": f"t{number}", "event_time": event_time, **plain, **columns}


def rows_of(memory: MemoryTable) -> int:
    with memory.transaction():
        return len(memory.read([Range(b"", b"\xff")])[0])


@settings(max_examples=100)
@given(logs())
def test_the_store_agrees_with_the_oracle_on_the_whole_declaration(transactions: pa.Table) -> None:
    transactions = in_order(transactions)
    store = TableFeatureStore.in_memory(EVERYTHING)
    assert_equal(replayed(store, transactions), oracle.features(transactions, EVERYTHING))


@settings(max_examples=60)
@given(logs())
def test_the_store_agrees_with_the_oracle_on_what_could_be_declared(transactions: pa.Table) -> None:
    transactions = in_order(transactions)
    store = TableFeatureStore.in_memory(UNUSUAL)
    assert_equal(replayed(store, transactions), oracle.features(transactions, UNUSUAL))


@settings(max_examples=15)
@given(transactions=logs(min_size=1))
def test_the_store_agrees_with_the_oracle_wherever_it_keeps_its_state(
    new_store: NewStore, transactions: pa.Table
) -> None:
    transactions = in_order(transactions)
    with closing(new_store(EVERYTHING)) as store:
        assert_equal(replayed(store, transactions), oracle.features(transactions, EVERYTHING))


@settings(max_examples=10)
@given(transactions=logs(max_size=10), delays_s=st.lists(st.integers(0, 7_200), min_size=10, max_size=10))
def test_late_ones_see_the_same_wherever_the_state_is(
    new_store: NewStore, transactions: pa.Table, delays_s: list[int]
) -> None:
    arrivals = zip(events(transactions), delays_s, strict=False)
    rows = [row for row, _ in sorted(arrivals, key=lambda each: each[0]["event_time"] + each[1] * SECOND_US)]
    with closing(new_store(EVERYTHING, 7_200)) as store:
        memory = TableFeatureStore.in_memory(EVERYTHING, 7_200)
        for row in [*rows, *rows[-2:]]:
            assert repr(store.observe(row)) == repr(memory.observe(row))
            if row["is_fraud"] is not None:
                for each in (store, memory):
                    each.label(row, row["is_fraud"], max(row["label_time"], row["event_time"]))


@pytest.mark.parametrize("spec", [EVERYTHING, UNUSUAL], ids=["declared", "unusual"])
@settings(max_examples=30)
@given(data=st.data(), transactions=logs(max_size=20), lateness_s=st.sampled_from([0, 600, 7_200, 86_400]))
def test_one_that_comes_late_sees_those_that_came_before_as_of_its_time(
    spec: FeatureSpec, data: st.DataObject, transactions: pa.Table, lateness_s: int
) -> None:
    rows = events(transactions)
    for row in rows:
        row |= {
            "is_fraud": None,
            "label_time": None,
            "arrival": row["event_time"] + data.draw(st.integers(0, lateness_s * SECOND_US)),
        }
    rows.sort(key=lambda row: row["arrival"])
    store = TableFeatureStore.in_memory(spec, lateness_s)
    for number, row in enumerate(rows):
        row.pop("arrival")
        came = log([*rows[: number + 1]])
        found = table(spec, came.slice(number), [store.observe(row)])
        assert_equal(found, oracle.features(came, spec).slice(number))


def test_a_transaction_that_comes_twice_changes_nothing_and_gets_the_same_answer(new_store: NewStore) -> None:
    store = new_store(specify(COLUMN, FEATURES, ()))
    store.observe(payment(0, 0))
    first = store.observe(payment(1, MINUTE_US, amount_base_minor=700))
    store.observe(payment(2, 30 * SECOND_US))
    again = store.observe(payment(1, MINUTE_US, amount_base_minor=700))
    assert repr(again) == repr(first)
    count = [feature.name for feature in FEATURES].index("card_id_count_1h")
    assert store.observe(payment(3, 2 * MINUTE_US)).numbers[count] == 3
    store.close()


def test_a_label_that_comes_twice_counts_once(new_store: NewStore) -> None:
    features = (Feature("merchant", "fraud_count", DAY), Feature("merchant", "fraud_rate", DAY))
    store = new_store(specify(COLUMN, features, ()))
    store.observe(payment(0, 0))
    for _ in range(2):
        store.label(payment(0, 0), True, MINUTE_US)
    store.label(payment(1, 0), False, MINUTE_US)
    assert store.observe(payment(2, 2 * MINUTE_US)).numbers == (1, 0.5)
    store.close()


def test_a_label_is_not_seen_at_the_moment_at_which_it_comes(new_store: NewStore) -> None:
    store = new_store(specify(COLUMN, (Feature("merchant", "fraud_count", WEEK),), ()))
    store.label(payment(0, 0), True, DAY_US)
    assert [store.observe(payment(n, DAY_US + n)).numbers for n in range(2)] == [(0,), (1,)]
    store.close()


def test_labels_of_either_kind_are_as_old_as_they_came(new_store: NewStore) -> None:
    features = tuple(Feature("merchant", aggregate, DAY) for aggregate in OVER_LABEL_TIMES)
    store = new_store(specify(COLUMN, features, ()))
    store.label(payment(0, 0), False, MINUTE_US)
    first, last, genuine = store.observe(payment(1, 2 * MINUTE_US)).numbers
    assert math.isnan(first) and math.isnan(last) and genuine == 60
    store.label(payment(1, 0), True, 3 * MINUTE_US)
    store.label(payment(2, 0), True, 4 * MINUTE_US)
    assert store.observe(payment(3, 5 * MINUTE_US)).numbers == (120, 60, 240)
    assert all(map(math.isnan, store.observe(payment(4, 2 * DAY_US)).numbers))
    store.close()


def test_a_transaction_without_the_key_has_no_features_and_leaves_none() -> None:
    store = store_of(Feature("device", "count", HOUR), Feature("device", "recent", column="city", k=2))
    found = store.observe(payment(0, 0))
    assert math.isnan(found.numbers[0])
    assert found.texts == ("", "")
    assert store.observe(payment(1, 1, device_id="d")).numbers == (0,)


def test_sums_and_deviations_of_huge_amounts_are_exact() -> None:
    store = store_of(*(Feature("card", a, MONTH, "amount_base_minor") for a in ("sum", "std")))
    for number in range(3):
        store.observe(payment(number, number, amount_base_minor=2**62 + number))
    total, deviation = store.observe(payment(3, 3)).numbers
    assert total == float(3 * 2**62 + 3)
    assert deviation == pytest.approx((2 / 3) ** 0.5, rel=1e-12)


def test_the_model_gets_float32_with_missing_kept_and_nothing_infinite() -> None:
    store = TableFeatureStore.in_memory(specify(COLUMN, (Feature("card", "last", column="latitude"),), ()))
    assert math.isnan(store.observe(payment(0, 0, latitude=1e300)).numeric()[0])
    row = store.observe(payment(1, 1)).numeric()
    assert (row.dtype, math.isinf(row[0]), row[0] > 1e38) == ("float32", False, True)


def test_the_state_of_a_busy_key_stays_bounded() -> None:
    memory = MemoryTable()
    lateness_s = 120
    store = TableFeatureStore(memory, EVERYTHING, lateness_s)
    sizes = []
    every_us = 10 * SECOND_US
    for number in range(3 * 360):
        # One key for all kinds, so that nothing but time can add rows; many values, so that sets reach their caps.
        columns = {"device_id": "d", "merchant_category": f"v{number % 40}", "city": f"v{number % 30}"}
        label = payment(number, number * every_us, **columns)
        store.observe(label)
        store.label(label, number % 7 == 0, number * every_us)
        sizes.append(rows_of(memory))
    # Windows of an hour are full after one; the tiles of hours and days grow by one in an hour or a day from there.
    assert max(sizes[2 * 360 :]) - max(sizes[: 2 * 360]) < 20


def test_a_key_keeps_as_many_tiles_as_its_windows_and_the_lateness_span() -> None:
    memory = MemoryTable()
    store = TableFeatureStore(memory, specify(COLUMN, tuple(f for f in FEATURES if f.key == "card")))
    for minute in range(8 * 1_440 + 180):
        # A sparse week, so that hours fill up, and then busy hours.
        if minute % 60 == 59 or minute > 8 * 1_440:
            store.observe(payment(minute, minute * MINUTE_US))
    with memory.transaction():
        rows = memory.read([Range(ENTITY, ENTITY + AFTER)])[0]
    # The minutes, the hours and the days of events, each without the open one.
    closed = {key[-1]: decode(value) for key, value in rows if key[ENTITY_BYTES:-1] == STATE + b"e" and key[-1]}
    assert [len(closed[level][0]) for level in (1, 2)] == [70, 169]
    assert all(len(column) == len(columns[0]) for columns in closed.values() for column in columns)
    sets = [column for column in closed[2] if isinstance(column[0], list)]
    # Those of cities are asked for over a day; hours before that are there for the week of others.
    assert min(sum(map(bool, column)) for column in sets) == 0
    assert {len([one for one in column if one]) for column in sets} <= {0, 25, 169}


def test_a_key_forgets_what_has_left_its_windows() -> None:
    memory = MemoryTable()
    store = TableFeatureStore(memory, EVERYTHING)

    def month(number: int) -> int:
        for day in range(32):
            for hour in range(0, 24, 6):
                at = ((number * 32 + day) * 24 + hour) * 3_600 * SECOND_US
                columns = {"device_id": "d", "city": f"city {number} {day}"}
                event = payment(at // SECOND_US, at, **columns)
                store.observe(event)
                store.label(event, False, at)
        return rows_of(memory)

    sizes = [month(number) for number in range(4)]
    assert sizes[1] >= sizes[2] == sizes[3]


def test_a_key_that_comes_no_more_is_forgotten_by_others() -> None:
    memory = MemoryTable()
    scalars = tuple(f for f in FEATURES if f.key in ("card", "merchant") and not f.is_vector)
    store = TableFeatureStore(memory, specify(COLUMN, scalars))
    labelled = payment(0, 0, card_id="labelled late")
    store.observe(labelled)
    for number in range(1, 60):
        store.observe(payment(number, number, card_id=f"gone {number}", merchant_id=f"m{number}"))
    store.label(labelled, True, 31 * DAY_US)
    later = 32 * DAY_US + 2 * 3_600 * SECOND_US
    for number in range(1_500):
        store.observe(payment(1_000 + number, later + number * SECOND_US, card_id="still there"))
    with memory.transaction():
        entities = {key[:ENTITY_BYTES] for key, _ in memory.read([Range(ENTITY, ENTITY + AFTER)])[0]}
    # The card and the merchant that come, the card whose label is still asked for, and a few that were not come upon.
    assert 3 <= len(entities) < 10
    probe = payment(5_000, later + DAY_US, card_id="labelled late")
    names = [i.name for i in store.spec.numeric]
    assert store.observe(probe).numbers[names.index("card_id_fraud_count_30d")] == 1


def test_answers_are_forgotten_when_they_have_run_out(new_table: Callable[[], Table]) -> None:
    table = new_table()
    store = TableFeatureStore(table, specify(COLUMN, (), ()), lateness_s=60)
    sizes = []
    for number in range(50):
        store.observe(payment(number, number * 30 * SECOND_US))
        with table.transaction():
            sizes.append(len(table.read([Range(b"", b"\xff")])[0]))
    assert max(sizes) == sizes[-1] == sizes[10]
    store.close()


@settings(max_examples=30)
@given(logs(), st.integers(1, 7))
def test_transactions_observed_together_get_what_they_get_one_by_one(transactions: pa.Table, size: int) -> None:
    arriving = events(in_order(transactions))
    arriving += arriving[:3]  # what comes twice gets the same answer in a batch, too
    together, alone = TableFeatureStore.in_memory(EVERYTHING), TableFeatureStore.in_memory(EVERYTHING)
    batches = [arriving[begin : begin + size] for begin in range(0, len(arriving), size)]
    found = [features for batch in batches for features in together.observe_all(batch)]
    assert repr(found) == repr([alone.observe(transaction) for transaction in arriving])  # NaN equals itself there


@settings(max_examples=10)
@given(logs(), st.integers(1, 7))
def test_transactions_observed_together_see_each_other_wherever_the_state_is(
    new_store: NewStore, transactions: pa.Table, size: int
) -> None:
    arriving = events(in_order(transactions))
    alone = TableFeatureStore.in_memory(EVERYTHING)
    # Answers are kept for the allowed lateness; how soon after it they are deleted is each table's own affair.
    kept_us = max((row["event_time"] for row in arriving), default=0) - alone.lateness_us
    arriving += [again for again in arriving[-3:] if again["event_time"] >= kept_us]
    with closing(new_store(EVERYTHING)) as together:
        batches = [arriving[begin : begin + size] for begin in range(0, len(arriving), size)]
        found = [features for batch in batches for features in together.observe_all(batch)]
    assert repr(found) == repr([alone.observe(transaction) for transaction in arriving])


def test_transactions_observed_together_are_in_the_store_or_none_is(new_table: Callable[[], Table]) -> None:
    table = new_table()
    store = TableFeatureStore(table, EVERYTHING)
    store.observe(payment(0, 0, device_id="d"))
    with table.transaction():
        before = table.read([Range(b"", b"\xff")])
    with pytest.raises(KeyError):
        store.observe_all([payment(1, SECOND_US, device_id="d"), {"transaction_id": "t2"}])
    with table.transaction():
        assert table.read([Range(b"", b"\xff")]) == before
    store.close()


def test_a_file_with_the_state_of_other_features_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    TableFeatureStore.embedded(path, EVERYTHING).close()
    TableFeatureStore.embedded(path, EVERYTHING).close()
    with pytest.raises(ArtifactError, match="load a new store"):
        TableFeatureStore.embedded(path, UNUSUAL)


@pytest.mark.parametrize("lateness_s", [-1, LOOK_BACK.length_s])
def test_a_lateness_beyond_what_is_kept_is_refused(lateness_s: int) -> None:
    with pytest.raises(ConfigurationError, match=str(lateness_s)):
        TableFeatureStore.in_memory(EVERYTHING, lateness_s)
