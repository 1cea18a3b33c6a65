"""Which rows of a run are compared with a baseline: those that the champion has not seen, and their newest week."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from components.profiles.calibration import WEEK_US
from components.profiles.counting import Profile, merge, profile
from components.profiles.layout import Layout

ALL_ROWS, NEW_ROWS = "all rows", "all new rows"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class Period:
    """Some rows that follow each other in time.

    Attributes:
        name: for people.
        first_us, last_us: event times of the first and the last row.
        rows: how many.
    """

    name: str
    first_us: int
    last_us: int
    rows: int

    @property
    def first(self) -> datetime:
        return _time(self.first_us)

    @property
    def last(self) -> datetime:
        return _time(self.last_us)

    def to_dict(self) -> dict[str, Any]:
        """The times as ISO 8601 in UTC."""
        return {"name": self.name, "from": self.first.isoformat(), "to": self.last.isoformat(), "rows": self.rows}

    @staticmethod
    def from_dict(raw: dict[str, Any]) -> Period:
        """Reads back `to_dict`."""
        first, last = ((datetime.fromisoformat(raw[key]) - _EPOCH) // _MICROSECOND for key in ("from", "to"))
        return Period(raw["name"], first, last, raw["rows"])


def plan(times_us: npt.NDArray[np.int64], seen_us: int) -> tuple[Period, ...]:
    """The periods that are compared, the longest first; all end with the last row.

    These are the rows behind what the champion was trained on, or all where those span less than a week, of which
    little can be said; and, where they span two weeks, the newest week besides: a fault that began in it would be
    thinned by the months before it.

    Args:
        times_us: event times of this run's rows, ascending; at least one.
        seen_us: the last event time of the baseline.
    """
    new = times_us[np.searchsorted(times_us, seen_us, side="right") :]
    enough = len(new) and new[-1] - new[0] >= WEEK_US
    whole = _period(NEW_ROWS, new) if enough else _period(ALL_ROWS, times_us)
    if whole.last_us - whole.first_us < 2 * WEEK_US:
        return (whole,)
    newest = times_us[np.searchsorted(times_us, whole.last_us - WEEK_US, side="right") :]
    return whole, _period(f"the week from {_time(int(newest[0])):%Y-%m-%d}", newest)


def profiles(batches: Iterable[pa.Table], periods: tuple[Period, ...], layout: Layout) -> tuple[Profile, ...]:
    """The profile of each period, in one pass.

    Args:
        batches: of all rows that the periods were planned on, with `event_time` ascending.
        periods: as `plan` gives them.
        layout: of the baseline.
    """
    begins = [period.first_us for period in periods]
    parts: list[list[Profile]] = [[] for _ in periods]
    for batch in batches:
        time_us = batch["event_time"].cast(pa.int64()).to_numpy()
        edges = [*np.searchsorted(time_us, begins).tolist(), batch.num_rows]
        for part, begin, end in zip(parts, edges, edges[1:], strict=False):
            if begin < end:
                part[:] = [merge([*part, profile(batch.slice(begin, end - begin), layout)])]
    return tuple(merge(one for part in parts[place:] for one in part) for place in range(len(parts)))


def _period(name: str, times_us: npt.NDArray[np.int64]) -> Period:
    return Period(name, int(times_us[0]), int(times_us[-1]), len(times_us))


def _time(us: int) -> datetime:
    return _EPOCH + us * _MICROSECOND
