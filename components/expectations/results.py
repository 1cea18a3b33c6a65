"""What came of the expectations: one result each, and their report."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from components.gate import Severity


@dataclass(frozen=True)
class ExpectationResult:
    """How one expectation came out.

    Attributes:
        suite: the suite's name, and after a dot the table that the expectation is about, such as
            `transactions.currencies`.
        expectation: the type that Great Expectations knows it by.
        column: the column it is about; of a pair, the first.
        observed: what was seen: the failing value where something failed, else the value or the range of all; none
            where there is nothing to show.
        limit: what was expected, as text.
        message: what to tell people; empty on success.
        rows_checked: rows of the data that the judgement rests on.
        rows_read: rows that there were.
        severity: whether a failure stops the pipeline or only warns.
        segment: where it failed, such as `JPY`; of several the worst few; empty where the table has one row.
    """

    suite: str
    expectation: str
    column: str
    success: bool
    observed: float | str | None
    limit: str
    message: str
    rows_checked: int
    rows_read: int
    severity: Severity = "stop"
    segment: str = ""


@dataclass(frozen=True)
class ExpectationReport:
    """The results of all suites, in the order of their files."""

    results: tuple[ExpectationResult, ...]

    def to_json(self) -> str:
        """One JSON object with the key `results`."""
        return json.dumps(asdict(self), ensure_ascii=False, indent=2, allow_nan=False)
