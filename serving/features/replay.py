"""A log as the store would have met it: transactions in order, and each label when it became known."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from serving.features.store import Features, FeatureStore


def replay(store: FeatureStore, transactions: Iterable[Mapping[str, Any]]) -> Iterator[Features]:
    """Feeds a log through a store and yields each transaction's features.

    A label is fed before the first transaction that does not come before it.  Labels that become known after the last
    transaction are not fed: a store must not hold what lies in its future.

    Args:
        store: where it goes.
        transactions: canonical columns with times in microseconds, in order of (event_time, transaction_id).
    """
    # The number keeps the heap from comparing transactions.
    pending: list[tuple[int, int, Mapping[str, Any]]] = []
    for number, transaction in enumerate(transactions):
        while pending and pending[0][0] <= transaction["event_time"]:
            label_time, _, labelled = heapq.heappop(pending)
            store.label(labelled, labelled["is_fraud"], label_time)
        yield store.observe(transaction)
        if transaction.get("is_fraud") is not None and transaction.get("label_time") is not None:
            heapq.heappush(pending, (transaction["label_time"], number, transaction))
