"""Windows as tiles: the events of each hop folded into one row, and finer tiles for the head of coarser windows.

A window of hop h at time t is made of the tiles of h before floor(t, h), then of the next finer hop's tiles up to t's
own, and so on, and of single events behind the last boundary of the finest.  No tile on that way holds an event at t or
later, so that an answer is exact although later events have come already.  As long as none has, which is the rule, the
tiles of h alone hold the same, the last one included.

What is kept per key: of each hop h of a window of length w, the tiles of w plus the allowed lateness, and two.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from schemas.features import Window
from schemas.transaction import SECOND_US
from serving.features.encoding import decode, encode
from serving.features.keys import floor, time_key
from serving.features.table import KeyRange, Range, Row

# The folded events of one hop, as JSON holds them: a list whose entries the owner of the tiling knows.
Tile = list[Any]


@dataclass(frozen=True)
class Level:
    """The tiles of one hop.

    Attributes:
        hop_us: their length.
        longest_us: length of the longest window made of them, 0 where they only fill heads.
        fills_us: the hops whose heads they fill.
    """

    hop_us: int
    longest_us: int
    fills_us: tuple[int, ...]

    def begin(self, time_us: int, late: bool) -> int:
        """The first tile that a transaction at a time looks at."""
        begins = [floor(time_us - self.longest_us, self.hop_us)]
        if late:
            begins += [floor(time_us, coarser) for coarser in self.fills_us]
        return min(begins)


@dataclass(frozen=True)
class Loaded:
    """Tiles of one key, as a transaction sees them.

    Attributes:
        columns: of each window of the tiling, what its tiles hold in each place, nothing where it has none; single
            events stand as tiles of their own.
        own: of each hop, finest first, the transaction's tile with all that has come, None where there is none or it
            was not asked for.
    """

    columns: list[list[tuple[Any, ...]]]
    own: list[Tile | None]


class Tiling:
    """The tiles from which the windows of one key are made.

    Args:
        mark: tells its rows from others of the same key.
        windows: what is asked for.
        hops_us: the hops that there may be tiles of.
    """

    def __init__(self, mark: bytes, windows: Iterable[Window], hops_us: Collection[int]) -> None:
        self.windows = tuple(dict.fromkeys(windows))
        self._spans = [(w.length_s * SECOND_US, w.hop_s * SECOND_US) for w in self.windows]
        self._chains = {hop: chain(hop, hops_us) for _, hop in self._spans}
        self.finest_us = max((hops[-1] for hops in self._chains.values()), default=0)
        self.levels = tuple(
            Level(
                hop,
                max((length for length, of_window in self._spans if of_window == hop), default=0),
                tuple({coarser for hops in self._chains.values() for coarser, finer in pairwise(hops) if finer == hop}),
            )
            for hop in sorted({hop for hops in self._chains.values() for hop in hops})
        )
        self._marks = [mark + bytes([number]) for number in range(len(self.levels))]

    def nothing(self) -> Loaded:
        """What the first transaction of a key sees."""
        return Loaded([[] for _ in self._spans], [None for _ in self.levels])

    def ranges(self, prefix: bytes, time_us: int, late: bool, adds: bool) -> list[Range]:
        """What `load` needs of a key, by the same arguments."""
        return [
            Range(key + time_key(level.begin(time_us, late)), key + time_key(floor(time_us, level.hop_us) + 1))
            for level, key in self._wanted(prefix, late, adds)
        ]

    def load(
        self,
        read: Sequence[Sequence[Row]],
        prefix: bytes,
        time_us: int,
        late: bool,
        adds: bool,
        singles: Sequence[tuple[int, Tile]],
    ) -> Loaded:
        """What a transaction at a time sees.

        Args:
            read: the rows of `ranges`.
            prefix: of the key.
            time_us: the transaction's time.
            late: whether an event at that time or after it has come.
            adds: whether the own tiles are wanted as well.
            singles: where one has, the events before the transaction in its finest hop, by time.
        """
        # The bytes of keys are in the order of their times, so that no time has to be read back.
        starts: dict[int, tuple[bytes, list[bytes]]] = {}
        tiles: dict[int, list[Tile]] = {}
        newest: dict[int, Tile] = {}
        for (level, key), rows in zip(self._wanted(prefix, late, adds), read, strict=True):
            hop = level.hop_us
            starts[hop] = key, [row[0] for row in rows]
            tiles[hop] = decode(b"[" + b",".join([row[1] for row in rows]) + b"]") if rows else []
            if rows and rows[-1][0] == key + time_key(floor(time_us, hop)):
                newest[hop] = tiles[hop][-1]
        own = [newest.get(level.hop_us) for level in self.levels]

        def first(hop: int, from_us: int) -> int:
            key, keys = starts[hop]
            return bisect_left(keys, key + time_key(from_us))

        columns = []
        for length, hop in self._spans:
            begin = floor(time_us - length, hop)
            if not late:
                columns.append(list(zip(*tiles[hop][first(hop, begin) :], strict=True)))
                continue
            found = []
            for level_us in self._chains[hop]:
                end = floor(time_us, level_us)
                found += tiles[level_us][first(level_us, begin) : first(level_us, end)]
                begin = end
            found += [tile for single_us, tile in singles if single_us >= begin]
            columns.append(list(zip(*found, strict=True)))
        return Loaded(columns, own)

    def _wanted(self, prefix: bytes, late: bool, adds: bool) -> list[tuple[Level, bytes]]:
        """The levels that are looked at, and what the keys of their rows begin with."""
        return [
            (level, prefix + mark)
            for level, mark in zip(self.levels, self._marks, strict=True)
            if level.longest_us or late or adds
        ]

    def rows(self, prefix: bytes, time_us: int, tiles: Iterable[Tile | None]) -> list[Row]:
        """The rows of a transaction's tiles, of each hop the finest first; None leaves a row as it is."""
        return [
            (prefix + mark + time_key(floor(time_us, level.hop_us)), encode(tile))
            for level, mark, tile in zip(self.levels, self._marks, tiles, strict=True)
            if tile is not None
        ]

    def begins(self, from_us: int) -> list[int]:
        """Of each hop, finest first, the first tile that a transaction at `from_us` or later looks at."""
        return [level.begin(from_us, late=True) for level in self.levels]

    def folded(
        self, prefix: bytes, times_us: Sequence[int], fold: Callable[[int, int], Tile], begins: Sequence[int]
    ) -> list[Row]:
        """The rows of all tiles that hold events, of each hop from the first that is wanted on.

        Args:
            prefix: of the key.
            times_us: of the key's events, ascending.
            fold: makes the tile of the events from one place up to another.
            begins: as the method of that name gives them.
        """
        rows = []
        for level, mark, begin in zip(self.levels, self._marks, begins, strict=True):
            key, hop = prefix + mark, level.hop_us
            at = bisect_left(times_us, begin)
            while at < len(times_us):
                start = floor(times_us[at], hop)
                end = bisect_left(times_us, start + hop, at)
                rows.append((key + time_key(start), encode(fold(at, end))))
                at = end
        return rows

    def outdated(self, prefix: bytes, loaded: Loaded, oldest_us: int) -> list[KeyRange]:
        """The tiles that nobody at or after `oldest_us` looks at, of each hop in which a transaction opens a tile."""
        return [
            (prefix + mark, prefix + mark + time_key(level.begin(oldest_us, late=True)))
            for level, mark, tile in zip(self.levels, self._marks, loaded.own, strict=True)
            if tile is None
        ]


def chain(hop_us: int, hops_us: Collection[int]) -> tuple[int, ...]:
    """A hop and the ever finer ones that fill its head, each dividing the one before."""
    found = [hop_us]
    while finer := [hop for hop in hops_us if hop < found[-1] and found[-1] % hop == 0]:
        found.append(max(finer))
    return tuple(found)
