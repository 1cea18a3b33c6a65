"""How SQLite files are opened: write-ahead logged, shared by the threads and processes of one machine."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Literal

from schemas.errors import ArtifactError

_log = logging.getLogger(__name__)

BUSY_S = 10.0
_RETRY_S = 0.01
_HELD = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_PRIMARY = 0xFF  # of an extended result code, the bits that say which error it is a kind of
# After so many pages of the log whoever commits copies what is not copied yet, and the next one begins a new log.
_CHECKPOINT_PAGES = 4_000
_COPY_S = 0.2


def connect(path: Path, schema: str) -> sqlite3.Connection:
    """A connection in autocommit mode that any thread may use, one at a time; the file is made if it is not there.

    A transaction that has ended survives the death of any process; after a loss of power the file is whole and may
    lack the latest transactions, because a commit does not wait for the disk.

    Args:
        schema: statements that make what is not there yet; they must be harmless when it is.

    Raises:
        sqlite3.Error: the path cannot be opened as such a file.
    """
    deadline = time.monotonic() + BUSY_S
    while True:
        db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            # Turning a new file's log on is refused at once while another process does the same: SQLite's own waiting
            # does not cover it.
            for setting in ("journal_mode = WAL", "synchronous = NORMAL", f"wal_autocheckpoint = {_CHECKPOINT_PAGES}"):
                db.execute(f"PRAGMA {setting}")
            db.executescript(schema)
            return db
        except sqlite3.OperationalError as error:
            db.close()
            if error.sqlite_errorcode & _PRIMARY not in _HELD or time.monotonic() > deadline:
                raise
            time.sleep(_RETRY_S)
        except BaseException:
            db.close()
            raise


@contextmanager
def transaction(db: sqlite3.Connection, purpose: Literal["read", "write"], where: str) -> Iterator[sqlite3.Connection]:
    """All or nothing, and one state of the file for all statements inside.

    Args:
        purpose: a `write` waits for other writers, a `read` for nobody.
        where: begins the error's message, such as `decision log path/to/file`.

    Raises:
        ArtifactError: the file is held by somebody else for too long, or can no longer be read or written.
    """
    try:
        # At once for writing: a read that turns into a write later may find that it comes too late.
        db.execute("BEGIN IMMEDIATE" if purpose == "write" else "BEGIN")
        try:
            yield db
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
    except sqlite3.Error as error:
        raise ArtifactError(f"{where}: {error}; see who holds the file and whether its disk is full") from error


@contextmanager
def checkpoints(path: Path) -> Iterator[None]:
    """Copies the file's log into it aside, so that a commit has little of it left to do.

    Copying waits for the disk: without this, at 500 decisions a second, one commit in 100 took 50 ms.

    Args:
        path: of a file that `connect` has made.
    """
    stop = threading.Event()
    thread = threading.Thread(target=_copy, args=(path, stop), name=f"checkpoints-{path.stem}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _copy(path: Path, stop: threading.Event) -> None:
    with closing(sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)) as db:
        while not stop.wait(_COPY_S):
            try:
                # It waits for nobody and holds up nobody.
                db.execute("PRAGMA wal_checkpoint(PASSIVE)")
            except sqlite3.Error as error:
                # The commits copy more, and say so when that fails as well.
                _log.warning("the log of %s was not copied: %s", path, error)
