"""The past of a log in columns: its events or its labels in order, and which of them are of which key."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from schemas.transaction import second_of_day, second_of_week

# The canonical columns of a log, each with a value per row, times in microseconds; None is missing.
Columns = Mapping[str, Sequence[Any]]


# What is known of a label: whether it says fraud, as 0 or 1, and when it came, in the one place or the other.
IS_FRAUD, FRAUD_TIME, GENUINE_TIME = "is_fraud", "fraud_time", "genuine_time"


@dataclass(frozen=True)
class Past:
    """Events, or labels, in order of (time, transaction_id).

    Attributes:
        times_us: when they came.
        ids: of their transactions.
        columns: what is known of them, as `Columns`.
    """

    times_us: Sequence[int]
    ids: Sequence[str]
    columns: Columns

    def column(self, name: str) -> Sequence[Any]:
        """The values of a column; one that a log lacks is missing."""
        values = self.columns.get(name)
        return [None] * len(self.times_us) if values is None else values

    def first_row(self, time_us: int) -> int:
        """The row of the first of them that did not come before a time."""
        return bisect_left(self.times_us, time_us)

    def rows_by_key(self, names: Sequence[str]) -> dict[tuple[str, ...], list[int]]:
        """The rows, ascending, by the values of columns; a row that lacks one of them is of no key."""
        found: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for row, key in enumerate(zip(*map(self.column, names), strict=True)):
            if None not in key:
                found[key].append(row)
        return found


def events_before(log: Columns, until_us: int) -> Past:
    """The transactions of a log, in order of (event_time, transaction_id), that came before a time."""
    end = bisect_left(log["event_time"], until_us)
    columns = {name: values[:end] for name, values in log.items()}
    times_us = columns["event_time"]
    calendar = {
        "second_of_day": [second_of_day(time_us) for time_us in times_us],
        "second_of_week": [second_of_week(time_us) for time_us in times_us],
    }
    return Past(times_us, columns["transaction_id"], {**columns, **calendar})


def labels_of(events: Past, until_us: int) -> Past:
    """The labels of events that became known before a time."""
    labels = zip(events.column(IS_FRAUD), events.column("label_time"), strict=True)
    known = sorted(
        (label_time, events.ids[row], row)
        for row, (is_fraud, label_time) in enumerate(labels)
        if is_fraud is not None and label_time is not None and label_time < until_us
    )
    columns = {name: [values[row] for _, _, row in known] for name, values in events.columns.items()}
    times_us = [label_time for label_time, _, _ in known]
    each = [
        label_columns(is_fraud, time_us) for is_fraud, time_us in zip(columns.get(IS_FRAUD, []), times_us, strict=True)
    ]
    for name in (IS_FRAUD, FRAUD_TIME, GENUINE_TIME):
        columns[name] = [label[name] for label in each]
    return Past(times_us, columns["transaction_id"], columns)


def label_columns(is_fraud: bool, time_us: int) -> dict[str, int | None]:
    """What is known of a label that came at a time."""
    return {
        IS_FRAUD: int(is_fraud),
        FRAUD_TIME: time_us if is_fraud else None,
        GENUINE_TIME: None if is_fraud else time_us,
    }
