"""Windows as tiles: the events of each hop folded into one tile, and finer tiles for the head of coarser windows.

A window of hop h at time t is made of the tiles of h before floor(t, h), then of the next finer hop's tiles up to t's
own, and so on, and of single events behind the last boundary of the finest.  No tile on that way holds an event at t or
later, so that an answer is exact although later events have come already.  As long as none has, which is the rule, the
tiles of h alone hold the same, the last one included.

A tile has a number, that of its hop since the Unix epoch.  The newest of each hop is open and lies in one row with the
others that are, so that an event mostly changes one small row; those before it are closed and lie in columns in a row
of their own.  What is kept per key: of each hop h of a window of length w, the tiles of w plus the allowed lateness,
and two.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

from schemas.features import Window
from schemas.transaction import SECOND_US
from serving.features.folding import Event, Measure, Number, Values
from serving.features.keys import floor

# The number of a hop, and what is folded of its events by each measure of the level.
Tile = list[Any]
# Tiles in columns: their numbers, ascending, and what they hold by each measure of the level.
Closed = list[list[Any]]
Asked = tuple[Measure, Window]


@dataclass(frozen=True)
class Reach:
    """How long the tiles of a hop are looked at.

    Attributes:
        longest_us: length of the longest window of this hop, 0 where the tiles only fill heads.
        fills_us: the hops whose heads they fill.
    """

    longest_us: int
    fills_us: frozenset[int]

    def begin(self, time_us: int, hop_us: int) -> int:
        """The number of the earliest tile that a transaction at a time looks at, should it be late."""
        starts = [floor(time_us, coarser) for coarser in self.fills_us]
        return min(time_us - self.longest_us, *starts, time_us) // hop_us


class Level:
    """The tiles of one hop.

    Args:
        hop_us: their length.
        held: the measures that fold them, each with how long it is looked at.
    """

    def __init__(self, hop_us: int, held: Mapping[Measure, Reach]) -> None:
        self.hop_us = hop_us
        self.measures = tuple(held)
        longest_us = max(reach.longest_us for reach in held.values())
        self._reach = Reach(longest_us, frozenset().union(*(reach.fills_us for reach in held.values())))
        # Sets are large; where only the numbers beside them are still looked at, nothing stays of them.
        self._sets = [
            (place, reach)
            for place, (measure, reach) in enumerate(held.items(), start=1)
            if isinstance(measure, Values) and reach != self._reach
        ]

    def place(self, measure: Measure) -> int:
        """Where in its tiles a measure stands."""
        return self.measures.index(measure) + 1

    def begin(self, time_us: int) -> int:
        """The number of the earliest tile that a transaction at a time looks at, should it be late."""
        return self._reach.begin(time_us, self.hop_us)

    def fold(self, tile: Tile, single: Tile) -> Tile:
        """A tile with one more event of its hop."""
        folded = [measure.fold(pair) for measure, *pair in zip(self.measures, tile[1:], single[1:], strict=True)]
        return [tile[0], *folded]

    def put(self, closed: Closed, single: Tile) -> None:
        """Puts one more event of an earlier hop than the open one's among closed tiles."""
        at = bisect_left(closed[0], single[0])
        if at < len(closed[0]) and closed[0][at] == single[0]:
            single = self.fold([column.pop(at) for column in closed], single)
        for column, value in zip(closed, single, strict=True):
            column.insert(at, value)

    def close(self, closed: Closed, tile: Tile, oldest_us: int) -> None:
        """Puts the newest tile behind closed ones, and takes away what nobody at `oldest_us` or later looks at."""
        for column, value in zip(closed, tile, strict=True):
            column.append(value)
        self.forget(closed, oldest_us)

    def forget(self, closed: Closed, oldest_us: int) -> None:
        """Takes from closed tiles what nobody at `oldest_us` or later looks at."""
        numbers = closed[0]
        outdated = bisect_left(numbers, self.begin(oldest_us))
        if outdated:
            for column in closed:
                del column[:outdated]
        for place, reach in self._sets:
            outdated = bisect_left(numbers, reach.begin(oldest_us, self.hop_us))
            closed[place][:outdated] = [[]] * outdated


class _Wanted(NamedTuple):
    """What a window is asked for: how it is read, its place in the tiles of the window's hop, and among the answers."""

    measure: Measure
    total: Callable[[Any], Any]
    place: int
    answer: int


def _total(measure: Measure) -> Callable[[Any], Any]:
    """How a measure is read; sums, which most are, without a way round."""
    return sum if isinstance(measure, Number) and measure.measure in ("count", "sum", "squares") else measure.total


class Tiling:
    """The tiles from which the windows of one key are made.

    Args:
        asked: what is asked for.
        hops_us: the hops that there may be tiles of.
    """

    def __init__(self, asked: Iterable[Asked], hops_us: Collection[int]) -> None:
        asked = list(dict.fromkeys(asked))
        self._chains = {hop: chain(hop, hops_us) for hop in {w.hop_s * SECOND_US for _, w in asked}}
        hops = sorted({hop for hops in self._chains.values() for hop in hops})
        self.levels = tuple(self._level(hop, asked) for hop in hops)
        self.finest_us = hops[0] if hops else 0
        self._spans = []
        for window in dict.fromkeys(window for _, window in asked):
            length_us, hop_us = window.length_s * SECOND_US, window.hop_s * SECOND_US
            level = hops.index(hop_us)
            wanted = [
                _Wanted(measure, _total(measure), self.levels[level].place(measure), answer)
                for answer, (measure, of_window) in enumerate(asked)
                if of_window == window
            ]
            self._spans.append((level, length_us, hop_us, wanted))
        self.measures = tuple(dict.fromkeys(measure for measure, _ in asked))
        self._places = [[self.measures.index(measure) for measure in level.measures] for level in self.levels]
        self._answers = {one: answer for answer, one in enumerate(asked)}

    def _level(self, hop_us: int, asked: Sequence[Asked]) -> Level:
        held = {}
        for measure in dict.fromkeys(measure for measure, _ in asked):
            windows = [window for one, window in asked if one == measure]
            lengths = [w.length_s * SECOND_US for w in windows if w.hop_s * SECOND_US == hop_us]
            fills = frozenset(
                coarser
                for window in windows
                for coarser, finer in pairwise(self._chains[window.hop_s * SECOND_US])
                if finer == hop_us
            )
            if lengths or fills:
                held[measure] = Reach(max(lengths, default=0), fills)
        return Level(hop_us, held)

    def answer(self, asked: Asked) -> int:
        """Where among the totals an answer stands."""
        return self._answers[asked]

    def singles(self, time_us: int, event: Event) -> list[Tile]:
        """The tiles of one event, of each level."""
        values = [measure.of(event) for measure in self.measures]
        return [
            [time_us // level.hop_us, *[values[place] for place in places]]
            for level, places in zip(self.levels, self._places, strict=True)
        ]

    def empty(self) -> list[Any]:
        """The totals of windows without events."""
        return [measure.total(()) for measure, _ in self._answers]

    def totals(self, open_tiles: Sequence[Tile], closed: Sequence[Closed], time_us: int) -> list[Any]:
        """What a transaction sees that no event at its time or later has come before.

        Args:
            open_tiles: the newest tile of each level.
            closed: those before it.
            time_us: of the transaction.
        """
        totals: list[Any] = [None] * len(self._answers)
        for level, length_us, hop_us, wanted in self._spans:
            begin, tile, columns = (time_us - length_us) // hop_us, open_tiles[level], closed[level]
            first = bisect_left(columns[0], begin)
            is_open = tile[0] >= begin
            for _, total, place, answer in wanted:
                found = columns[place][first:]
                if is_open:
                    found.append(tile[place])
                totals[answer] = total(found)
        return totals

    def totals_before(
        self, open_tiles: Sequence[Tile], closed: Sequence[Closed], time_us: int, singles: Sequence[tuple[int, Event]]
    ) -> list[Any]:
        """What a transaction sees that comes late; `singles` are the events before it in its finest hop, by time."""
        totals: list[Any] = [None] * len(self._answers)
        number_of = {level.hop_us: number for number, level in enumerate(self.levels)}
        for _, length_us, hop_us, wanted in self._spans:
            for measure, total, _, answer in wanted:
                begin_us, found = floor(time_us - length_us, hop_us), []
                for finer_us in self._chains[hop_us]:
                    level = number_of[finer_us]
                    place, tile, columns = self.levels[level].place(measure), open_tiles[level], closed[level]
                    begin, end = begin_us // finer_us, time_us // finer_us
                    found += columns[place][bisect_left(columns[0], begin) : bisect_left(columns[0], end)]
                    if begin <= tile[0] < end:
                        found.append(tile[place])
                    begin_us = floor(time_us, finer_us)
                found += [measure.of(event) for single_us, event in singles if single_us >= begin_us]
                totals[answer] = total(found)
        return totals

    def folded(
        self, times_us: Sequence[int], fold: Callable[[Measure, int, int], Any], from_us: int, lateness_us: int
    ) -> tuple[list[Tile], list[Closed]]:
        """The tiles of all events of a key that some transaction at `from_us` or later looks at, and the open ones.

        Args:
            times_us: of the key's events, ascending; one at least.
            fold: what a measure makes of the events from one place up to another.
            from_us: the earliest time at which a transaction may yet come.
            lateness_us: how much older than the newest an event may come.
        """
        open_tiles, all_closed = [], []
        for level in self.levels:
            hop = level.hop_us
            newest = times_us[-1] // hop
            opened = bisect_left(times_us, newest * hop)
            open_tiles.append([newest, *(fold(measure, opened, len(times_us)) for measure in level.measures)])
            # As they were left when the open one was opened, and without what has run out since.
            oldest_us = max(times_us[opened] - lateness_us, from_us)
            at = bisect_left(times_us, level.begin(oldest_us) * hop)
            tiles = []
            while at < opened:
                number = times_us[at] // hop
                end = bisect_left(times_us, (number + 1) * hop, at)
                tiles.append([number, *(fold(measure, at, end) for measure in level.measures)])
                at = end
            columns = [list(column) for column in zip(*tiles, strict=True)] or [[] for _ in open_tiles[-1]]
            level.forget(columns, oldest_us)
            all_closed.append(columns)
        return open_tiles, all_closed


def chain(hop_us: int, hops_us: Collection[int]) -> tuple[int, ...]:
    """A hop and the ever finer ones that fill its head, each dividing the one before."""
    found = [hop_us]
    while finer := [hop for hop in hops_us if hop < found[-1] and found[-1] % hop == 0]:
        found.append(max(finer))
    return tuple(found)
