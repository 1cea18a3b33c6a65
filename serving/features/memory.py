"""The table in memory: for tests, and for stores that need not outlive their process."""

from __future__ import annotations

import threading
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from serving.features.table import KeyRange, Range, Row


class MemoryTable:
    """A sorted list of keys beside a dictionary."""

    runs_out = False

    def __init__(self) -> None:
        self._keys: list[bytes] = []
        self._values: dict[bytes, bytes] = {}
        self._lock = threading.Lock()
        # What the transaction has replaced, in order; None where there was nothing.
        self._before: list[tuple[bytes, bytes | None]] = []

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Holds the table for one thread."""
        with self._lock:
            try:
                yield
            except BaseException:
                for key, value in reversed(self._before):
                    self._put(key, value)
                raise
            finally:
                self._before.clear()

    def read(self, ranges: Sequence[Range]) -> list[list[Row]]:
        """The rows of each range."""
        return [[(key, self._values[key]) for key in self._found(range_)] for range_ in ranges]

    def write(self, rows: Iterable[Row], deleted: Iterable[KeyRange]) -> None:
        """Deletes ranges, then puts rows in the place of those with their keys."""
        for begin, end in deleted:
            for key in self._found(Range(begin, end)):
                self._replace(key, None)
        for key, value in rows:
            self._replace(key, value)

    def close(self) -> None:
        """Nothing is open."""

    def _found(self, wanted: Range) -> list[bytes]:
        keys = self._keys[bisect_left(self._keys, wanted.begin) : bisect_left(self._keys, wanted.end)]
        return (keys[::-1] if wanted.last else keys)[: wanted.limit]

    def _replace(self, key: bytes, value: bytes | None) -> None:
        self._before.append((key, self._values.get(key)))
        self._put(key, value)

    def _put(self, key: bytes, value: bytes | None) -> None:
        if value is None:
            if self._values.pop(key, None) is not None:
                del self._keys[bisect_left(self._keys, key)]
        else:
            if key not in self._values:
                insort(self._keys, key)
            self._values[key] = value
