"""A log into a new feature store, at once."""

from __future__ import annotations

from serving.features.past import Columns
from serving.features.replay import arrivals
from serving.features.store import TableFeatureStore


def load(store: TableFeatureStore, log: Columns) -> None:
    """Makes of a store without state what it would be after `replay` of a log, as far as that still matters.

    What is within the allowed lateness of the log's end is fed through the store one by one, so that a transaction of
    that time that comes again gets its answer again; what came before goes in all at once.  The store notes up to when
    it has labels, for those that become known later.

    Args:
        store: without state.
        log: as `TableFeatureStore.take` takes it.

    Raises:
        ConfigurationError: the store holds state.
    """
    times = log["event_time"]
    if not times:
        return
    until_us = times[-1] - store.lateness_us
    store.take(log, until_us)
    missing = [None] * len(times)
    labels = zip(log.get("is_fraud", missing), log.get("label_time", missing), strict=True)
    rows = [
        {name: values[row] for name, values in log.items()}
        for row, (time_us, (is_fraud, label_time)) in enumerate(zip(times, labels, strict=True))
        if time_us >= until_us
        or (is_fraud is not None and label_time is not None and until_us <= label_time <= times[-1])
    ]
    for arrival in arrivals(rows):
        if max(arrival.time_us, arrival.transaction["event_time"]) >= until_us:
            if arrival.is_label:
                store.label(arrival.transaction, arrival.transaction["is_fraud"], arrival.time_us)
            else:
                store.observe(arrival.transaction)
    store.note_load(times[-1])
