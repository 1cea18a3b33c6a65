"""Findings: the statistics of two profiles that lie above their thresholds, and the gate's reasons."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

from components.gate import Reason, Severity
from components.profiles.calibration import LAWS, Thresholds
from components.profiles.counting import Profile
from components.profiles.faults import faults
from components.profiles.layout import ALL, segment_column
from components.profiles.measures import DISTRIBUTION, Measured, Statistic, drift
from schemas.errors import ArtifactError


@dataclass(frozen=True)
class Finding:
    """A statistic above its threshold.

    Attributes:
        feature, segment, statistic, value, baseline, current, detail: as measured.
        threshold: that the value is above.
        calibrated: whether the threshold is from the log's own history, or the fixed one.
        severity: what it means for the gate.
        period: which rows, in words.
    """

    feature: str
    segment: str
    statistic: Statistic
    value: float
    baseline: float
    current: float
    detail: str
    threshold: float
    calibrated: bool
    severity: Severity
    period: str = ""

    @property
    def excess(self) -> float:
        """The value in units of its threshold."""
        return self.value / self.threshold


@dataclass(frozen=True)
class Comparison:
    """What comparing two profiles found.

    Attributes:
        measured: how many statistics were compared with their thresholds.
        findings: those above, the largest excess first.
        uncompared: columns that only one side has, and which.
        strain: by feature and column of the segments (`all` for all rows) the largest statistic of drift, as a part of
            its threshold.
    """

    measured: int
    findings: tuple[Finding, ...]
    uncompared: tuple[tuple[str, str], ...]
    strain: Mapping[tuple[str, str], float]


def compare(
    current: Profile,
    baseline: Profile,
    thresholds: Thresholds,
    severities: Mapping[Statistic, Severity] | None = None,
    period: str = "",
) -> Comparison:
    """Measures drift and faults, and finds what is above its threshold.

    Args:
        current: this run's rows, in the layout of the baseline.
        baseline: the champion's rows.
        thresholds: calibrated on the baseline's history; `Thresholds()` where there is none.
        severities: which findings warn and which stop, where it is not as in `LAWS`: drift warns, faults stop.
        period: which rows the current ones are, in words.

    Raises:
        ArtifactError: the profiles have different layouts.
    """
    if current.layout != baseline.layout:
        raise ArtifactError("the profiles have different layouts; profile this run's rows in the baseline's layout")
    drifts = [*drift(current, baseline, thresholds.support)]
    measured = [*drifts, *faults(current, baseline, thresholds.support)]
    found = [_finding(m, thresholds, severities or {}, period) for m in measured if _exceeds(m, thresholds.of(m))]
    strain: dict[tuple[str, str], float] = {}
    for one in drifts:
        place = one.feature, segment_column(one.segment)
        strain[place] = max(thresholds.strain(one), strain.get(place, 0.0))
    uncompared = [
        (name, "only this run has it" if name in current.columns else "only the baseline has it")
        for name in sorted(current.columns ^ baseline.columns)
    ]
    # The sort is stable: of equal ones the order of the features stays.
    return Comparison(len(measured), by_excess(found), tuple(uncompared), strain)


def by_excess(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The findings, the largest excess first."""
    return tuple(sorted(findings, key=lambda finding: -finding.excess))


def reasons(findings: Iterable[Finding]) -> tuple[Reason, ...]:
    """One reason per feature and statistic: about all rows if these show it, else the segment that shows it most.

    PSI, Jensen-Shannon divergence and Kolmogorov-Smirnov distance measure the same, and have one together.

    Args:
        findings: of one or more periods, the largest excess first.
    """
    groups: dict[tuple[str, Statistic, Severity], list[Finding]] = {}
    for finding in findings:
        kind = DISTRIBUTION[0] if finding.statistic in DISTRIBUTION else finding.statistic
        groups.setdefault((finding.feature, kind, finding.severity), []).append(finding)
    return tuple(_reason(found) for found in groups.values())


def _exceeds(measured: Measured, threshold: float) -> bool:
    # What ranked frauds just as well in the baseline is no leak that came since.
    return measured.value > threshold and not (measured.statistic == "label_auc" and measured.baseline > threshold)


def _finding(
    measured: Measured, thresholds: Thresholds, severities: Mapping[Statistic, Severity], period: str
) -> Finding:
    severity = severities.get(measured.statistic, LAWS[measured.statistic].severity)
    return Finding(
        **asdict(measured),
        threshold=thresholds.of(measured),
        calibrated=thresholds.is_calibrated(measured),
        severity=severity,
        period=period,
    )


def _reason(found: list[Finding]) -> Reason:
    f = next((finding for finding in found if finding.segment == ALL), found[0])
    where = "" if f.segment == ALL else f" where {f.segment}"
    # The one that shows it most first.
    others = list(dict.fromkeys(finding.segment for finding in found if finding.segment != f.segment))
    count = f"{len(others)} other segment{'s' if len(others) > 1 else ''}"
    also = f"; {count} above theirs, most of all {others[0]}" if others else ""
    kind = "calibrated" if f.calibrated else "fixed"
    period = f"In {f.period}: " if f.period else ""
    message = (
        f"{period}{_MESSAGES[f.statistic].format(f=f, where=where)}"
        f" ({f.value:.3g}, {kind} threshold {f.threshold:.3g}{also})."
    )
    return Reason("drift", f.severity, f.feature, message, f.value, f.threshold)


_DISTRIBUTION = (
    "{f.feature} is distributed otherwise than in the baseline{where}: the share of {f.detail} went from"
    " {f.baseline:.3g} to {f.current:.3g}, "
)
_MESSAGES: dict[Statistic, str] = {
    "psi": _DISTRIBUTION + "PSI",
    "jensen_shannon": _DISTRIBUTION + "Jensen-Shannon divergence in bits",
    "kolmogorov_smirnov": _DISTRIBUTION + "Kolmogorov-Smirnov distance",
    "missing_share_change": "The missing share of {f.feature} went from {f.baseline:.3g} to {f.current:.3g}{where}:"
    " is its column still filled at the source?",
    "label_share_factor": "The share of frauds went from {f.baseline:.3g} to {f.current:.3g}{where}, by a factor",
    "volume_factor": "There are {f.current:.0f} rows on an ordinary day, the baseline has {f.baseline:.0f}, a factor",
    "new_value_share": "{f.feature} has a new value {f.detail!r}, in a share of rows that was 0",
    "vanished_value_share": "The value {f.detail!r} of {f.feature} has vanished: its share went from {f.baseline:.3g}"
    " to {f.current:.3g}",
    "top_share_rise": "The value {f.detail!r} of {f.feature} went from a share of {f.baseline:.3g} to {f.current:.3g}:"
    " is it stuck at the source?",
    "unit_factor": "The median of {f.feature} went from {f.baseline:.4g} to {f.current:.4g}{where}: are amounts in"
    " another unit? By a factor",
    "time_zone_gain": "The hours of the day{where} are those of the baseline moved by {f.detail}: is the time zone"
    " another one? Bits of divergence that this explains",
    "repeated_day_share": "Rows of {f.detail} come again with the same card, merchant, amount and second of the day: is"
    " a day in the log twice? Their share",
    "label_auc": "The label follows from {f.feature} alone (AUC was {f.baseline:.3g}): does it hold what is known only"
    " afterwards? AUC",
}
