"""A gateway that is killed again and again amid its updates: in the end its store equals the batch result."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import timedelta
from itertools import cycle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from components import simulator
from components.features import compute_features
from components.features.compare import compare
from components.ingest import ingest
from pipelines.consistency import compare_decisions
from schemas import scoring_pb2
from schemas.errors import ScoringError
from schemas.transaction import SECOND_US
from serving.client import Client
from serving.decisions.log import DecisionLog
from serving.decisions.reading import Span
from serving.features import LATENESS_S, Features
from serving.features.replay import arrivals
from tests.redis_server import redis_server
from tests.serving.features.replays import events, table
from tests.serving.gateway.gateways import MAPPING, SPEC
from tests.serving.gateway.process import decisions

# 10,000 updates, and a dozen starts of a process.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_800)]

ROOT = Path(__file__).parents[2]
BOUND_S = 300
UPDATES = 10_000
BATCH = 20
# Each a little later, from the beginning of a call to after its usual end; and one more on a label.
KILLS = 20
END_US = 2**60

# Each kind of store by the address that a gateway is given.
STORES: dict[str, Callable[[pytest.FixtureRequest], str]] = {
    "embedded": lambda request: "embedded",
    "redis": lambda request: str(request.getfixturevalue("redis_url")),
}


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "redis").mkdir()
    with redis_server(tmp_path / "redis") as server:
        yield server.url


@dataclass(frozen=True)
class Update:
    """What a client sends in one call: transactions in order, or the label of one."""

    transactions: Sequence[Mapping[str, Any]]
    is_label: bool = False


class Gateway:
    """A gateway's process, the leader of a group that its feature store's process belongs to.

    Attributes:
        client: of this life of the gateway.
    """

    def __init__(self, folder: Path, store: str) -> None:
        command = [sys.executable, "-m", "tests.serving.gateway.process", str(folder), store]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True)
        assert self._process.stdout is not None
        address = self._process.stdout.readline().strip()
        assert address, "the gateway ended before it served"
        self.client = Client(address, timeout_s=BOUND_S)

    def send(self, update: Update) -> list[scoring_pb2.Decision]:
        """Sends an update, and returns when it is acknowledged.

        Raises:
            ScoringError: it was not.
        """
        if update.is_label:
            [row] = update.transactions
            self.client.report_outcome(row["transaction_id"], row["is_fraud"], row["label_time"])
            return []
        [(_, results)] = self.client.score_stream([list(map(sent, update.transactions))], timeout_s=BOUND_S)
        assert all(isinstance(result, scoring_pb2.Decision) for result in results), results
        return [result for result in results if isinstance(result, scoring_pb2.Decision)]

    def kill(self, whole_group: bool = True) -> None:
        """Ends it without warning, with the process of its store or alone: that one is then left to see it."""
        (os.killpg if whole_group else os.kill)(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def close(self) -> None:
        """Leaves no process of the group behind."""
        self.client.close()
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()


def sent(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as a payment system sends it: the gateway converts amounts, and labels come later."""
    return {name: value for name, value in row.items() if name not in ("amount_base_minor", "is_fraud", "label_time")}


def simulated(folder: Path) -> pa.Table:
    """Transactions, of which the frauds and one in twenty of the others are labelled a day later."""
    file = folder / "log.parquet"
    simulator.write(simulator.simulate(cards=800, days=8, seed=7), file)
    log = ingest(file, MAPPING, None).transactions
    reported = pa.array([fraud or number % 20 == 0 for number, fraud in enumerate(log["is_fraud"].to_pylist())])
    known = pc.add(log["event_time"], pa.scalar(timedelta(days=1), pa.duration("us")))
    for name, values in (("is_fraud", log["is_fraud"]), ("label_time", known)):
        field = log.schema.field(name)
        column = pc.if_else(reported, values, pa.scalar(None, field.type))
        log = log.set_column(log.column_names.index(name), field, column)
    return log


def updates_of(rows: Sequence[Mapping[str, Any]]) -> tuple[list[Update], int]:
    """Calls of `UPDATES` updates in all, in order; and how many transactions are among them.

    What one call holds lies within the allowed lateness, so that all of it is known when it comes again.
    """
    calls: list[Update] = []
    waiting: list[Mapping[str, Any]] = []
    transactions = 0
    for number, arrival in enumerate(arrivals(rows)):
        if number == UPDATES:
            break
        is_far = bool(waiting) and arrival.time_us > waiting[0]["event_time"] + LATENESS_S * SECOND_US
        if waiting and (arrival.is_label or is_far or len(waiting) == BATCH):
            calls.append(Update(waiting))
            waiting = []
        if arrival.is_label:
            calls.append(Update([arrival.transaction], is_label=True))
        else:
            waiting.append(arrival.transaction)
            transactions += 1
    return [*calls, *([Update(waiting)] if waiting else [])], transactions


def interrupted(gateway: Gateway, update: Update, after_s: float, whole_group: bool) -> bool:
    """Kills a gateway that works on an update, and says whether that was acknowledged all the same."""
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(gateway.send, update)
        # Any moment will do: this waits for nothing that has to happen.
        wait([answer], after_s)
        gateway.kill(whole_group)
        # A call that is tried again would look for a gateway until its time is over.
        gateway.client.close()
        try:
            answer.result()
        except (ScoringError, ValueError):
            return False
    return True


def logged(log: DecisionLog) -> dict[str, Features]:
    found = (one for page in log.observations(Span(0, END_US, 0)) for one in page)
    return {one.transaction["transaction_id"]: one.features for one in found if one.features is not None}


def probes(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A payment of every card and at every merchant, all at one time after the last row, so that none sees another."""
    cards, merchants = (sorted({row[name] for row in rows}) for name in ("card_id", "merchant_id"))
    size = max(len(cards), len(merchants))
    time_us = rows[-1]["event_time"] + 60 * SECOND_US
    last = {**rows[-1], "event_time": time_us, "is_fraud": None, "label_time": None}
    pairs = zip(range(size), cycle(cards), cycle(merchants), strict=False)
    return [{**last, "transaction_id": f"probe{n}", "card_id": card, "merchant_id": at} for n, card, at in pairs]


@pytest.mark.parametrize("kind", STORES)
def test_a_store_whose_gateway_is_killed_again_and_again_equals_the_batch_result(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    store = STORES[kind](request)
    transactions = simulated(tmp_path)
    calls, count = updates_of(events(transactions))
    rows = events(transactions.slice(0, count))
    assert sum(len(call.transactions) for call in calls) == UPDATES
    batches = [place for place, call in enumerate(calls) if len(call.transactions) > BATCH // 2]
    kills = {batches[len(batches) * (number + 1) // (KILLS + 1)]: number for number in range(KILLS)}
    kills[next(place for place in range(len(calls) // 2, len(calls)) if calls[place].is_label)] = KILLS

    acknowledged: dict[str, scoring_pb2.Decision] = {}
    midway: list[int] = []
    took_s = 0.0
    gateway = Gateway(tmp_path, store)
    try:
        with closing(DecisionLog(decisions(tmp_path))) as log:
            for place, update in enumerate(calls):
                if (kill := kills.get(place)) is not None:
                    before = log.count()
                    if not interrupted(gateway, update, 1.5 * took_s * kill / KILLS, whole_group=kill % 3 != 2):
                        midway.append(log.count() - before)
                    gateway.close()
                    gateway = Gateway(tmp_path, store)
                began_s = time.monotonic()
                # Whatever became of the call before the kill, its client was not told, and sends it again.
                acknowledged |= {one.transaction_id: one for one in gateway.send(update)}
                if kill is None and place in batches:
                    took_s = time.monotonic() - began_s
            probing = probes(rows)
            for begin in range(0, len(probing), BATCH):
                gateway.send(Update(probing[begin : begin + BATCH]))
            found = logged(log)
            lost = [name for name, decision in acknowledged.items() if _standing(log, name) != decision]
    finally:
        gateway.close()

    print(f"{len(kills)} kills, {len(midway)} before the answer, with so many decisions in the log: {midway}")
    assert midway, "every call was answered before its gateway was killed"
    assert lost == []
    assert len(acknowledged) == count
    everything = pa.Table.from_pylist([*rows, *probing], transactions.schema)
    answers = table(SPEC, everything, [found[name] for name in everything["transaction_id"].to_pylist()])
    compared = compare(answers, compute_features(everything, SPEC))
    assert {name: one for name, one in compared.features.items() if one.disagreements} == {}
    assert (compared.agree, compared.rows) == (True, count + len(probing))
    assert compare_decisions(decisions(tmp_path), [], SPEC, 0, END_US).above(0) == []


def _standing(log: DecisionLog, transaction_id: str) -> scoring_pb2.Decision | None:
    kept = log.find(transaction_id)
    return None if kept is None else kept.decision
