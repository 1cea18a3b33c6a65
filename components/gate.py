"""The gate between data and training: reasons from every check become one verdict, written down and never raised."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from tensorflow_metadata.proto.v0 import anomalies_pb2

from schemas.errors import ArtifactError

Severity = Literal["stop", "warn"]
Measured = float | str | None


@dataclass(frozen=True)
class Reason:
    """One thing that a check found.

    Attributes:
        check: which check spoke: `schema`, `expectations`, `drift`, `ingest`, ...
        severity: `stop` holds back the steps behind the gate, `warn` only tells.
        subject: what it is about: a feature, a column, the log.
        message: one sentence or more for a person, with the offending value and what to look at.
        observed: the value that was measured, where there is one; a float that is not finite is kept as text, because
            JSON has no such number.
        limit: the value that it should have kept to, likewise.
    """

    check: str
    severity: Severity
    subject: str
    message: str
    observed: Measured = None
    limit: Measured = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "observed", _plain(self.observed))
        object.__setattr__(self, "limit", _plain(self.limit))


@dataclass(frozen=True)
class Verdict:
    """What the gate says: whether the steps behind it run, and every reason, stops first."""

    passed: bool
    reasons: tuple[Reason, ...]

    def to_json(self) -> str:
        """One JSON object with the keys `passed` and `reasons`; equal verdicts give equal text."""
        return json.dumps(asdict(self), ensure_ascii=False, indent=2, allow_nan=False)

    @staticmethod
    def from_json(text: str) -> Verdict:
        """Reads back `to_json`.

        Raises:
            ArtifactError: the text is not a verdict, or one that contradicts its own reasons.
        """
        try:
            raw: dict[str, Any] = json.loads(text)
            reasons = tuple(Reason(**reason) for reason in raw["reasons"])
            unknown = {reason.severity for reason in reasons} - set(get_args(Severity))
            if unknown:
                raise ValueError(f"severity {sorted(map(str, unknown))} is none of {', '.join(get_args(Severity))}")
            if raw["passed"] is not decide(reasons).passed:
                raise ValueError(f"passed is {raw['passed']!r}, but its reasons say otherwise")
        except (ValueError, KeyError, TypeError) as error:
            raise ArtifactError(f"not a gate verdict: {error}; run the gate again") from error
        return Verdict(raw["passed"], reasons)


def decide(reasons: Iterable[Reason]) -> Verdict:
    """Passed unless a reason is a stop."""
    ordered = tuple(sorted(reasons, key=lambda reason: reason.severity != "stop"))
    return Verdict(passed=not any(reason.severity == "stop" for reason in ordered), reasons=ordered)


def anomaly_reasons(anomalies: anomalies_pb2.Anomalies) -> tuple[Reason, ...]:
    """Reasons from the anomalies of TFDV's validation, by feature name; its warnings warn, everything else stops."""
    reasons = [_anomaly_reason(name, info) for name, info in sorted(anomalies.anomaly_info.items())]
    if anomalies.HasField("dataset_anomaly_info"):
        reasons.append(_anomaly_reason("dataset", anomalies.dataset_anomaly_info))
    if anomalies.data_missing:
        reasons.append(
            Reason("schema", "stop", "dataset", "There is no example to validate; look at the rows that ingest read.")
        )
    return tuple(reasons)


def _anomaly_reason(name: str, info: anomalies_pb2.AnomalyInfo) -> Reason:
    # Of several reasons TFDV's summary says only that there are multiple errors.
    details = [(r.short_description, r.description) for r in info.reason] or [
        (info.short_description, info.description)
    ]
    message = " ".join(f"{short}: {long}" if short and long else short or long for short, long in details)
    warns = info.severity == anomalies_pb2.AnomalyInfo.WARNING
    return Reason("schema", "warn" if warns else "stop", name, f"{name}: {message or 'anomaly without a description'}")


def _plain(value: Measured) -> Measured:
    if value is None or isinstance(value, str):
        return value
    number = float(value)
    return number if math.isfinite(number) else str(number)
