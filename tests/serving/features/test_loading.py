import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.ingest import ingest
from components.simulator import simulate, write
from schemas import sources
from schemas.errors import ConfigurationError
from schemas.features import DAY, HOUR, LOOK_BACK, Feature, FeatureSpec, specify
from schemas.transaction import COLUMN
from serving.features import MemoryTable, SqliteTable, TableFeatureStore
from serving.features.encoding import decode
from serving.features.keys import AFTER, ANSWER, ENTITY, ENTITY_BYTES, EXPIRY, LABELLED, STATE, time_at
from serving.features.loading import load
from serving.features.replay import replay
from serving.features.table import Range, Table
from tests.components.features.logs import DAY_US, SECOND_US, logs
from tests.components.features.test_engine import EVERYTHING, UNUSUAL
from tests.serving.features.replays import events, in_order

ONE: dict[str, list[Any]] = {"transaction_id": ["a"], "event_time": [0], "card_id": ["c"], "merchant_id": ["m"]}

Rows = list[dict[str, Any]]
NEVER = -(1 << 63)


def columns(rows: Rows) -> dict[str, list[Any]]:
    """A log as `load` takes it."""
    return {name: [row[name] for row in rows] for name in rows[0]}


def replayed(spec: FeatureSpec, rows: Rows, lateness_s: int) -> tuple[MemoryTable, TableFeatureStore]:
    """A store that met a log event by event."""
    table = MemoryTable()
    store = TableFeatureStore(table, spec, lateness_s)
    for _ in replay(store, rows):
        pass
    return table, store


def loaded(spec: FeatureSpec, rows: Rows, lateness_s: int) -> tuple[MemoryTable, TableFeatureStore]:
    """A store that was loaded from a log."""
    table = MemoryTable()
    store = TableFeatureStore(table, spec, lateness_s)
    load(store, columns(rows))
    return table, store


def content(table: Table) -> dict[bytes, bytes]:
    """All rows."""
    with table.transaction():
        return dict(table.read([Range(b"", AFTER)])[0])


def look_back(time_us: int) -> int:
    begin_us = time_us - LOOK_BACK.length_s * SECOND_US
    return begin_us - begin_us % (LOOK_BACK.hop_s * SECOND_US)


def assert_no_more(taken: bytes, left: bytes, place: bytes, looks_back_to_us: int) -> None:
    """That a row of a key says what it said where event by event came, without what nobody asks for any more."""
    if place[:1] == b"s":
        # A value that was last seen before the look-back and again in it is as one seen for the first time.
        settled, *others = struct.unpack(">qqq", left)
        assert struct.unpack(">qqq", taken) == (settled if settled >= looks_back_to_us else NEVER, *others)
    elif place[:1] != STATE:
        assert taken == left
    elif place[2:] == b"\0":
        (newest_us, _, newest, open_tiles), (other_us, _, more, other_tiles) = decode(taken), decode(left)
        assert newest_us == other_us
        assert newest == more[len(more) - len(newest) :]
        assert open_tiles == other_tiles
    else:
        for column, longer in zip(decode(taken), decode(left), strict=True):
            for value, other in zip(column, longer[len(longer) - len(column) :], strict=True):
                assert value in (other, [])


def assert_same_rows(whole: Table, bulk: Table, from_us: int) -> None:
    """What was loaded is what event by event left behind, and no more; what nobody asks for is less."""
    left, taken = content(whole), content(bulk)
    # That it was loaded is all that it says besides.
    del taken[LABELLED]
    assert taken.keys() <= left.keys()
    for key, value in taken.items():
        assert_no_more(value, left[key], key[ENTITY_BYTES:] if key[:1] == ENTITY else b"", look_back(from_us))
    # Answers are told apart by their expiry, which holds the time.
    kept = {key for key in left if key[:1] == EXPIRY and time_at(key, 1) >= from_us}
    answers = {ANSWER + key[9:] for key in kept}
    assert {key for key in taken if key[:1] in (ANSWER, EXPIRY)} == kept | answers


def observed(store: TableFeatureStore, rows: Rows) -> list[str]:
    """What transactions see one after another, and then their labels come; NaN equals itself in its name."""
    seen = [repr(store.observe(row)) for row in rows]
    for row in rows:
        if row["is_fraud"] is not None:
            store.label(row, row["is_fraud"], max(row["label_time"], row["event_time"]))
    return seen


@pytest.mark.parametrize("spec", [EVERYTHING, UNUSUAL], ids=["declared", "unusual"])
@settings(max_examples=60)
@given(
    data=st.data(),
    transactions=logs(min_size=2),
    share=st.floats(0, 1),
    lateness_s=st.sampled_from([0, 600, 7_200, 86_400]),
)
def test_a_loaded_store_is_as_one_that_met_the_log_event_by_event(
    spec: FeatureSpec, data: st.DataObject, transactions: Any, share: float, lateness_s: int
) -> None:
    rows = events(in_order(transactions))
    cut = max(1, int(share * len(rows)))
    log, end_us = rows[:cut], rows[cut - 1]["event_time"]
    (whole_table, whole), (bulk_table, bulk) = (make(spec, log, lateness_s) for make in (replayed, loaded))
    assert_same_rows(whole_table, bulk_table, end_us - lateness_s * SECOND_US)

    # Those that come twice, those that come late, and those that come then.
    again = [row for row in log if row["event_time"] >= end_us - lateness_s * SECOND_US]
    late = [
        {
            **row,
            "transaction_id": f"late {number}",
            "event_time": end_us - data.draw(st.integers(0, lateness_s)) * SECOND_US,
        }
        for number, row in enumerate(log)
    ]
    for following in (again, late, rows[cut:]):
        assert observed(bulk, following) == observed(whole, following)


@settings(max_examples=40)
@given(transactions=logs(min_size=1))
def test_what_no_window_reaches_back_to_changes_nothing(transactions: Any) -> None:
    rows = events(in_order(transactions))
    end_us = rows[-1]["event_time"]
    begin_us = end_us - TableFeatureStore.in_memory(EVERYTHING).reach_us
    times = ("event_time", "label_time")
    recent = [row for row in rows if any(row[name] is not None and row[name] >= begin_us for name in times)]
    (all_table, _), (recent_table, _) = (loaded(EVERYTHING, log, 600) for log in (rows, recent))
    assert content(recent_table) == content(all_table)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> tuple[FeatureSpec, Rows]:
    path = tmp_path_factory.mktemp("log") / "log.parquet"
    write(simulate(cards=20, days=50, seed=3), path)
    mapping = sources.load("simulated")
    return specify(mapping.provided), events(ingest(path, mapping, None).transactions)


@pytest.mark.parametrize("days", [20, 45])
def test_a_store_loaded_from_a_simulated_log_goes_on_as_if_it_had_met_it(
    simulated: tuple[FeatureSpec, Rows], tmp_path: Path, days: int
) -> None:
    spec, rows = simulated
    end_us = rows[0]["event_time"] + days * DAY_US
    log = [row for row in rows if row["event_time"] < end_us]
    following = rows[len(log) :][:400]
    assert len(log) > 500
    assert len(following) > 100
    whole_table, whole = replayed(spec, log, 600)
    file = SqliteTable(tmp_path / "store.sqlite")
    bulk = TableFeatureStore(file, spec)
    load(bulk, columns(log))
    assert_same_rows(whole_table, file, log[-1]["event_time"] - 600 * SECOND_US)
    assert observed(bulk, following) == observed(whole, following)
    bulk.close()


def test_labels_are_in_that_became_known_by_the_logs_last_transaction() -> None:
    spec = specify(COLUMN, (Feature("merchant", "fraud_count", DAY), Feature("merchant", "count", HOUR)), ())
    row = {"card_id": "c", "merchant_id": "m", "is_fraud": True}
    log = [
        {**row, "transaction_id": name, "event_time": time, "label_time": known}
        for name, time, known in (("a", 0, 900), ("b", 0, 1_000), ("c", 500, 1_001), ("d", 1_000, 1_000))
    ]
    for lateness_s in (0, 600):
        _, store = loaded(spec, [{**each} for each in log], lateness_s)
        assert store.observe({**row, "transaction_id": "e", "event_time": 2_000}).numbers == (3, 4)


def test_a_column_that_a_log_lacks_is_missing() -> None:
    store = TableFeatureStore.in_memory(EVERYTHING, 0)
    load(store, ONE)
    one_by_one = TableFeatureStore.in_memory(EVERYTHING, 0)
    following = {"card_id": "c", "merchant_id": "m", "event_time": SECOND_US, "transaction_id": "b"}
    one_by_one.observe({name: values[0] for name, values in ONE.items()})
    assert repr(store.observe(following)) == repr(one_by_one.observe(following))


def test_an_empty_log_leaves_a_store_as_it_is() -> None:
    table = MemoryTable()
    store = TableFeatureStore(table, EVERYTHING)
    before = content(table)
    load(store, {"transaction_id": [], "event_time": []})
    assert content(table) == before
    # It is still one without state, which takes a log.
    load(store, ONE)
    assert len(content(table)) > len(before)


def test_a_log_is_not_loaded_on_top_of_state() -> None:
    table = MemoryTable()
    store = TableFeatureStore(table, EVERYTHING)
    load(store, ONE)
    before = content(table)
    with pytest.raises(ConfigurationError, match="new store"):
        load(store, ONE)
    assert content(table) == before


def test_one_that_comes_as_late_as_allowed_sees_what_came_earlier_in_its_minute() -> None:
    row = {"card_id": "c", "merchant_id": "m", "is_fraud": None, "label_time": None}
    log = [{**row, "transaction_id": str(second), "event_time": second * SECOND_US} for second in (10, 20, 30, 40, 630)]
    _, store = loaded(specify(COLUMN, (Feature("card", "count", HOUR),), ()), log, 600)
    assert store.observe({**row, "transaction_id": "late", "event_time": 30 * SECOND_US}).numbers == (2,)


def test_sets_of_a_busy_key_stop_at_their_caps() -> None:
    spec = specify(COLUMN, (Feature("merchant", "distinct", DAY, "card_id", cap=3),), ())
    row = {"merchant_id": "m", "is_fraud": None, "label_time": None}
    cards = ["d", "b", "d", "a", "c", "b", "e"]
    log = [
        {**row, "transaction_id": str(n), "event_time": n * SECOND_US, "card_id": card} for n, card in enumerate(cards)
    ]
    log.append({**row, "transaction_id": "last", "event_time": DAY_US // 2, "card_id": "f"})
    (whole_table, _), (bulk_table, _) = (make(spec, log, 600) for make in (replayed, loaded))
    assert_same_rows(whole_table, bulk_table, DAY_US // 2 - 600 * SECOND_US)
