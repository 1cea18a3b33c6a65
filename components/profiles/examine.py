"""Looking for drift: the rows of a run beside a baseline, period by period."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from components.gate import Severity
from components.profiles.baseline import Baseline
from components.profiles.findings import by_excess, compare
from components.profiles.measures import Statistic
from components.profiles.periods import Period, plan, profiles
from components.profiles.pictures import pictures
from components.profiles.report import DriftReport
from schemas.errors import ArtifactError


def examine(
    batches: Iterable[pa.Table],
    times_us: npt.NDArray[np.int64],
    baseline: Baseline,
    severities: Mapping[Statistic, Severity],
) -> tuple[DriftReport, dict[str, bytes]]:
    """What is found, and pictures of it as PNG by name.

    Args:
        batches: the run's rows as `profile` takes them, with `event_time` ascending.
        times_us: their event times, at least one.
        baseline: the champion's, with layout and thresholds.
        severities: by statistic, where they are not as usual.

    Raises:
        ArtifactError: the baseline has no times.
    """
    then = baseline.profile
    if then.span_us is None:
        raise ArtifactError("the baseline has no row with a time; let the champion's pipeline make another one")
    periods = plan(times_us, then.span_us[1])
    current = dict(zip([p.name for p in periods], profiles(batches, periods, then.layout), strict=True))
    compared = [compare(now, then, baseline.thresholds, severities, name) for name, now in current.items()]
    findings = by_excess(finding for one in compared for finding in one.findings)
    strain: dict[tuple[str, str], float] = {}
    for place, value in (item for one in compared for item in one.strain.items()):
        strain[place] = max(value, strain.get(place, 0.0))
    report = DriftReport(
        baseline=Period("the champion's training rows", *then.span_us, then.total),
        periods=periods,
        pairs=baseline.thresholds.pairs,
        measured=sum(one.measured for one in compared),
        findings=findings,
        uncompared=compared[0].uncompared,
    )
    return report, pictures(findings, strain, current, then)
