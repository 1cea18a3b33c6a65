"""Traffic leaves in order and on time, waits are counted from when a call was due, and numbers add up."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from schemas import scoring_pb2
from schemas.errors import ConfigurationError, ScoringError
from serving.features.replay import Arrival, arrivals
from serving.load import Answer, Tally, paced, scheduled, send_log
from tests.serving.gateways import TRANSACTION

DAY_US = 86_400_000_000


class Recorder:
    """A client that remembers what it was asked, passes all but `failing`, and may wait in between."""

    def __init__(self, failing: tuple[str, ...] = ()) -> None:
        self.failing = failing
        self.seen: list[tuple[str, str]] = []
        self.sent: list[Mapping[str, Any]] = []
        self.under_way = 0
        self.most_under_way = 0
        self.gate: asyncio.Event | None = None

    async def score(self, transaction: Mapping[str, Any]) -> scoring_pb2.Decision:
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        if self.gate is not None:
            await self.gate.wait()
        await asyncio.sleep(0)
        self.under_way -= 1
        self.sent.append(transaction)
        name = transaction["transaction_id"]
        self.seen.append(("score", name))
        if name in self.failing:
            raise ScoringError("as told", "DEADLINE_EXCEEDED")
        return scoring_pb2.Decision(transaction_id=name, outcome=scoring_pb2.PASS, arm=scoring_pb2.STABLE)

    async def report_outcome(
        self, transaction_id: str, is_fraud: bool, label_time: int | None = None, reported_by: str | None = None
    ) -> bool:
        self.seen.append(("report", transaction_id))
        if transaction_id == "t2":
            raise ScoringError("as told", "UNAVAILABLE")
        return is_fraud


def log(rows: int, **changes: Any) -> list[dict[str, Any]]:
    """Transactions of consecutive days."""
    return [TRANSACTION | {"transaction_id": f"t{at}", "event_time": at * DAY_US} | changes for at in range(rows)]


def run(client: Recorder, of: list[Arrival], concurrency: int) -> tuple[Any, list[Answer]]:
    answers: list[Answer] = []
    return asyncio.run(send_log(client, of, answers.append, concurrency)), answers


def unlabelled(transactions: list[dict[str, Any]]) -> list[Arrival]:
    return [Arrival(one["event_time"], one, is_label=False) for one in transactions]


def test_transactions_leave_in_order_and_without_their_labels() -> None:
    client = Recorder()
    _, answers = run(client, unlabelled(log(5, is_fraud=True, label_time=3)), 1)
    assert [name for _, name in client.seen] == [f"t{at}" for at in range(5)]
    assert client.sent == log(5)
    assert [answer.transaction["transaction_id"] for answer in answers] == [f"t{at}" for at in range(5)]


@pytest.mark.parametrize("concurrency", [1, 3, 50])
def test_no_more_calls_are_under_way_than_may_be(concurrency: int) -> None:
    client = Recorder()
    run(client, unlabelled(log(20)), concurrency)
    assert client.most_under_way == min(concurrency, 20)


def test_outcomes_come_when_the_time_of_the_log_reaches_them() -> None:
    labelled = [row | {"is_fraud": True, "label_time": row["event_time"] + 2 * DAY_US} for row in log(4)]
    client = Recorder()
    reports, _ = run(client, list(arrivals(labelled)), 1)
    assert client.seen == [
        ("score", "t0"),
        ("score", "t1"),
        ("report", "t0"),
        ("score", "t2"),
        ("report", "t1"),
        ("score", "t3"),
    ]
    assert (reports.recorded, reports.known, reports.undecided) == (2, 0, 0)


def test_an_outcome_waits_for_its_decision_and_is_kept_back_without_one() -> None:
    labelled = [
        row | {"is_fraud": row["transaction_id"] != "t1", "label_time": row["event_time"] + 1} for row in log(5)
    ]
    client = Recorder(failing=("t0",))

    async def main() -> Any:
        client.gate = asyncio.Event()
        asyncio.get_running_loop().call_soon(client.gate.set)
        return await send_log(client, list(arrivals(labelled)), lambda answer: None, 10)

    reports = asyncio.run(main())
    assert ("report", "t0") not in client.seen
    for name in ("t1", "t2", "t3"):
        assert client.seen.index(("score", name)) < client.seen.index(("report", name))
    assert (reports.recorded, reports.known, reports.undecided, dict(reports.errors)) == (1, 1, 1, {"UNAVAILABLE": 1})


def test_a_rate_spaces_transactions_evenly_and_outcomes_take_no_place() -> None:
    labelled = [row | {"is_fraud": True, "label_time": row["event_time"] + 1} for row in log(3)]
    due = [(offset, arrival.is_label) for offset, arrival in scheduled(arrivals(labelled), rate=4)]
    assert due == [(0, False), (0.25, True), (0.25, False), (0.5, True), (0.5, False)]
    assert {offset for offset, _ in scheduled(arrivals(labelled), None)} == {None}


def test_time_counts_from_when_a_call_was_due_while_those_before_hold_it_up() -> None:
    now = 100.0
    took: list[float] = []

    async def stall(item: str, due: float) -> None:
        nonlocal now
        if item == "slow":
            now += 10
        took.append(now - due)

    items = [(0.0, "slow"), (1.0, "quick"), (2.0, "quick"), (10.0, "quick")]
    asyncio.run(paced(items, stall, 1, lambda: now))
    assert took == [10, 9, 8, 0]


def test_nothing_leaves_before_it_is_due() -> None:
    early: list[bool] = []

    async def main() -> None:
        clock = asyncio.get_running_loop().time

        async def send(item: int, due: float) -> None:
            early.append(clock() < due)

        await paced([(at / 100, at) for at in range(5)], send, 2, clock)

    asyncio.run(main())
    assert early == [False] * 5


def test_what_sending_raises_ends_all() -> None:
    started: list[int] = []

    async def send(item: int, due: float) -> None:
        started.append(item)
        if item == 1:
            raise ConfigurationError("as told")
        await asyncio.Event().wait()

    with pytest.raises(ConfigurationError, match="as told"):
        asyncio.run(paced([(None, at) for at in range(9)], send, 3))
    assert started == [0, 1, 2]


def test_a_tally_counts_decisions_and_failures() -> None:
    tally = Tally()
    degraded = scoring_pb2.Degraded(cause=scoring_pb2.Degraded.MODEL_LATE)
    block = scoring_pb2.Decision(
        outcome=scoring_pb2.BLOCK, arm=scoring_pb2.CANARY, model=scoring_pb2.ModelVersion(version=3), degraded=degraded
    )
    for number in range(99):
        tally.add(Answer(TRANSACTION, block if number else ScoringError("late", "DEADLINE_EXCEEDED"), number / 1_000))
    tally.add(Answer(TRANSACTION, scoring_pb2.Decision(outcome=scoring_pb2.PASS), 9.0))
    assert tally.outcomes == {"BLOCK": 98, "PASS": 1}
    assert tally.arms == {"CANARY": 98, "ARM_UNSPECIFIED": 1}
    assert tally.versions == {"3": 98, "none": 1}
    assert (tally.degraded, tally.errors) == ({"MODEL_LATE": 98}, {"DEADLINE_EXCEEDED": 1})
    assert tally.latency_ms(0.5, 0.99, 1) == pytest.approx([50, 98, 9_000], abs=1.1)
    assert all(value != value for value in Tally().latency_ms(0.5, 1))
