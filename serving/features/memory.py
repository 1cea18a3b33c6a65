"""The table in memory: for tests, and for stores that need not outlive their process."""

from __future__ import annotations

import threading
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from serving.features.table import KeyRange, Row


class MemoryTable:
    """A sorted list of keys beside a dictionary.

    A write happens in one step at the end of its transaction, which is all that atomicity asks for here.
    """

    def __init__(self) -> None:
        self._keys: list[bytes] = []
        self._values: dict[bytes, bytes] = {}
        self._lock = threading.Lock()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Holds the table for one thread."""
        with self._lock:
            yield

    def get(self, key: bytes) -> bytes | None:
        """The value of a key, None without one."""
        return self._values.get(key)

    def scan(self, begin: bytes, end: bytes, limit: int | None = None) -> list[Row]:
        """The rows of a range in order, or the first of them."""
        found = self._keys[bisect_left(self._keys, begin) : bisect_left(self._keys, end)]
        return [(key, self._values[key]) for key in found[:limit]]

    def last(self, begin: bytes, end: bytes, limit: int) -> list[Row]:
        """The last rows of a range, last first."""
        return self.scan(begin, end)[: -limit - 1 : -1]

    def write(self, rows: Iterable[Row], deleted: Iterable[KeyRange]) -> None:
        """Deletes ranges, then puts rows in the place of those with their keys."""
        for begin, end in deleted:
            gone = slice(bisect_left(self._keys, begin), bisect_left(self._keys, end))
            for key in self._keys[gone]:
                del self._values[key]
            del self._keys[gone]
        for key, value in rows:
            if key not in self._values:
                insort(self._keys, key)
            self._values[key] = value

    def close(self) -> None:
        """Nothing is open."""
