"""The result of the drift step: which rows were compared with which, and all that was found, as one JSON file."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import Any, get_args

from components.comparators import Exceeded
from components.gate import Reason, Severity
from components.profiles.findings import Finding, reasons
from components.profiles.periods import Period
from schemas.errors import ArtifactError


@dataclass(frozen=True)
class DriftReport:
    """What came of looking for drift.

    Attributes:
        baseline: the champion's training rows; None where there is no champion, or one without a baseline.
        periods: this run's rows that were compared with them.
        pairs: pairs of weeks that the thresholds were calibrated on.
        measured: how many statistics were compared with their thresholds.
        findings: those above, the largest excess first.
        uncompared: columns that only one side has, and which.
        comparators: what TFDV's own comparators found.
    """

    baseline: Period | None = None
    periods: tuple[Period, ...] = ()
    pairs: int = 0
    measured: int = 0
    findings: tuple[Finding, ...] = ()
    uncompared: tuple[tuple[str, str], ...] = ()
    comparators: tuple[Exceeded, ...] = ()

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """For the gate; without a baseline, one warning that says so."""
        none = Reason(
            "drift",
            "warn",
            "baseline",
            "No baseline: there is no champion with one yet, so drift was not measured.",
        )
        own = reasons(self.findings) if self.baseline else (none,)
        return (*own, *(one.reason for one in self.comparators))

    def to_json(self) -> str:
        """One JSON object; an infinite value is the text `inf`."""
        body = {
            "baseline": self.baseline.to_dict() if self.baseline else None,
            "periods": [period.to_dict() for period in self.periods],
            "pairs": self.pairs,
            "measured": self.measured,
            "findings": [{**asdict(f), "value": f.value if math.isfinite(f.value) else "inf"} for f in self.findings],
            "uncompared": dict(self.uncompared),
            "comparators": [asdict(one) for one in self.comparators],
        }
        return json.dumps(body, ensure_ascii=False, indent=2, allow_nan=False)

    @staticmethod
    def from_json(text: str) -> DriftReport:
        """Reads back `to_json`.

        Raises:
            ArtifactError: the text is no such report.
        """
        try:
            raw: dict[str, Any] = json.loads(text)
            findings = tuple(Finding(**one | {"value": float(one["value"])}) for one in raw["findings"])
            if unknown := {finding.severity for finding in findings} - {*get_args(Severity)}:
                raise ValueError(f"severity {', '.join(sorted(map(str, unknown)))}")
            return DriftReport(
                Period.from_dict(raw["baseline"]) if raw["baseline"] else None,
                tuple(Period.from_dict(one) for one in raw["periods"]),
                int(raw["pairs"]),
                int(raw["measured"]),
                findings,
                tuple(raw["uncompared"].items()),
                tuple(Exceeded(**one) for one in raw["comparators"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ArtifactError(f"not a drift report ({error!r}); run the drift step again") from error
