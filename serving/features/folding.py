"""What is folded into a tile: counts, exact sums and extremes of integers, and sets that stop at a cap."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from schemas.features import Filter
from serving.features.past import Past

Event = Mapping[str, Any]

_LONG_TEXT = 16


@dataclass(frozen=True)
class Number:
    """One number of a tile, over the events that pass a filter and have the column.

    Python's integers have no largest one, so sums and sums of squares are exact.
    """

    measure: Literal["count", "sum", "squares", "min", "max"]
    column: str | None
    where: Filter | None

    def of(self, event: Event) -> int | None:
        """The number of a single event; None stands for the smallest of no events, and the largest."""
        value = 1 if self.column is None else event.get(self.column)
        if value is None or not passes(self.where, event):
            return None if self.measure in ("min", "max") else 0
        if self.measure == "count":
            return 1
        number = int(value)
        return number * number if self.measure == "squares" else number

    def of_all(self, past: Past) -> list[int | None]:
        """What `of` gives for each event."""
        values = [1] * len(past.times_us) if self.column is None else past.column(self.column)
        if self.where is not None:
            values = passing(self.where, past, values)
        if self.measure == "count":
            return [0 if value is None else 1 for value in values]
        if self.measure == "squares":
            return [0 if value is None else int(value) ** 2 for value in values]
        nothing = None if self.measure in ("min", "max") else 0
        return [nothing if value is None else int(value) for value in values]

    def fold(self, numbers: Iterable[int | None]) -> int | None:
        """The number of all events together."""
        if self.measure in ("min", "max"):
            known = [number for number in numbers if number is not None]
            return (min if self.measure == "min" else max)(known, default=None)
        return sum(numbers)  # type: ignore[arg-type]  # only extremes may be None

    # What is read of a window is what would be in a tile of its length.
    total = fold


@dataclass(frozen=True)
class Values:
    """One set of a tile: the different values of a column, at most `cap` of them.

    The union of such sets reaches the cap exactly when the set of all values does.
    """

    column: str
    where: Filter | None
    cap: int

    def of(self, event: Event) -> list[Any]:
        """The set of a single event."""
        value = event.get(self.column)
        return [] if value is None or not passes(self.where, event) else [shortened(value)]

    def of_all(self, past: Past) -> list[list[Any]]:
        """What `of` gives for each event."""
        values = past.column(self.column)
        if self.where is not None:
            values = passing(self.where, past, values)
        # Kept, because what occurs once mostly occurs again.
        sets = {value: [shortened(value)] for value in set(values) if value is not None}
        return [[] if value is None else sets[value] for value in values]

    def fold(self, sets: Iterable[Sequence[Any]]) -> list[Any]:
        """The set of all events together, in the order in which their values first came."""
        return list(dict.fromkeys(value for values in sets for value in values))[: self.cap]

    def total(self, sets: Sequence[Sequence[Any]]) -> int:
        """How many different values there are, at most `cap`."""
        return min(len(set().union(*sets)), self.cap)


Measure = Number | Values


def shortened(value: Any) -> Any:
    """A value as sets hold it: of a long text, a digest of 96 bits, so that a set is small however long ids are."""
    if not isinstance(value, str) or len(value) < _LONG_TEXT:
        return value
    return b64encode(hashlib.blake2b(value.encode(), digest_size=12).digest()).decode()


def passes(where: Filter | None, event: Event) -> bool:
    """Whether an event passes a filter; one without the filtered value does not."""
    if where is None:
        return True
    value = event.get(where.column)
    if value is None:
        return False
    return bool(value < where.value if where.op == "<" else value >= where.value)


def passing(where: Filter, past: Past, values: Sequence[Any]) -> list[Any]:
    """Of each event a value, None where the event does not pass a filter."""
    filtered = past.column(where.column)
    if where.op == "<":
        return [v if f is not None and f < where.value else None for v, f in zip(values, filtered, strict=True)]
    return [v if f is not None and f >= where.value else None for v, f in zip(values, filtered, strict=True)]
