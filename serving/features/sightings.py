"""When a key was seen with a value: three times that answer for any transaction within the allowed lateness."""

from __future__ import annotations

import struct
from typing import NamedTuple

_NEVER = -(1 << 63)
_FORMAT = struct.Struct(">qqq")


class Sightings(NamedTuple):
    """Event times, in microseconds, of the events that had the value.

    Attributes:
        settled: the latest that everything yet to come lies behind.
        early: the first behind it when `last` came.
        last: the latest.
    """

    settled: int
    early: int
    last: int

    def within(self, begin_us: int, end_us: int) -> bool:
        """Whether one of them lies in [begin, end), for an end within the allowed lateness and a begin long before."""
        if self.last < end_us:
            return self.last >= begin_us
        # Between `early` and `last` lies no more than the lateness, so what came between need not be known.
        return (self.early if self.early < end_us else self.settled) >= begin_us

    def pack(self) -> bytes:
        """The bytes that `unpack` reads."""
        return _FORMAT.pack(*self)

    @staticmethod
    def unpack(packed: bytes) -> Sightings:
        """Reads back `pack`."""
        return Sightings(*_FORMAT.unpack(packed))


def sighted(before: Sightings | None, time_us: int, oldest_us: int) -> Sightings:
    """The sightings with one more; `oldest_us` is the earliest time at which a transaction may yet come."""
    if before is None:
        return Sightings(_NEVER, time_us, time_us)
    settled, early, last = before
    if time_us < oldest_us:
        return Sightings(max(settled, time_us), early, max(last, time_us))
    if last < oldest_us:
        return Sightings(last, time_us, time_us)
    if early < oldest_us:
        return Sightings(max(settled, early), min(last, time_us), max(last, time_us))
    return Sightings(settled, min(early, time_us), max(last, time_us))
