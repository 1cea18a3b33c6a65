"""The events of one key in time, or its labels: the newest few, tiles, and single ones for as long as they may matter.

A row holds the newest events and the open tiles, and another the closed tiles of each hop: they say all that a
transaction sees that comes in order.  What came within the allowed lateness and one of the finest hops lies in rows of
its own beside them, for those that come late.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from schemas.features import LOOK_BACK
from schemas.transaction import SECOND_US
from serving.features.encoding import decode, encode
from serving.features.folding import Event, Measure
from serving.features.keys import STATE, floor, time_at, time_key
from serving.features.past import Past
from serving.features.table import KeyRange, Plan, Range, Row, one
from serving.features.tiles import Asked, Closed, Tile, Tiling

_LOOK_BACK_US, _LOOK_BACK_HOP_US = LOOK_BACK.length_s * SECOND_US, LOOK_BACK.hop_s * SECOND_US
# So many single events come between two looks for those that nobody asks for any more.
_PRUNED_EVERY = 16

# What marks the row of the open tiles, before those of the closed ones.
OPEN = b"\0"

# An event as it is kept: its time, its id, and the columns that are asked for after it came.
Kept = list[Any]


@dataclass(frozen=True)
class Single:
    """One event that is kept as it came."""

    time_us: int
    event: Event


@dataclass(slots=True)
class State:
    """What the rows of a series hold for one key that has events.

    Attributes:
        newest_us: the time of the newest event.
        added: how many single events came since those that nobody asks for were looked for.
        newest: the newest events, oldest first.
        open_tiles: the newest tile of each hop.
        closed: those before it, by the number of their hop.
    """

    newest_us: int
    added: int
    newest: list[Kept]
    open_tiles: list[Tile]
    closed: list[Closed]


@dataclass(frozen=True)
class View:
    """What a transaction sees of a series.

    Attributes:
        time_us: the transaction's time.
        newest_us: the time of the newest event that had come, None without one; it may be behind the transaction's.
        state: of the key, None for one without events; it changes when the transaction is added.
        previous: the newest events before the transaction within the look-back, newest first.
        totals: what is asked for of windows, as the tiling counts it.
    """

    time_us: int
    newest_us: int | None
    state: State | None
    previous: list[Single]
    totals: list[Any]


class Series:
    """How the events of a kind of key are kept.

    Args:
        mark: a byte that tells its rows from others of the same key.
        asked: what is asked for of windows.
        columns: what of an event is kept with it.
        keep: how many events before a transaction are asked for.
        hops_us: the hops that heads of windows may be filled from.
        lateness_us: how much older than the newest an event may come without loss.
    """

    def __init__(
        self,
        mark: bytes,
        asked: Iterable[Asked],
        columns: Iterable[str],
        keep: int,
        hops_us: Collection[int],
        lateness_us: int,
    ) -> None:
        self._mark = mark
        self.tiling = Tiling(asked, hops_us)
        self._columns = tuple(sorted(columns))
        self._keep = keep
        self._lateness_us = lateness_us
        self._finest_us = self.tiling.finest_us or SECOND_US

    def view(self, rows: Mapping[bytes, bytes], prefix: bytes, time_us: int) -> Plan[View]:
        """What a transaction at a time sees of the series of one key.

        Args:
            rows: of the key's state, by what follows `STATE` in their keys.
            prefix: of the key.
            time_us: the transaction's time.
        """
        state = self._state(rows)
        if state is None:
            return View(time_us, None, None, [], self.tiling.empty())
        oldest_us = floor(time_us - _LOOK_BACK_US, _LOOK_BACK_HOP_US)
        if state.newest_us < time_us:
            totals = self.tiling.totals(state.open_tiles, state.closed, time_us)
            previous = [Single(at_us, self._event(kept)) for at_us, _, kept in reversed(state.newest)]
            return View(
                time_us, state.newest_us, state, [single for single in previous if single.time_us >= oldest_us], totals
            )
        first = prefix + self._mark
        now = first + time_key(time_us)
        newest, in_finest = yield [
            Range(first, now, self._keep, last=True),
            Range(first + time_key(floor(time_us, self._finest_us)), now),
        ]
        singles = [(time_at(key, len(first)), self._event(decode(columns))) for key, columns in in_finest]
        totals = self.tiling.totals_before(state.open_tiles, state.closed, time_us, singles)
        previous = [Single(time_at(key, len(first)), self._event(decode(columns))) for key, columns in newest]
        return View(
            time_us, state.newest_us, state, [single for single in previous if single.time_us >= oldest_us], totals
        )

    def add(self, prefix: bytes, view: View, key: str, event: Event) -> Plan[tuple[list[Row], list[KeyRange]]]:
        """The rows to write, and those to forget, for an event at the time of the view, whose state changes with it."""
        time_us, state = view.time_us, view.state
        kept = [time_us, key, [event.get(column) for column in self._columns]]
        rows = [self._single_row(prefix, kept)]
        tiles = self.tiling.singles(time_us, event)
        if state is None:
            state = State(time_us, 1, [kept][: self._keep], tiles, [])
            return [*rows, self._open_row(prefix, state)], []
        state.newest_us = max(state.newest_us, time_us)
        state.added += 1
        self._remember(state, kept)
        oldest_us = state.newest_us - self._lateness_us
        for number, (level, tile) in enumerate(zip(self.tiling.levels, tiles, strict=True)):
            newest = state.open_tiles[number]
            if tile[0] == newest[0]:
                state.open_tiles[number] = level.fold(newest, tile)
                continue
            if tile[0] > newest[0]:
                level.close(state.closed[number], newest, oldest_us)
                state.open_tiles[number] = tile
            else:
                level.put(state.closed[number], tile)
            rows.append((self._closed_key(prefix, number), encode(state.closed[number])))
        forgotten = []
        if state.added >= _PRUNED_EVERY:
            state.added = 0
            forgotten = yield from self._outdated_singles(prefix, oldest_us)
        return [*rows, self._open_row(prefix, state)], forgotten

    def left(self, past: Past, from_us: int) -> Callable[[bytes, Sequence[int]], list[Row]]:
        """How to tell which rows the events of one key leave behind.

        Args:
            past: events of all keys before `from_us`.
            from_us: the earliest time at which a transaction may yet come; what none of them looks at is left out.

        Returns:
            a function of the key's prefix and of the rows of its events in `past`.
        """
        folded_of: dict[Measure, list[Any]] = {measure: list(measure.of_all(past)) for measure in self.tiling.measures}
        kept_columns = [past.column(name) for name in self._columns]
        begins = [level.begin(from_us) * level.hop_us for level in self.tiling.levels]
        oldest = past.first_row(min([floor(from_us - _LOOK_BACK_US, _LOOK_BACK_HOP_US), *begins]))
        in_finest = past.first_row(floor(from_us, self._finest_us))

        def of_key(prefix: bytes, rows: Sequence[int]) -> list[Row]:
            rows = rows[bisect_left(rows, oldest) :]
            if not rows:
                return []
            times_us = [past.times_us[row] for row in rows]
            columns = {measure: [folded[row] for row in rows] for measure, folded in folded_of.items()}

            def fold(measure: Measure, begin: int, end: int) -> Any:
                column = columns[measure]
                return column[begin] if end == begin + 1 else measure.fold(column[begin:end])

            def single(row: int) -> Kept:
                return [past.times_us[row], past.ids[row], [kept[row] for kept in kept_columns]]

            first_kept = max(len(rows) - self._keep, 0)
            newest = [single(row) for row in rows[first_kept:]]
            singles = [single(row) for row in rows[min(bisect_left(rows, in_finest), first_kept) :]]
            open_tiles, closed = self.tiling.folded(times_us, fold, from_us, self._lateness_us)
            state = State(times_us[-1], 0, newest, open_tiles, closed)
            return [
                self._open_row(prefix, state),
                *((self._closed_key(prefix, n), encode(columns)) for n, columns in enumerate(closed) if columns[0]),
                *(self._single_row(prefix, one_kept) for one_kept in singles),
            ]

        return of_key

    def holds(self, prefix: bytes, time_us: int, key: str) -> Plan[bool]:
        """Whether an event is still kept singly."""
        [found] = yield [one(prefix + self._mark + time_key(time_us) + key.encode())]
        return bool(found)

    def oldest_us(self, view: View) -> int:
        """The earliest time at which an event may yet come without loss, once there is one at the view's time."""
        newest_us = view.time_us if view.newest_us is None else max(view.newest_us, view.time_us)
        return newest_us - self._lateness_us

    def _state(self, rows: Mapping[bytes, bytes]) -> State | None:
        written = rows.get(self._mark + OPEN)
        if written is None:
            return None
        newest_us, added, newest, open_tiles = decode(written)
        closed: list[Closed] = []
        for number, tile in enumerate(open_tiles, start=1):
            columns = rows.get(self._mark + bytes([number]))
            closed.append([[] for _ in tile] if columns is None else decode(columns))
        return State(newest_us, added, newest, open_tiles, closed)

    def _open_row(self, prefix: bytes, state: State) -> Row:
        key = prefix + STATE + self._mark + OPEN
        return key, encode([state.newest_us, state.added, state.newest, state.open_tiles])

    def _closed_key(self, prefix: bytes, level: int) -> bytes:
        return prefix + STATE + self._mark + bytes([level + 1])

    def _single_row(self, prefix: bytes, kept: Kept) -> Row:
        at_us, key, columns = kept
        return prefix + self._mark + time_key(at_us) + key.encode(), encode(columns)

    def _event(self, columns: list[Any]) -> Event:
        return dict(zip(self._columns, columns, strict=True))

    def _remember(self, state: State, kept: Kept) -> None:
        """Puts an event among the newest; texts compare as their UTF-8 bytes do."""
        at = bisect_left(state.newest, kept[:2], key=lambda other: other[:2])
        after = at + 1 if at < len(state.newest) and state.newest[at][:2] == kept[:2] else at
        newest = [*state.newest[:at], kept, *state.newest[after:]]
        state.newest = newest[max(len(newest) - self._keep, 0) :]

    def _outdated_singles(self, prefix: bytes, oldest_us: int) -> Plan[list[KeyRange]]:
        """The singles that nobody asks for any more."""
        first = prefix + self._mark
        [kept] = yield [Range(first, first + time_key(oldest_us), self._keep, last=True)]
        if len(kept) < self._keep:
            return []
        end = first + time_key(floor(oldest_us, self._finest_us))
        return [(first, min([end, *(key for key, _ in kept)]))]


def newest_us(written: bytes) -> int:
    """The time of the newest event, as the row of the open tiles tells it."""
    newest: int = decode(written)[0]
    return newest
