"""A log by key: the events of each key, and its labels, in one piece and in order."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from serving.features.folding import Event

# The canonical columns of a log, each with a value per row, times in microseconds; None is missing.
Columns = Mapping[str, Sequence[Any]]


@dataclass(frozen=True)
class Past:
    """Events of one key in order of (time, transaction_id).

    Attributes:
        times_us: when they came.
        ids: of their transactions.
        events: what is known of them.
    """

    times_us: Sequence[int]
    ids: Sequence[str]
    events: Sequence[Event]

    def since(self, time_us: int) -> Past:
        """Those at a time or after it."""
        first = bisect_left(self.times_us, time_us)
        return Past(self.times_us[first:], self.ids[first:], self.events[first:]) if first else self


def rows_by_key(log: Columns, names: Sequence[str], rows: int) -> dict[tuple[str, ...], list[int]]:
    """The numbers of the first rows of a log by the values of columns; a row that lacks one of them is of no key."""
    found: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for row, key in zip(range(rows), zip(*[log[name] for name in names], strict=True), strict=False):
        if None not in key:
            found[key].append(row)
    return found


def events_of(log: Columns, rows: Sequence[int], names: Sequence[str]) -> Past:
    """Rows of a log in order of (event_time, transaction_id), with some of its columns."""
    times, ids = log["event_time"], log["transaction_id"]
    values = [[log[name][row] for row in rows] for name in names]
    events = [dict(zip(names, of_row, strict=True)) for of_row in zip(*values, strict=True)] or [{} for _ in rows]
    return Past([times[row] for row in rows], [ids[row] for row in rows], events)


def labels_of(log: Columns, rows: Sequence[int], before_us: int) -> Past:
    """The labels of rows of a log that became known before a time."""
    times, ids, frauds = log["label_time"], log["transaction_id"], log["is_fraud"]
    known = sorted(
        (times[row], ids[row], int(frauds[row]))
        for row in rows
        if frauds[row] is not None and times[row] is not None and times[row] < before_us
    )
    return Past(
        [time_us for time_us, _, _ in known],
        [transaction_id for _, transaction_id, _ in known],
        [{"is_fraud": is_fraud} for _, _, is_fraud in known],
    )
