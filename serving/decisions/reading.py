"""Reading back what the feature store was asked and told, page by page: a decision log may hold millions."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from serving.decisions.record import unpack_features, unpack_transaction
from serving.features import Features


@dataclass(frozen=True)
class Span:
    """Which decisions are asked about, and how much of what came before them is wanted too.

    Attributes:
        since_us: decided from then on, UTC microseconds since the Unix epoch.
        until_us: decided, or reported, before.
        reach_us: transactions and labels that are older than the span's oldest transaction by more than this are left
            out.
    """

    since_us: int
    until_us: int
    reach_us: int


@dataclass(frozen=True, slots=True)
class Observation:
    """A transaction that the feature store was asked about.

    Attributes:
        number: its place among all decisions.
        transaction: canonical columns.
        came_us: when the gateway took it in.
        decided_us: when it was decided.
        answered: whether the store gave features in time.
        in_span: whether it was decided in the span.
        features: what the store said, of those in the span alone.
    """

    number: int
    transaction: Mapping[str, Any]
    came_us: int
    decided_us: int
    answered: bool
    in_span: bool
    features: Features | None


@dataclass(frozen=True, slots=True)
class LabelReport:
    """A recorded report.

    Attributes:
        number: its place among all recorded reports.
        transaction_id: what it is about.
        is_fraud: the label.
        label_time_us: when it became known.
        reported_us: when the gateway heard of it.
        applied: whether the feature store has taken it in.
    """

    number: int
    transaction_id: str
    is_fraud: bool
    label_time_us: int
    reported_us: int
    applied: bool


def oldest(db: sqlite3.Connection, span: Span) -> int | None:
    """The event time of the span's oldest transaction; None where it has none."""
    query = "SELECT min(event_time) FROM decisions WHERE decided_us >= ? AND decided_us < ?"
    found: int | None
    (found,) = db.execute(query, (span.since_us, span.until_us)).fetchone()
    return found


def observations(db: sqlite3.Connection, span: Span, from_us: int, after: int, most: int) -> list[Observation]:
    """The next decisions before the span's end on transactions that matter from a time on, in order of their numbers.

    Args:
        from_us: of younger transactions, and of those with a younger label.
        after: the number of the last one that was read.
        most: how many.
    """
    rows = db.execute(
        "SELECT decisions.number, transaction_json, decided_us - total_us, decided_us, features IS NOT NULL,"
        " decided_us >= :since, CASE WHEN decided_us >= :since THEN features END FROM decisions"
        " WHERE decisions.number > :after AND decided_us < :until AND (event_time >= :from OR EXISTS"
        " (SELECT 1 FROM labels WHERE labels.transaction_id = decisions.transaction_id AND label_time_us >= :from"
        " AND reported_us < :until))"
        " ORDER BY decisions.number LIMIT :most",
        {"since": span.since_us, "until": span.until_us, "from": from_us, "after": after, "most": most},
    )
    return [
        Observation(
            number,
            unpack_transaction(transaction),
            came_us,
            decided_us,
            bool(answered),
            bool(in_span),
            None if features is None else unpack_features(features),
        )
        for number, transaction, came_us, decided_us, answered, in_span, features in rows
    ]


def label_reports(db: sqlite3.Connection, span: Span, from_us: int, after: int, most: int) -> list[LabelReport]:
    """The next reports before the span's end of labels that became known from a time on, in order of their numbers."""
    rows = db.execute(
        "SELECT number, transaction_id, is_fraud, label_time_us, reported_us, applied FROM labels"
        " WHERE number > ? AND reported_us < ? AND label_time_us >= ? ORDER BY number LIMIT ?",
        (after, span.until_us, from_us, most),
    )
    return [LabelReport(n, one, bool(fraud), known, heard, bool(done)) for n, one, fraud, known, heard, done in rows]
