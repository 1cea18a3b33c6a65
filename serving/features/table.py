"""The port below the feature store: an ordered table of bytes, read and written in transactions."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Protocol

Row = tuple[bytes, bytes]
KeyRange = tuple[bytes, bytes]


class Table(Protocol):
    """Rows of (key, value) in order of their keys' bytes.

    Everything but `close` is called inside `transaction()`.  A range (begin, end) holds the keys with
    `begin <= key < end`.
    """

    def transaction(self) -> AbstractContextManager[None]:
        """All or nothing: what is written inside is seen by nobody before the end, and not at all after an error.

        Transactions of all threads and processes follow one another.
        """

    def get(self, key: bytes) -> bytes | None:
        """The value of a key, None without one."""

    def scan(self, begin: bytes, end: bytes, limit: int | None = None) -> list[Row]:
        """The rows of a range in order, or the first of them."""

    def last(self, begin: bytes, end: bytes, limit: int) -> list[Row]:
        """The last rows of a range, last first."""

    def write(self, rows: Iterable[Row], deleted: Iterable[KeyRange]) -> None:
        """Deletes ranges, then puts rows in the place of those with their keys."""

    def close(self) -> None:
        """Lets go of what the table holds open."""
