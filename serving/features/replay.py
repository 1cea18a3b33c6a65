"""A log as the store would have met it: transactions in order, and each label when it became known."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from serving.features.store import Features


class Observer(Protocol):
    """What a replay asks of a feature store."""

    def observe(self, transaction: Mapping[str, Any]) -> Features:
        """See `FeatureStore`."""

    def label(self, transaction: Mapping[str, Any], is_fraud: bool, label_time: int) -> None:
        """See `FeatureStore`."""


@dataclass(frozen=True)
class Arrival:
    """A transaction, or the label of one, and when it comes in microseconds."""

    time_us: int
    transaction: Mapping[str, Any]
    is_label: bool


def arrivals(transactions: Iterable[Mapping[str, Any]]) -> Iterator[Arrival]:
    """What comes when: a label before the first transaction that does not come before it.

    Labels that become known after the last transaction do not come: a store must not hold what lies in its future.

    Args:
        transactions: canonical columns with times in microseconds, in order of (event_time, transaction_id).
    """
    # The number keeps the heap from comparing transactions.
    pending: list[tuple[int, int, Mapping[str, Any]]] = []

    def known(time_us: int) -> Iterator[Arrival]:
        while pending and pending[0][0] <= time_us:
            label_time, _, labelled = heapq.heappop(pending)
            yield Arrival(label_time, labelled, is_label=True)

    time_us = None
    for number, transaction in enumerate(transactions):
        time_us = transaction["event_time"]
        yield from known(time_us)
        yield Arrival(time_us, transaction, is_label=False)
        if transaction.get("is_fraud") is not None and transaction.get("label_time") is not None:
            heapq.heappush(pending, (transaction["label_time"], number, transaction))
    # Those that became known at the time of the last transaction itself.
    if time_us is not None:
        yield from known(time_us)


def replay(store: Observer, transactions: Iterable[Mapping[str, Any]]) -> Iterator[Features]:
    """Feeds a log, ordered as for `arrivals`, through a store and yields each transaction's features."""
    for arrival in arrivals(transactions):
        if arrival.is_label:
            store.label(arrival.transaction, arrival.transaction["is_fraud"], arrival.time_us)
        else:
            yield store.observe(arrival.transaction)
