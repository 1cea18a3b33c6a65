"""Labels of a log that become known after its load: once each, in order, and seen by what follows."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import ConfigurationError
from schemas.features import MONTH, Feature, FeatureSpec, specify
from schemas.transaction import COLUMN
from serving.features import MemoryTable, TableFeatureStore
from serving.features.keys import LABELLED
from serving.features.labelled import Labelled, extended, pack, unpack
from serving.features.loading import load
from serving.features.replay import arrivals
from serving.features.table import Range, Table
from tests import oracle
from tests.components.features.logs import DAY_US, SECOND_US, logs
from tests.components.features.test_engine import EVERYTHING, assert_equal
from tests.serving.features.replays import events, in_order, table
from tests.serving.features.test_loading import Rows, columns, content

COUNTS: FeatureSpec = specify(
    COLUMN, (Feature("merchant", "fraud_count", MONTH), Feature("merchant", "fraud_rate", MONTH)), ()
)
NOW_US = 10**15


def transaction(name: str, seconds: int, **more: Any) -> dict[str, Any]:
    return {"transaction_id": name, "event_time": seconds * SECOND_US, "card_id": "c", "merchant_id": "m", **more}


def seen(store: TableFeatureStore, seconds: int) -> tuple[float, ...]:
    """Frauds, and their share of the labels, as a transaction sees them that leaves no label."""
    return store.observe(transaction(f"at {seconds}", seconds)).numbers


def later(*names: str, seconds: int = 100) -> list[tuple[dict[str, Any], bool, int]]:
    return [(transaction(name, 0), True, seconds * SECOND_US) for name in names]


def one_loaded(new_table: Callable[[], Table] = MemoryTable) -> tuple[Table, TableFeatureStore]:
    """A store that was loaded from one transaction at 0, without a label."""
    of_store = new_table()
    store = TableFeatureStore(of_store, COUNTS)
    load(store, columns([transaction("a", 0, is_fraud=None, label_time=None)]))
    return of_store, store


def place(seconds: int, name: str) -> tuple[int, str]:
    return seconds * SECOND_US, name


def test_a_label_counts_once_however_often_its_step_comes(new_table: Callable[[], Table]) -> None:
    _, store = one_loaded(new_table)
    for expected in (2, 0):
        assert store.label_all(later("a", "b"), place(100, "b"), NOW_US, lambda: NOW_US + 5) == expected
    assert seen(store, 200) == (2, 1)
    assert store.labelled() == [Labelled((1, ""), 0, 0), Labelled(place(100, "b"), NOW_US, NOW_US + 5)]
    assert store.label_all(later("b", "c"), place(100, "c"), NOW_US + 7, lambda: NOW_US + 8) == 1
    assert seen(store, 300) == (3, 1)
    assert store.labelled()[2:] == [Labelled(place(100, "c"), NOW_US + 7, NOW_US + 8)]
    assert store.label_all(later("a", seconds=99), place(99, "z"), NOW_US + 9, lambda: NOW_US) == 0


def test_steps_of_one_run_are_noted_as_one(new_table: Callable[[], Table]) -> None:
    _, store = one_loaded(new_table)
    clock = count(NOW_US + 1)
    for name in ("a", "b", "c"):
        store.label_all(later(name), place(100, name), NOW_US, lambda: next(clock))
    assert store.labelled()[1:] == [Labelled(place(100, "c"), NOW_US, NOW_US + 3)]


def test_labels_that_are_left_out_are_passed_by_all_the_same() -> None:
    _, store = one_loaded()
    assert store.label_all([], place(100, "b"), NOW_US, lambda: NOW_US) == 0
    assert store.label_all(later("a", "b"), place(100, "b"), NOW_US + 1, lambda: NOW_US) == 0


def test_a_step_that_fails_leaves_neither_labels_nor_a_note(new_table: Callable[[], Table]) -> None:
    of_store, store = one_loaded(new_table)
    before = content(of_store)

    def clock() -> int:
        raise OSError("no clock")

    with pytest.raises(OSError, match="no clock"):
        store.label_all(later("a", "b"), place(100, "b"), NOW_US, clock)
    assert content(of_store) == before


def test_a_store_that_was_not_loaded_takes_no_labels_of_logs(new_table: Callable[[], Table]) -> None:
    store = TableFeatureStore(new_table(), COUNTS)
    seen(store, 0)
    assert store.labelled() == []
    with pytest.raises(ConfigurationError, match="fraudops features load"):
        store.label_all(later("a"), place(100, "a"), NOW_US, lambda: NOW_US)


def test_what_is_noted_reads_back_and_lies_in_a_row_of_its_own() -> None:
    runs = [Labelled((-5, "é"), 0, 0), Labelled((7, "z"), 1, 2)]
    assert unpack(pack(runs)) == runs
    assert extended(runs, Labelled((9, "b"), 1, 4)) == [runs[0], Labelled((9, "b"), 1, 4)]
    assert extended(runs, Labelled((9, "b"), 3, 4)) == [*runs, Labelled((9, "b"), 3, 4)]
    of_store, _ = one_loaded()
    with of_store.transaction():
        [rows] = of_store.read([Range(LABELLED, LABELLED + b"\xff")])
    assert [key for key, _ in rows] == [LABELLED]


def test_a_label_counts_that_is_weeks_older_than_the_newest_of_its_merchant() -> None:
    _, store = one_loaded()
    day_s = DAY_US // SECOND_US
    for number in range(40):  # so many that single ones are forgotten
        store.label(transaction(f"n{number}", 0), False, 25 * DAY_US + number * SECOND_US)
    for day, name in ((20, "b"), (1, "a")):
        [label] = later(name, seconds=day * day_s)
        store.label(*label)
    assert seen(store, 26 * day_s) == (2, 2 / 42)
    # The older one has left the month; the other is still in it.
    assert seen(store, 33 * day_s) == (1, 1 / 41)


@pytest.mark.parametrize("lateness_s", [0, 600, 86_400])
@settings(max_examples=60)
@given(data=st.data(), transactions=logs(min_size=3))
def test_what_follows_sees_the_labels_as_batch_does_that_knows_them(
    lateness_s: int, data: st.DataObject, transactions: pa.Table
) -> None:
    """The load, then transactions with their labels in time, then those of the load; all that follows is held."""
    ordered = in_order(transactions)
    rows = events(ordered)
    cut = data.draw(st.integers(1, len(rows) - 1))
    again = data.draw(st.integers(cut, len(rows)))
    log, between, following = rows[:cut], rows[cut:again], rows[again:]
    store = TableFeatureStore.in_memory(EVERYTHING, lateness_s)
    load(store, columns(log))
    ended_us = log[-1]["event_time"]
    for arrival in arrivals(between):
        if arrival.is_label:
            store.label(arrival.transaction, arrival.transaction["is_fraud"], arrival.time_us)
        else:
            store.observe(arrival.transaction)
    until_us = rows[again - 1]["event_time"]
    steps = known(log, ended_us, until_us)
    for number, label in enumerate(steps):
        assert store.label_all([label], (label[2], label[0]["transaction_id"]), NOW_US + number, lambda: NOW_US) == 1
    # Of what they were told, those that follow see all; their own labels and what becomes known later never come.
    told = {id_ for id_, _ in labelled_by(rows[:again], until_us)}
    truth = ordered.to_pylist()
    for row in truth:
        if row["transaction_id"] not in told:
            row["is_fraud"] = row["label_time"] = None
    expected = oracle.features(pa.Table.from_pylist(truth, ordered.schema), EVERYTHING).slice(again)
    assert_equal(table(EVERYTHING, ordered.slice(again), map(store.observe, following)), expected)


def known(rows: Rows, after_us: int, until_us: int) -> list[tuple[dict[str, Any], bool, int]]:
    """Labels that become known in (after, until], in their order."""
    found = [(row, row["is_fraud"], row["label_time"]) for row in rows if row["is_fraud"] is not None]
    behind = [label for label in found if after_us < label[2] <= until_us]
    return sorted(behind, key=lambda label: (label[2], label[0]["transaction_id"]))


def labelled_by(rows: Rows, until_us: int) -> list[tuple[str, int]]:
    return [(row["transaction_id"], time_us) for row, _, time_us in known(rows, -(10**18), until_us)]
