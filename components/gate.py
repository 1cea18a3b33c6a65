"""The gate between data and training: reasons from every check become one verdict, written down and never raised.

A person may accept a stop.  It stays in the verdict as what it was, with who accepted it, when and why.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Literal, get_args

from tensorflow_metadata.proto.v0 import anomalies_pb2

from schemas.acceptance import Acceptance, name_of
from schemas.errors import ArtifactError, ConfigurationError

Severity = Literal["stop", "warn"]
Measured = float | str | None

_ACCEPTANCE = "acceptance"


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
        acceptable: whether a person may accept it, where it is a stop; not where nothing is left to go on with.
        accepted: by whom and why it was, else None.

    Raises:
        ValueError: it is accepted, and may not be, or by an acceptance of something else.
    """

    check: str
    severity: Severity
    subject: str
    message: str
    observed: Measured = None
    limit: Measured = None
    acceptable: bool = True
    accepted: Acceptance | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "observed", _plain(self.observed))
        object.__setattr__(self, "limit", _plain(self.limit))
        if self.accepted is None:
            return
        if self.severity != "stop" or not self.acceptable or not self.accepted.covers(self.check, self.subject):
            raise ValueError(f"{self.name}, a {self.severity}, cannot be accepted by {self.accepted}")

    @property
    def stops(self) -> bool:
        """Whether it holds back the steps behind the gate."""
        return self.severity == "stop" and self.accepted is None

    @property
    def name(self) -> str:
        """The check and the subject, as an acceptance of it names them."""
        return name_of(self.check, self.subject)


@dataclass(frozen=True)
class Verdict:
    """What the gate says: whether the steps behind it run, and every reason; stops first, then accepted ones."""

    passed: bool
    reasons: tuple[Reason, ...]

    @property
    def acceptances(self) -> tuple[Acceptance, ...]:
        """Those that cover a stop; one that covers none is among the reasons, as a warning."""
        return tuple(dict.fromkeys(reason.accepted for reason in self.reasons if reason.accepted))

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
            reasons = tuple(_reason(reason) for reason in raw["reasons"])
            unknown = {reason.severity for reason in reasons} - set(get_args(Severity))
            if unknown:
                raise ValueError(f"severity {sorted(map(str, unknown))} is none of {', '.join(get_args(Severity))}")
            if raw["passed"] is not decide(reasons).passed:
                raise ValueError(f"passed is {raw['passed']!r}, but its reasons say otherwise")
        except (ValueError, KeyError, TypeError, AttributeError, ConfigurationError) as error:
            raise ArtifactError(f"not a gate verdict: {error}; run the gate again") from error
        return Verdict(raw["passed"], reasons)


def decide(reasons: Iterable[Reason], acceptances: Sequence[Acceptance] = (), at: datetime | None = None) -> Verdict:
    """Passed unless a reason is a stop that nobody has accepted.

    An acceptance that covers no stop becomes a warning: it would go unseen otherwise, and cover another stop one day.

    Args:
        reasons: what the checks found; those accepted before stay so.
        acceptances: what people say; of two that cover a stop, the one that names its subject counts.
        at: now; becomes the time of acceptances that have none yet.
    """
    applied = [one if at is None else one.applied(at) for one in acceptances]
    named_first = sorted(applied, key=lambda one: one.subject is None)
    marked = [_marked(reason, named_first) for reason in reasons]
    used = {reason.accepted for reason in marked}
    unused = [_unused(one, marked) for one in applied if one not in used]
    ordered = tuple(sorted([*unused, *marked], key=lambda reason: (not reason.stops, reason.severity != "stop")))
    return Verdict(passed=not any(reason.stops for reason in ordered), reasons=ordered)


def merged(verdicts: Iterable[Verdict]) -> Verdict:
    """One verdict of several gates: passed where all of them are."""
    return decide(reason for verdict in verdicts for reason in verdict.reasons)


def _marked(reason: Reason, acceptances: Iterable[Acceptance]) -> Reason:
    if not (reason.stops and reason.acceptable):
        return reason
    return replace(
        reason, accepted=next((one for one in acceptances if one.covers(reason.check, reason.subject)), None)
    )


def _unused(acceptance: Acceptance, reasons: Iterable[Reason]) -> Reason:
    there = [one for one in reasons if one.severity == "stop" and acceptance.covers(one.check, one.subject)]
    if any(one.stops for one in there):
        why = "what stops there cannot be accepted"
    else:
        why = "all that stops there is accepted by name" if there else "nothing stops there"
    return Reason(
        _ACCEPTANCE,
        "warn",
        acceptance.name,
        f"{acceptance.name} was accepted by {acceptance.by} ({acceptance.reason}), but {why}; take the acceptance back",
    )


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


def _reason(raw: dict[str, Any]) -> Reason:
    """Verdicts of earlier versions know nothing of acceptances."""
    accepted = raw.get("accepted")
    return Reason(**raw | {"accepted": Acceptance(**accepted) if accepted else None})


def _plain(value: Measured) -> Measured:
    if value is None or isinstance(value, str):
        return value
    number = float(value)
    return number if math.isfinite(number) else str(number)
