"""The table in one SQLite file, shared by the threads and processes of one machine."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from schemas.errors import ArtifactError
from serving.features.table import KeyRange, Range, Row
from serving.sqlite import connect, transaction

_SCHEMA = "CREATE TABLE IF NOT EXISTS state (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID, STRICT;"


_FIRST = "SELECT key, value FROM state WHERE key >= ? AND key < ? ORDER BY key LIMIT ?"
_LAST = "SELECT key, value FROM state WHERE key >= ? AND key < ? ORDER BY key DESC LIMIT ?"


class SqliteTable:
    """A file, with the durability that `serving.sqlite` gives it.

    Raises:
        ArtifactError: the path cannot be opened as such a file.
    """

    runs_out = False

    def __init__(self, path: Path) -> None:
        self._path = path
        # One connection for all threads of the process, which take turns.
        self._lock = threading.Lock()
        try:
            self._db = connect(path, _SCHEMA)
        except sqlite3.Error as error:
            raise ArtifactError(
                f"{path} cannot be opened as a feature store ({error}); name a file of one, or a new one"
            ) from error

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Waits for other writers, and commits at the end.

        Raises:
            ArtifactError: the file is held by somebody else for too long, or can no longer be read or written.
        """
        with self._lock, transaction(self._db, "write", f"feature store {self._path}"):
            yield

    def read(self, ranges: Sequence[Range]) -> list[list[Row]]:
        """The rows of each range; one statement for all of them takes longer."""
        execute = self._db.execute
        return [
            execute(_LAST if last else _FIRST, (begin, end, -1 if limit is None else limit)).fetchall()
            for begin, end, limit, last in ranges
        ]

    def write(self, rows: Iterable[Row], deleted: Iterable[KeyRange]) -> None:
        """Deletes ranges, then puts rows in the place of those with their keys."""
        self._db.executemany("DELETE FROM state WHERE key >= ? AND key < ?", deleted)
        self._db.executemany("INSERT OR REPLACE INTO state VALUES (?, ?)", rows)

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._db.close()
