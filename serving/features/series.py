"""The events of one key in time, or its labels: single ones for as long as they may matter singly, tiles for the rest.

What is kept singly: what came within the allowed lateness and one or two of the finest hops, and the newest few before.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from schemas.features import LOOK_BACK, Window
from schemas.transaction import SECOND_US
from serving.features.encoding import decode, encode
from serving.features.folding import (
    Event,
    Number,
    Values,
    fold_numbers,
    fold_values,
    single_numbers,
    single_values,
)
from serving.features.keys import floor, time_at, time_key
from serving.features.past import Past
from serving.features.table import KeyRange, Plan, Range, Row, one
from serving.features.tiles import Loaded, Tile, Tiling

_LOOK_BACK_US, _LOOK_BACK_HOP_US = LOOK_BACK.length_s * SECOND_US, LOOK_BACK.hop_s * SECOND_US


@dataclass(frozen=True)
class Single:
    """One event that is kept as it came."""

    time_us: int
    event: Event


@dataclass(frozen=True)
class View:
    """What a transaction sees of a series.

    Attributes:
        time_us: the transaction's time.
        newest_us: the time of the newest event that has come, None without one; it may be behind the transaction's.
        previous: the newest events before the transaction within the look-back, newest first.
        numbers: the tiles of numbers.
        values: the tiles of sets.
    """

    time_us: int
    newest_us: int | None
    previous: list[Single]
    numbers: Loaded
    values: Loaded


class Series:
    """How the events of a kind of key are kept.

    Args:
        marks: three bytes that tell its rows from others of the same key: singles, numbers, sets.
        numbers: what is asked for, with the windows.
        values: the same for sets.
        columns: what of an event is kept with it.
        keep: how many events before a transaction are asked for.
        hops_us: the hops that heads of windows may be filled from.
        lateness_us: how much older than the newest an event may come without loss.
    """

    def __init__(
        self,
        marks: bytes,
        numbers: Iterable[tuple[Number, Window]],
        values: Iterable[tuple[Values, Window]],
        columns: Iterable[str],
        keep: int,
        hops_us: Collection[int],
        lateness_us: int,
    ) -> None:
        numbers, values = list(numbers), list(values)
        self._numbers = tuple(dict.fromkeys(number for number, _ in numbers))
        self._values = tuple(dict.fromkeys(one for one, _ in values))
        self._singles, self._after_singles = marks[:1], bytes([marks[0] + 1])
        self._of_numbers = Tiling(marks[1:2], (window for _, window in numbers), hops_us)
        self._of_values = Tiling(marks[2:3], (window for _, window in values), hops_us)
        self._columns = tuple(sorted(columns))
        self._keep = keep
        self._lateness_us = lateness_us
        self._finest_us = max(self._of_numbers.finest_us, self._of_values.finest_us)

    def read(self, prefix: bytes, time_us: int, adds: bool) -> Plan[View]:
        """What a transaction at a time sees of the series of one key; `adds` where `add` is called next."""
        first = prefix + self._singles
        [newest] = yield [Range(first, prefix + self._after_singles, max(self._keep, 1), last=True)]
        if not newest:
            # The newest event is always kept singly, so there are no tiles either.
            return View(time_us, None, [], self._of_numbers.nothing(), self._of_values.nothing())
        newest_us = time_at(newest[0][0], len(first))
        late = newest_us >= time_us
        singles: list[Single] = []
        if late:
            now = first + time_key(time_us)
            newest, in_finest = yield [
                Range(first, now, self._keep, last=True),
                Range(first + time_key(floor(time_us, self._finest_us or 1)), now),
            ]
            singles = self._decode(in_finest, len(first))
        oldest_us = floor(time_us - _LOOK_BACK_US, _LOOK_BACK_HOP_US)
        previous = self._decode(newest[: self._keep], len(first))
        numbers = [(single.time_us, single_numbers(self._numbers, single.event)) for single in singles]
        values = [(single.time_us, single_values(self._values, single.event)) for single in singles]
        of_numbers = self._of_numbers.ranges(prefix, time_us, late, adds)
        read = yield [*of_numbers, *self._of_values.ranges(prefix, time_us, late, adds)]
        return View(
            time_us=time_us,
            newest_us=newest_us,
            previous=[single for single in previous if single.time_us >= oldest_us],
            numbers=self._of_numbers.load(read[: len(of_numbers)], prefix, time_us, late, adds, numbers),
            values=self._of_values.load(read[len(of_numbers) :], prefix, time_us, late, adds, values),
        )

    def total(self, number: Number, window: Window) -> Callable[[View], int | None]:
        """How a number over a window is read."""
        place, at = self._numbers.index(number), self._of_numbers.windows.index(window)
        merge = number.merge

        def total(view: View) -> int | None:
            columns = view.numbers.columns[at]
            return merge(columns[place] if columns else ())

        return total

    def distinct(self, values: Values, window: Window) -> Callable[[View], int]:
        """How the number of different values in a window is read."""
        place, at, cap = self._values.index(values), self._of_values.windows.index(window), values.cap

        def distinct(view: View) -> int:
            columns = view.values.columns[at]
            return min(len(set().union(*columns[place])), cap) if columns else 0

        return distinct

    def add(self, prefix: bytes, view: View, key: str, event: Event) -> Plan[tuple[list[Row], list[KeyRange]]]:
        """The rows to write, and those to forget, for an event at the time of the view."""
        time_us = view.time_us
        numbers, values = single_numbers(self._numbers, event), single_values(self._values, event)
        rows = [
            (self._single(prefix, time_us, key), encode([event.get(column) for column in self._columns])),
            *self._of_numbers.rows(
                prefix, time_us, [fold_numbers(self._numbers, tile, numbers) for tile in view.numbers.own]
            ),
            *self._of_values.rows(
                prefix, time_us, [fold_values(self._values, tile, values) for tile in view.values.own]
            ),
        ]
        if view.newest_us is None:
            return rows, []
        oldest_us = self.oldest_us(view)
        forgotten = [
            *self._of_numbers.outdated(prefix, view.numbers, oldest_us),
            *self._of_values.outdated(prefix, view.values, oldest_us),
            *(yield from self._outdated_singles(prefix, view, oldest_us)),
        ]
        return rows, forgotten

    def left(self, past: Past, from_us: int) -> Callable[[bytes, Sequence[int]], list[Row]]:
        """How to tell which rows the events of one key leave behind.

        Args:
            past: events of all keys before `from_us`.
            from_us: the earliest time at which a transaction may yet come; what none of them looks at is left out.

        Returns:
            a function of the key's prefix and of the rows of its events in `past`.
        """
        number_columns = [number.of_all(past) for number in self._numbers]
        set_columns = [values.of_all(past) for values in self._values]
        kept_columns = [past.column(name) for name in self._columns]
        of_numbers, of_values = self._of_numbers.begins(from_us), self._of_values.begins(from_us)
        looks_back_to_us = floor(from_us - _LOOK_BACK_US, _LOOK_BACK_HOP_US)
        oldest = past.first_row(min([looks_back_to_us, *of_numbers, *of_values]))
        in_finest = past.first_row(floor(from_us, self._finest_us or 1))

        def of_key(prefix: bytes, rows: Sequence[int]) -> list[Row]:
            rows = rows[bisect_left(rows, oldest) :]
            if not rows:
                return []
            # The newest is kept although nobody may ask for it: `read` looks for no tiles without it.
            first_single = max(min(bisect_left(rows, in_finest), len(rows) - max(self._keep, 1)), 0)
            singles = [
                (self._single(prefix, past.times_us[row], past.ids[row]), encode([kept[row] for kept in kept_columns]))
                for row in rows[first_single:]
            ]
            times_us = [past.times_us[row] for row in rows]
            numbers = [
                (number.merge, [column[row] for row in rows])
                for number, column in zip(self._numbers, number_columns, strict=True)
            ]
            sets = [
                (values.merge, [column[row] for row in rows])
                for values, column in zip(self._values, set_columns, strict=True)
            ]

            def fold_numbers(begin: int, end: int) -> Tile:
                if end == begin + 1:
                    return [column[begin] for _, column in numbers]
                return [merge(column[begin:end]) for merge, column in numbers]

            def fold_sets(begin: int, end: int) -> Tile:
                return [merge(column[begin:end]) for merge, column in sets]

            return [
                *singles,
                *self._of_numbers.folded(prefix, times_us, fold_numbers, of_numbers),
                *self._of_values.folded(prefix, times_us, fold_sets, of_values),
            ]

        return of_key

    def holds(self, prefix: bytes, time_us: int, key: str) -> Plan[bool]:
        """Whether an event is still kept singly."""
        [found] = yield [one(self._single(prefix, time_us, key))]
        return bool(found)

    def oldest_us(self, view: View) -> int:
        """The earliest time at which an event may yet come without loss, once there is one at the view's time."""
        newest_us = view.time_us if view.newest_us is None else max(view.newest_us, view.time_us)
        return newest_us - self._lateness_us

    def _single(self, prefix: bytes, time_us: int, key: str) -> bytes:
        return prefix + self._singles + time_key(time_us) + key.encode()

    def _decode(self, rows: Sequence[Row], at: int) -> list[Single]:
        return [Single(time_at(key, at), dict(zip(self._columns, decode(kept), strict=True))) for key, kept in rows]

    def _outdated_singles(self, prefix: bytes, view: View, oldest_us: int) -> Plan[list[KeyRange]]:
        """The singles that nobody asks for any more; looked for once in a hop."""
        hop_us = self._finest_us or SECOND_US
        if view.newest_us is not None and floor(view.newest_us, hop_us) >= floor(view.time_us, hop_us):
            return []
        first = prefix + self._singles
        [kept] = yield [Range(first, first + time_key(oldest_us), self._keep, last=True)]
        if len(kept) < self._keep:
            return []
        end = first + time_key(floor(oldest_us, self._finest_us or 1))
        return [(first, min([end, *(key for key, _ in kept)]))]
