"""Labels of a log that became known after its load, into real stores."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import count
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from components.features import compute_features
from components.features.compare import compare
from components.features.timeline import Cause
from pipelines.consistency import compare_decisions
from pipelines.labelling import STEP_ROWS, Labelling, label_store, runs_of
from pipelines.replay import load_store
from schemas.errors import ConfigurationError
from schemas.transaction import SECOND_US
from serving.decisions.log import DecisionLog
from serving.features import EmbeddedStore, RedisStore, SqliteTable, StoreAddress
from serving.features.keys import AFTER, LABELLED
from serving.features.table import Range
from tests.pipelines.decided import SPEC, Gateway, Logs, simulated
from tests.redis_server import RedisServer, redis_server
from tests.serving.decisions.entries import entry
from tests.serving.features.replays import events, table

ROOT = Path(__file__).parents[2]
NewPlace = Callable[[], tuple[StoreAddress, list[str]]]
# The server's names are those of the whole module.
_NUMBERS = count()
DAY_US = 86_400 * SECOND_US
NOW_US = 2 * 10**15
FRAUDS, SHARE = "merchant_id_fraud_count_30d", "merchant_id_fraud_rate_30d"


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Logs:
    return simulated(tmp_path_factory.mktemp("logs"), cards=60)


@pytest.fixture(scope="module")
def until_us(logs: Logs) -> int:
    """Two days behind the load's end."""
    return loaded_until(logs) + 2 * DAY_US


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(params=["embedded", "redis"])
def new_place(request: pytest.FixtureRequest, tmp_path: Path) -> NewPlace:
    """Addresses of places without a store, each with what it is called on a command line."""

    def embedded() -> tuple[StoreAddress, list[str]]:
        path = tmp_path / f"n{next(_NUMBERS)}.sqlite"
        return EmbeddedStore(path), [str(path)]

    def on_server() -> tuple[StoreAddress, list[str]]:
        server: RedisServer = request.getfixturevalue("server")
        name = f"n{next(_NUMBERS)}"
        return RedisStore(server.url, name), [server.url, name]

    return embedded if request.param == "embedded" else on_server


def loaded_until(logs: Logs) -> int:
    end_us: int = logs.history["event_time"][-1].value
    return end_us


def loaded(logs: Logs, address: StoreAddress) -> StoreAddress:
    load_store(logs.history, address, SPEC)
    return address


def label(
    transactions: pa.Table, address: StoreAddress, until_us: int | None, decisions: Path = Path("-")
) -> Labelling:
    return label_store(transactions, address, SPEC, decisions, until_us, lambda: NOW_US, lambda _: None)


def content(address: StoreAddress) -> dict[bytes, bytes]:
    """All rows but the note of when labels came."""
    of_store = SqliteTable(address.path) if isinstance(address, EmbeddedStore) else address.table(SPEC)
    with closing(of_store), of_store.transaction():
        return {key: value for key, value in of_store.read([Range(b"", AFTER)])[0] if key != LABELLED}


def known(transactions: pa.Table, after_us: int, until_us: int) -> int:
    """How many labels became known in (after, until]."""
    times = [time for time in transactions["label_time"].cast(pa.int64()).to_pylist() if time is not None]
    return sum(after_us < time <= until_us for time in times)


def test_a_run_that_is_killed_again_and_again_leaves_what_one_leaves_that_is_not(
    logs: Logs, until_us: int, new_place: NewPlace, tmp_path: Path
) -> None:
    (whole, _), (killed, called) = new_place(), new_place()
    log = tmp_path / "log.parquet"
    pq.write_table(logs.history, log)
    for address in (whole, killed):
        loaded(logs, address)
    before = content(killed)
    added = label(logs.history, whole, until_us).added
    assert added > 3 * STEP_ROWS
    states = []
    # A run asks for the time at its beginning; in each step before, in the middle of its transaction, and behind it.
    for calls in (3, 4, 6):
        command = [sys.executable, "-m", "tests.pipelines.labeller", log, until_us, calls, *called]
        child = subprocess.Popen(
            list(map(str, command)), cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        with child:
            try:
                assert child.stdout
                assert child.stdout.readline() == "stopped\n"
            finally:
                child.kill()
        states.append(content(killed))
    # What was under way is not in, and what was done stays.
    assert states[0] == before
    assert len({str(state) for state in states}) == 3
    assert label(logs.history, killed, until_us).added == added - 2 * STEP_ROWS
    assert content(killed) == content(whole)
    assert runs_of(killed, SPEC)[-1].last == runs_of(whole, SPEC)[-1].last


def test_the_same_log_twice_and_in_parts_adds_nothing(logs: Logs, until_us: int, new_place: NewPlace) -> None:
    (at_once, _), (in_parts, _) = new_place(), new_place()
    for address in (at_once, in_parts):
        loaded(logs, address)
    end_us = loaded_until(logs)
    expected = known(logs.history, end_us, until_us)
    ahead = known(logs.history, until_us, NOW_US)
    assert ahead > 0
    assert label(logs.history, at_once, until_us) == Labelling(expected, 0, 0, ahead)
    before = content(at_once)
    assert label(logs.history, at_once, until_us) == Labelling(0, 0, 0, ahead)
    assert content(at_once) == before
    for part_us in (until_us - DAY_US, end_us, until_us):
        label(logs.history, in_parts, part_us)
    assert content(in_parts) == before


def test_what_a_gateway_decided_on_is_left_out(logs: Logs, until_us: int, tmp_path: Path) -> None:
    all_, some = (loaded(logs, EmbeddedStore(tmp_path / name)) for name in ("all", "some"))
    rows = [row for row in events(logs.history) if loaded_until(logs) < (row["label_time"] or 0) <= until_us]
    decided, others = rows[::2], rows[1::2]
    with closing(DecisionLog(tmp_path / "decisions")) as log:
        log.append([entry(row["transaction_id"]) for row in decided])
    is_other = pc.is_in(logs.history["transaction_id"], pa.array([row["transaction_id"] for row in others]))
    found = label(logs.history, some, until_us, tmp_path / "decisions")
    assert (found.added, found.decided) == (len(others), len(decided))
    label(logs.history.filter(is_other), all_, until_us)
    assert content(some) == content(all_)


def test_unless_told_otherwise_labels_come_that_are_known_by_now(logs: Logs, until_us: int, tmp_path: Path) -> None:
    address = loaded(logs, EmbeddedStore(tmp_path / "store"))
    found = label_store(logs.history, address, SPEC, Path("-"), None, lambda: until_us, lambda _: None)
    assert (found.added, found.ahead) == (
        known(logs.history, loaded_until(logs), until_us),
        known(logs.history, until_us, NOW_US),
    )


def test_what_no_window_reaches_back_to_costs_nothing(logs: Logs, until_us: int, tmp_path: Path) -> None:
    address = loaded(logs, EmbeddedStore(tmp_path / "store"))
    before = content(address)
    # One that becomes known a year later, by which nobody sees the others.
    late = logs.history.slice(0, 1)
    when = pa.array([until_us + 365 * DAY_US]).cast(logs.history.schema.field("label_time").type)
    late = late.set_column(late.column_names.index("transaction_id"), "transaction_id", pa.array(["late"]))
    late = late.set_column(late.column_names.index("label_time"), "label_time", when)
    for name in ("card_id", "merchant_id"):
        late = late.set_column(late.column_names.index(name), name, pa.array(["elsewhere"]))
    log = pa.concat_tables([logs.history, late])
    found = label(log, address, until_us + 400 * DAY_US)
    assert (found.added, found.outdated) == (1, known(logs.history, loaded_until(logs), NOW_US))
    assert before.items() <= content(address).items()


def test_the_store_is_free_between_two_steps_for_as_long_as_they_take(
    logs: Logs, until_us: int, tmp_path: Path
) -> None:
    address = loaded(logs, EmbeddedStore(tmp_path / "store"))
    seconds = count(NOW_US, SECOND_US)
    pauses: list[float] = []
    label_store(logs.history, address, SPEC, Path("-"), until_us, lambda: next(seconds), pauses.append)
    # Asked for at the beginning of a step, in it, and behind it.
    assert set(pauses) == {2.0}


def test_a_place_without_a_store_is_refused_and_stays_empty(logs: Logs, until_us: int, new_place: NewPlace) -> None:
    address, _ = new_place()
    with pytest.raises(ConfigurationError, match="fraudops features load"):
        label(logs.history, address, until_us)
    assert runs_of(address, SPEC) == []
    loaded(logs, address)


def test_a_store_that_began_without_a_log_is_refused(logs: Logs, until_us: int, new_place: NewPlace) -> None:
    address, _ = new_place()
    with closing(address.open(SPEC)) as store:
        store.observe(logs.live[0])
    with pytest.raises(ConfigurationError, match="fraudops features load"):
        label(logs.history, address, until_us)


def test_what_follows_sees_what_batch_computes_with_all_labels_that_are_known(
    logs: Logs, until_us: int, new_place: NewPlace
) -> None:
    address, _ = new_place()
    loaded(logs, address)
    between = [row for row in logs.live if row["event_time"] <= until_us]
    following = logs.live[len(between) :]
    log = pa.concat_tables([logs.history, rows_as(logs.live, logs.history.schema)])
    with closing(address.open(SPEC)) as store:
        # What comes while labels do sees some of them; what follows sees all.
        with ThreadPoolExecutor(1) as gateway:
            observed = gateway.submit(lambda: [store.observe(row) for row in between])
            label(log, address, until_us)
            observed.result()
        seen = table(SPEC, log.slice(log.num_rows - len(following)), map(store.observe, following))
    ahead = pc.fill_null(pc.greater(log["label_time"].cast(pa.int64()), until_us), False)
    for name in ("is_fraud", "label_time"):
        values = pc.if_else(ahead, pa.scalar(None, log.schema.field(name).type), log[name])
        log = log.set_column(log.column_names.index(name), name, values)
    computed = compute_features(log, SPEC).slice(log.num_rows - len(following))
    assert pc.max(computed[FRAUDS]).as_py() > 0
    assert len(following) > 100
    found = compare(seen, computed)
    assert found.agree, found


def test_the_consistency_job_counts_the_labels_from_when_they_came(logs: Logs, tmp_path: Path) -> None:
    address = loaded(logs, EmbeddedStore(tmp_path / "store"))
    decisions = tmp_path / "decisions"
    silent = [{**row, "label_time": None} for row in logs.live]
    half = len(silent) // 2
    until_us = silent[half]["event_time"]
    with closing(Gateway(logs, decisions)) as gateway:
        gateway.store.close()
        gateway.store = address.open(SPEC)
        gateway.run(silent[:half])
        label_store(logs.history, address, SPEC, decisions, until_us, lambda: gateway.now_us, lambda _: None)
        gateway.run(silent[half:])
    found, unaware = (
        compare_decisions(decisions, [logs.history], SPEC, 0, NOW_US, runs) for runs in (runs_of(address, SPEC), [])
    )
    assert found.above(0) == []
    assert found.labels_ahead == known(logs.history, until_us, NOW_US)
    assert found.labels == known(logs.history, loaded_until(logs), until_us)
    # Those before the labels came are apart, as far as they lie behind the times at which these became known.
    apart = found.features[SHARE].apart[Cause.OVERTAKEN]
    assert half > apart.rows >= apart.disagreements > 0
    assert SHARE in unaware.above(0)
    assert unaware.labels_ahead > found.labels_ahead


def rows_as(rows: list[dict[str, object]], schema: pa.Schema) -> pa.Table:
    """Rows with times in microseconds as a canonical table."""
    return pa.table({field.name: pa.array([row[field.name] for row in rows]).cast(field.type) for field in schema})
