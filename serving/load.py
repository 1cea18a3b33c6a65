"""Traffic for a gateway: the transactions and outcomes of a log, at a rate or as fast as it answers, each timed."""

from __future__ import annotations

import asyncio
import time
from array import array
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np

from schemas import scoring_pb2
from schemas.errors import ScoringError
from serving.features.replay import Arrival

Item = TypeVar("Item")
Clock = Callable[[], float]

_LABEL_COLUMNS = ("is_fraud", "label_time")


class Scoring(Protocol):
    """What is asked of a client; `serving.client.AsyncClient` is one."""

    async def score(self, transaction: Mapping[str, Any]) -> scoring_pb2.Decision:
        """Decides on a transaction."""

    async def report_outcome(
        self, transaction_id: str, is_fraud: bool, label_time: int | None = None, reported_by: str | None = None
    ) -> bool:
        """Tells what a transaction turned out to be."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one call, a decision or a failure, and after how many seconds.

    The time runs from when the transaction was due, not from when it could be sent at last: a gateway that holds up
    those behind it does not get away with that.
    """

    transaction: Mapping[str, Any]
    result: scoring_pb2.Decision | ScoringError
    latency_s: float


@dataclass
class Tally:
    """Answers in numbers; failures have taken their time as well."""

    outcomes: Counter[str] = field(default_factory=Counter)
    arms: Counter[str] = field(default_factory=Counter)
    versions: Counter[str] = field(default_factory=Counter)
    degraded: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    latencies_s: array[float] = field(default_factory=lambda: array("d"))

    def add(self, answer: Answer) -> None:
        """Counts an answer."""
        self.latencies_s.append(answer.latency_s)
        if isinstance(decision := answer.result, ScoringError):
            self.errors[decision.code] += 1
            return
        self.outcomes[scoring_pb2.Outcome.Name(decision.outcome)] += 1
        self.arms[scoring_pb2.Arm.Name(decision.arm)] += 1
        self.versions[str(decision.model.version) if decision.HasField("model") else "none"] += 1
        if decision.HasField("degraded"):
            self.degraded[scoring_pb2.Degraded.Cause.Name(decision.degraded.cause)] += 1

    def latency_ms(self, *shares: float) -> list[float]:
        """The latencies that so large shares of the calls did not exceed, in milliseconds; NaN without calls."""
        if not self.latencies_s:
            return [float("nan")] * len(shares)
        found: list[float] = (np.quantile(self.latencies_s, shares, method="inverted_cdf") * 1_000).tolist()
        return found


@dataclass
class Reports:
    """Outcomes that were reported, by whether they were news, those that failed by code, and those of no decision."""

    recorded: int = 0
    known: int = 0
    undecided: int = 0
    errors: Counter[str] = field(default_factory=Counter)


async def send_log(
    client: Scoring,
    arrivals: Iterable[Arrival],
    answered: Callable[[Answer], None],
    concurrency: int,
    rate: float | None = None,
    clock: Clock = time.perf_counter,
) -> Reports:
    """Sends transactions, and outcomes where there are any among the arrivals, in their order.

    Calls overlap, so that transactions close to one another may overtake; an outcome waits for its decision.

    Args:
        client: called from one event loop.
        arrivals: as `serving.features.replay.arrivals` orders them.
        answered: called with each answer as it comes.
        concurrency: how many calls may be under way.
        rate: transactions per second, evenly spaced; None sends the next as soon as a call is over.
        clock: seconds.
    """
    reports = Reports()
    under_way: dict[str, asyncio.Event] = {}
    undecided: set[str] = set()

    async def score(transaction: Mapping[str, Any], due: float) -> None:
        name = transaction["transaction_id"]
        over = under_way[name] = asyncio.Event()
        sent = {column: value for column, value in transaction.items() if column not in _LABEL_COLUMNS}
        try:
            result: scoring_pb2.Decision | ScoringError = await client.score(sent)
        except ScoringError as error:
            result = error
            undecided.add(name)
        finally:
            over.set()
            del under_way[name]
        answered(Answer(transaction, result, clock() - due))

    async def report(transaction: Mapping[str, Any], label_time: int) -> None:
        name = transaction["transaction_id"]
        if name in under_way:
            await under_way[name].wait()
        if name in undecided:
            reports.undecided += 1
            return
        try:
            if await client.report_outcome(name, transaction["is_fraud"], label_time):
                reports.recorded += 1
            else:
                reports.known += 1
        except ScoringError as error:
            reports.errors[error.code] += 1

    async def send(arrival: Arrival, due: float) -> None:
        if arrival.is_label:
            await report(arrival.transaction, arrival.time_us)
        else:
            await score(arrival.transaction, due)

    await paced(scheduled(arrivals, rate), send, concurrency, clock)
    return reports


def scheduled(arrivals: Iterable[Arrival], rate: float | None) -> Iterator[tuple[float | None, Arrival]]:
    """Arrivals with the second at which each is due: transactions evenly spaced, outcomes with what follows them."""
    sent = 0
    for arrival in arrivals:
        yield None if rate is None else sent / rate, arrival
        sent += not arrival.is_label


async def paced(
    items: Iterable[tuple[float | None, Item]],
    send: Callable[[Item, float], Awaitable[None]],
    concurrency: int,
    clock: Clock = time.perf_counter,
) -> None:
    """Sends items in their order, each not before it is due; what `send` raises ends all.

    Args:
        items: with the seconds from the beginning at which they are due, None where as soon as possible.
        send: gets an item and the clock's time at which it was due.
        concurrency: how many may be under way; while that is too few, items leave late, and `send` is told since when
            they were due.
        clock: seconds.
    """
    began = clock()
    remaining = iter(items)

    async def work() -> None:
        for offset, item in remaining:
            due = clock() if offset is None else began + offset
            if (early := due - clock()) > 0:
                await asyncio.sleep(early)
            await send(item, due)

    try:
        async with asyncio.TaskGroup() as workers:
            for _ in range(concurrency):
                workers.create_task(work())
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
