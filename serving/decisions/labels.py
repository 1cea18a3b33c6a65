"""What transactions turned out to be: reports of outcomes, which are never lost and never counted twice.

A report is written to the log before the feature store hears of it, and marked when it has: whoever dies between the
two leaves a pending label, which the next one applies.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from schemas.errors import OutcomeReportError, UnknownTransactionError
from schemas.masking import mask
from serving.decisions.record import unpack_transaction


@dataclass(frozen=True, slots=True)
class Reported:
    """What became of a report.

    Attributes:
        recorded: whether it said something new.
        transaction: what it is about, in canonical columns.
    """

    recorded: bool
    transaction: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Label:
    """A recorded report that the feature store may not have heard of.

    Attributes:
        number: its place among all recorded reports.
        transaction: canonical columns.
        is_fraud: the label.
        label_time_us: when it became known, UTC microseconds since the Unix epoch.
        reported_by: who said so, "" where nobody did.
    """

    number: int
    transaction: Mapping[str, Any]
    is_fraud: bool
    label_time_us: int
    reported_by: str


def is_new(
    transaction: Mapping[str, Any], standing: tuple[bool, int] | None, is_fraud: bool, label_time_us: int
) -> bool:
    """Whether a report changes what is known of a transaction; one that repeats the label does not, at whatever time.

    Args:
        transaction: canonical columns.
        standing: the latest label and its time, None without one.
        is_fraud: the reported label.
        label_time_us: when it became known.

    Raises:
        OutcomeReportError: the label is older than the transaction, or differs from one that it is not later than.
    """
    transaction_id, event_time = transaction["transaction_id"], transaction["event_time"]
    if label_time_us < event_time:
        raise OutcomeReportError(
            f"label_time {label_time_us} of transaction {mask(transaction_id)!r} lies before its event_time "
            f"{event_time}; both are UTC microseconds since the Unix epoch"
        )
    if standing is None:
        return True
    was_fraud, known_us = standing
    if is_fraud == was_fraud:
        return False
    if label_time_us <= known_us:
        raise OutcomeReportError(
            f"transaction {mask(transaction_id)!r} has had is_fraud {was_fraud} since label_time {known_us}, and "
            f"is_fraud {is_fraud} is reported as of {label_time_us}; to correct it, give a later label_time"
        )
    return True


def report(
    db: sqlite3.Connection, transaction_id: str, is_fraud: bool, label_time_us: int, reported_by: str, now_us: int
) -> Reported:
    """Records a report in the writing transaction of the connection, if it says something new.

    Raises:
        UnknownTransactionError: nobody decided on such a transaction.
        OutcomeReportError: see `is_new`.
    """
    found = db.execute("SELECT transaction_json FROM decisions WHERE transaction_id = ?", (transaction_id,)).fetchone()
    if found is None:
        raise UnknownTransactionError(
            f"transaction {mask(transaction_id)!r} is not in the decision log; report the transaction_id "
            "that was scored"
        )
    transaction = unpack_transaction(found[0])
    standing = db.execute(
        "SELECT is_fraud, label_time_us FROM labels WHERE transaction_id = ? ORDER BY label_time_us DESC LIMIT 1",
        (transaction_id,),
    ).fetchone()
    recorded = is_new(
        transaction, None if standing is None else (bool(standing[0]), standing[1]), is_fraud, label_time_us
    )
    if recorded:
        db.execute(
            "INSERT INTO labels (transaction_id, label_time_us, is_fraud, reported_by, reported_us)"
            " VALUES (?, ?, ?, ?, ?)",
            (transaction_id, label_time_us, is_fraud, reported_by, now_us),
        )
    return Reported(recorded, transaction)


def pending(db: sqlite3.Connection) -> list[Label]:
    """The labels that nobody has marked yet, in the order in which they were reported."""
    rows = db.execute(
        "SELECT labels.number, transaction_json, is_fraud, label_time_us, reported_by FROM labels JOIN decisions"
        " USING (transaction_id) WHERE NOT applied ORDER BY labels.number"
    )
    return [
        Label(number, unpack_transaction(transaction), bool(is_fraud), label_time_us, reported_by)
        for number, transaction, is_fraud, label_time_us, reported_by in rows
    ]


def mark(db: sqlite3.Connection, labels: Iterable[Label]) -> None:
    """Notes that the feature store has heard of labels."""
    db.executemany("UPDATE labels SET applied = 1 WHERE number = ?", [(label.number,) for label in labels])
