"""What a run of ingest read, kept and refused, in numbers that add up."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime

import orjson

from schemas.sources import SourceMapping


@dataclass(frozen=True)
class IngestReport:
    """Counts of one run; `read == good + dead + duplicate`, and `reasons` sums to `dead + duplicate`.

    Attributes:
        files: relative names of the log's files, in reading order.
        read: rows in the log, well-formed or not.
        good: rows that became transactions.
        dead: rows refused for what they hold.
        duplicate: rows that were good but for an earlier row with their transaction_id.
        reasons: dead letters by reason code, the most frequent first.
        unread_columns: columns of the log that the mapping neither reads nor lists as unused.
        first_event: earliest event_time (UTC) of the transactions; none when there is no transaction.
        last_event: latest event_time (UTC) of the transactions.
    """

    files: tuple[str, ...]
    read: int
    good: int
    dead: int
    duplicate: int
    reasons: dict[str, int]
    unread_columns: tuple[str, ...]
    first_event: datetime | None
    last_event: datetime | None

    def to_json(self) -> str:
        """One JSON object with the attributes as keys, times in ISO 8601."""
        return orjson.dumps(asdict(self), option=orjson.OPT_INDENT_2).decode()


def excess(report: IngestReport, mapping: SourceMapping) -> str | None:
    """Why the run must stop: the share of bad rows, dead or duplicate, is above the mapping's limit; else nothing."""
    bad = report.dead + report.duplicate
    if bad <= mapping.bad_rows_limit * report.read:
        return None
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in report.reasons.items())
    return (
        f"{bad:,} of {report.read:,} rows are bad ({bad / report.read:.2%}), above bad_rows_limit "
        f"{mapping.bad_rows_limit:.2%} of source {mapping.source}: {reasons}; mend the log or its mapping"
    )
