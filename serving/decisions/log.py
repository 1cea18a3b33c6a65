"""The decision log in one SQLite file: every decision, what candidates said aside, and what came of the transactions.

Gateways append to it, the rollout controller and people read it, all at once.  What `append` and `report` have returned
from survives the death of any process (`serving.sqlite` says what a loss of power may cost).  Everything is kept: there
is no retention yet.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from schemas import scoring_pb2
from schemas.decision import Arm
from schemas.errors import ArtifactError
from serving.decisions import labels, reading, tallies
from serving.decisions.evidence import ShadowTally, Tally
from serving.decisions.labels import Label, Reported
from serving.decisions.reading import LabelReport, Observation, Span
from serving.decisions.record import Entry, Kept, ShadowEntry, decision_row, kept, shadow_row
from serving.decisions.tallies import OutcomeCount, Share
from serving.sqlite import connect, transaction

# In the header of the file, so that no other SQLite file is taken for a decision log.
_MARK = int.from_bytes(b"fdec", "big")
_FORMAT = 1

# Names instead of numbers, because people read this for years.  What is asked by is in columns; `decision`,
# `transaction_json` and `features` hold the whole, last in the row, so that who needs only columns does not read them.
# Of the indexes, `by_outcome` and `by_card` answer tallies without touching a row, `by_arm` the people's summary.  They
# begin with what hardly changes from one decision to the next, so that an insertion finds its pages in memory.
_SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS decisions (
    number INTEGER PRIMARY KEY,
    decision_id TEXT NOT NULL UNIQUE,
    transaction_id TEXT NOT NULL UNIQUE,
    decided_us INTEGER NOT NULL,
    event_time INTEGER NOT NULL,
    card_id TEXT NOT NULL,
    merchant_id TEXT NOT NULL,
    amount_base_minor INTEGER NOT NULL,
    routed TEXT NOT NULL,
    arm TEXT NOT NULL,
    version INTEGER,
    generation INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    intended TEXT NOT NULL,
    score REAL,
    cause TEXT,
    fallback TEXT,
    model_us INTEGER,
    total_us INTEGER NOT NULL,
    rules_digest TEXT NOT NULL,
    decision BLOB NOT NULL,
    transaction_json TEXT NOT NULL,
    features BLOB
) STRICT;
CREATE INDEX IF NOT EXISTS by_outcome ON decisions (routed, generation, intended, cause, model_us);
CREATE INDEX IF NOT EXISTS by_card ON decisions (routed, generation, card_id);
CREATE INDEX IF NOT EXISTS by_arm ON decisions (arm, version, outcome, cause);
CREATE TABLE IF NOT EXISTS shadows (
    number INTEGER PRIMARY KEY,
    decision_id TEXT NOT NULL,
    version INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    decided TEXT NOT NULL,
    outcome TEXT,
    score REAL,
    cause TEXT,
    model_us INTEGER,
    UNIQUE (decision_id, version)
) STRICT;
CREATE INDEX IF NOT EXISTS shadows_by_outcome ON shadows (version, generation, decided, outcome, model_us);
CREATE TABLE IF NOT EXISTS labels (
    number INTEGER PRIMARY KEY,
    transaction_id TEXT NOT NULL,
    label_time_us INTEGER NOT NULL,
    is_fraud INTEGER NOT NULL,
    reported_by TEXT NOT NULL,
    reported_us INTEGER NOT NULL,
    applied INTEGER NOT NULL DEFAULT 0,
    UNIQUE (transaction_id, label_time_us)
) STRICT;
CREATE INDEX IF NOT EXISTS pending_labels ON labels (number) WHERE NOT applied;
PRAGMA application_id = {_MARK};
PRAGMA user_version = {_FORMAT};
COMMIT;
"""
_APPEND = f"INSERT INTO decisions VALUES (NULL, {', '.join('?' * 22)}) ON CONFLICT (transaction_id) DO NOTHING"
# A candidate is heard once on each decision.
_APPEND_SHADOW = f"INSERT INTO shadows VALUES (NULL, {', '.join('?' * 8)}) ON CONFLICT DO NOTHING"
# Rows of one read: between two of them gateways may begin a new write-ahead log.
_PAGE = 4_096

Numbered = TypeVar("Numbered", Observation, LabelReport)


class DecisionLog:
    """A decision log in a file, made if it is not there; the `Evidence` of the rollout controller.

    Threads may share one, and several processes may have the file open.  Reading waits for nobody and holds up nobody.

    Every call raises an ArtifactError when the file is held by somebody else for too long, or can no longer be read or
    written; then nothing of the call has been written.

    Raises:
        ArtifactError: the path cannot be opened as such a file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._writer, self._reader = _open(path), _open(path)
        except sqlite3.Error as error:
            raise ArtifactError(
                f"{path} cannot be opened as a decision log ({error}); name a file of one, or a new one"
            ) from error
        # A connection each, for reading and for writing, on which threads take turns.
        self._writing, self._reading = threading.Lock(), threading.Lock()

    def append(self, entries: Sequence[Entry], shadows: Sequence[ShadowEntry] = ()) -> list[scoring_pb2.Decision]:
        """Writes decisions in one commit, and gives what stands for each.

        Where a transaction was decided before, by another process say, that decision stands and nothing is written for
        it: the caller answers with what it gets here.

        Raises:
            ValueError: a decision has no outcome or no arm.
        """
        rows, shadow_rows = list(map(decision_row, entries)), list(map(shadow_row, shadows))
        with self._write() as db:
            written = db.executemany(_APPEND, rows).rowcount if rows else 0
            db.executemany(_APPEND_SHADOW, shadow_rows)
            if written == len(rows):
                return [entry.decision for entry in entries]
            return [_standing(db, entry.decision.transaction_id) for entry in entries]

    def find(self, transaction_id: str) -> Kept | None:
        """What stands for a transaction; None where nobody decided on it yet."""
        with self._read() as db:
            found = db.execute(
                "SELECT decision, transaction_json, features FROM decisions WHERE transaction_id = ?", (transaction_id,)
            ).fetchone()
        return None if found is None else kept(*found)

    def decided(self, transaction_ids: Sequence[str]) -> set[str]:
        """Which of these transactions were decided."""
        query = "SELECT transaction_id FROM decisions WHERE transaction_id IN (SELECT value FROM json_each(?))"
        with self._read() as db:
            return {found for (found,) in db.execute(query, (json.dumps(list(transaction_ids)),))}

    def report(
        self, transaction_id: str, is_fraud: bool, label_time_us: int, reported_by: str | None, now_us: int
    ) -> Reported:
        """Records what a transaction turned out to be; it is pending until it is marked by `applied`.

        The same label again changes nothing, and a later one of the other kind corrects.

        Args:
            label_time_us: when it became known, UTC microseconds since the Unix epoch.
            reported_by: who says so.
            now_us: when the report came.

        Raises:
            UnknownTransactionError: nobody decided on such a transaction.
            OutcomeReportError: the label is older than the transaction, or differs from one that it is not later than.
        """
        with self._write() as db:
            return labels.report(db, transaction_id, is_fraud, label_time_us, reported_by or "", now_us)

    def pending_labels(self) -> list[Label]:
        """The labels that were not marked by `applied` yet, in the order in which they were reported."""
        with self._read() as db:
            return labels.pending(db)

    def applied(self, done: Iterable[Label]) -> None:
        """Marks labels that the feature store has taken in."""
        with self._write() as db:
            labels.mark(db, done)

    def tally(self, routed: Arm, since_generation: int) -> Tally:
        """See `Evidence`."""
        with self._read() as db:
            return tallies.tally(db, routed, since_generation)

    def shadow_tally(self, version: int, since_generation: int) -> ShadowTally:
        """See `Evidence`."""
        with self._read() as db:
            return tallies.shadow_tally(db, version, since_generation)

    def shares(self, since_generation: int = 0, until_generation: int | None = None) -> list[Share]:
        """How each generation's traffic was divided, from the first to the last generation, both included."""
        with self._read() as db:
            return tallies.shares(db, since_generation, until_generation)

    def outcomes(self) -> list[OutcomeCount]:
        """All decisions by arm, version, outcome and what degraded them."""
        with self._read() as db:
            return tallies.outcomes(db)

    def count(self) -> int:
        """How many transactions were decided."""
        with self._read() as db:
            (decisions,) = db.execute("SELECT count(*) FROM decisions").fetchone()
        return int(decisions)

    def observations(self, span: Span) -> Iterator[list[Observation]]:
        """Page by page, what the feature store was asked in a span, and before it as far as that matters to the span.

        That is every transaction decided before the span's end that, or whose label, is not older than the span's
        oldest transaction by more than its reach, in the order of the decisions.
        """
        return self._pages(reading.observations, span)

    def label_reports(self, span: Span) -> Iterator[list[LabelReport]]:
        """Page by page, the labels that were reported before a span's end and matter to it, in that order."""
        return self._pages(reading.label_reports, span)

    def _pages(
        self, read: Callable[[sqlite3.Connection, Span, int, int, int], list[Numbered]], span: Span
    ) -> Iterator[list[Numbered]]:
        with self._read() as db:
            oldest_us = reading.oldest(db, span)
        if oldest_us is None:
            return
        after = 0
        while True:
            with self._read() as db:
                page = read(db, span, oldest_us - span.reach_us, after, _PAGE)
            if not page:
                return
            yield page
            after = page[-1].number

    def close(self) -> None:
        """Closes the file, after what is under way."""
        with self._writing, self._reading:
            self._writer.close()
            self._reader.close()

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        with self._writing, transaction(self._writer, "write", f"decision log {self._path}") as db:
            yield db

    @contextmanager
    def _read(self) -> Iterator[sqlite3.Connection]:
        with self._reading, transaction(self._reader, "read", f"decision log {self._path}") as db:
            yield db


def _open(path: Path) -> sqlite3.Connection:
    # Looked at before anything is made in it: it may be a database of somebody else's.
    db = connect(path, "")
    try:
        if db.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,):
            db.executescript(_SCHEMA)
        (mark,) = db.execute("PRAGMA application_id").fetchone()
        (format_,) = db.execute("PRAGMA user_version").fetchone()
        if mark != _MARK:
            raise ArtifactError(f"{path} is a database, but no decision log; name a file of one, or a new one")
        if format_ != _FORMAT:
            raise ArtifactError(
                f"{path} is a decision log of format {format_}, and this version reads {_FORMAT}; name another file"
            )
        return db
    except BaseException:
        db.close()
        raise


def _standing(db: sqlite3.Connection, transaction_id: str) -> scoring_pb2.Decision:
    (decision,) = db.execute("SELECT decision FROM decisions WHERE transaction_id = ?", (transaction_id,)).fetchone()
    return scoring_pb2.Decision.FromString(decision)
