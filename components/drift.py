"""Drift: how far a run's examples have moved from those that the champion was trained on, read off TFDV statistics.

TFDV's L-infinity comparator finds nothing in numbers.  Here numbers and text go through the same two measures, with the
missing as a bin of their own, and faults of unit, column and volume are told apart from ordinary drift.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError
from tensorflow_metadata.proto.v0 import statistics_pb2

from components.distances import factor, jensen_shannon_divergence, population_stability_index
from components.gate import Reason, Severity
from schemas.errors import ArtifactError, ConfigurationError
from schemas.features import AMOUNT
from schemas.transaction import LABEL

Statistic = Literal[
    "psi",
    "jensen_shannon",
    "missing_share_change",
    "median_factor",
    "label_share_factor",
    "volume_factor",
    "volume_collapse",
]
# What to ask of StatisticsGen.  TFDV's own 10 smear the mass of a discrete number over its neighbours: a count of
# frauds that hardly changed from one week to the next had a PSI of 0.42 then, and 0.03 with 100.
QUANTILE_BUCKETS = 100
_QUANTILES = statistics_pb2.Histogram.QUANTILES


@dataclass(frozen=True)
class DriftThresholds:
    """Above which value a statistic is a finding, and which findings stop the run.

    Attributes:
        psi: population stability index; 0.1 and 0.25 are the customary marks of some and of much change.
        jensen_shannon: divergence in bits, at most 1; for small changes a PSI of 0.25 is 0.045 of it.
        missing_share_change: absolute change of the share of missing values.
        median_factor: an amount's median grown or shrunk by this factor is a fault of unit.
        label_share_factor: factor by which the share of frauds grew or shrank.
        volume_factor: factor by which the number of rows grew or shrank.
        volume_collapse: factor by which the number of rows shrank.
        min_values: with fewer values on either side a distribution is not compared, which the report says.
        bins: into how many bins the baseline's quantiles cut a number.
        categories: how many of the baseline's most frequent texts have a bin of their own; the others share one.
        stops: the statistics whose findings stop; those of the others warn.
    """

    psi: float = 0.25
    jensen_shannon: float = 0.05
    missing_share_change: float = 0.5
    median_factor: float = 10.0
    label_share_factor: float = 2.0
    volume_factor: float = 3.0
    volume_collapse: float = 10.0
    min_values: int = 500
    bins: int = 10
    categories: int = 50
    stops: tuple[Statistic, ...] = ("missing_share_change", "median_factor", "volume_collapse")

    def __post_init__(self) -> None:
        limits = dict.fromkeys(("psi", "jensen_shannon", "missing_share_change"), 0)
        limits |= dict.fromkeys(("median_factor", "label_share_factor", "volume_factor", "volume_collapse"), 1)
        for name, least in {"bins": 2, "categories": 1, "min_values": 1, **limits}.items():
            if not getattr(self, name) >= least:
                raise ConfigurationError(f"drift threshold {name} is {getattr(self, name)}; it must be {least} or more")
        for name in self.stops:
            if name not in _MESSAGES:
                raise ConfigurationError(f"drift cannot stop on {name!r}; use any of {', '.join(_MESSAGES)}")

    def severity(self, statistic: Statistic) -> Severity:
        return "stop" if statistic in self.stops else "warn"


@dataclass(frozen=True)
class Measure:
    """One statistic of one feature (or of the rows), with what it compared.

    Attributes:
        feature: the feature's name, or `rows`.
        value: the statistic; a finding when it is above `limit`.
        severity: what a finding of it means for the gate.
        baseline: the compared quantity in the champion's data (a median, a share, a count); none for distributions.
        current: the same in this run's.
    """

    feature: str
    statistic: Statistic
    value: float
    limit: float
    severity: Severity
    baseline: float | None = None
    current: float | None = None

    @property
    def exceeded(self) -> bool:
        return self.value > self.limit


@dataclass(frozen=True)
class DriftReport:
    """Everything that was measured.

    Attributes:
        baseline: `none` when there is no champion; then nothing was measured.
        measures: in the order of the current features, rows last.
        uncompared: feature and why it was not compared.
    """

    baseline: Literal["champion", "none"]
    measures: tuple[Measure, ...] = ()
    uncompared: tuple[tuple[str, str], ...] = ()

    @property
    def findings(self) -> tuple[Measure, ...]:
        return tuple(measure for measure in self.measures if measure.exceeded)

    def to_json(self) -> str:
        """One JSON object; each measure also says whether it is `exceeded`; an infinite factor is the text `inf`."""
        measures = [
            {**asdict(m), "value": m.value if math.isfinite(m.value) else "inf", "exceeded": m.exceeded}
            for m in self.measures
        ]
        body = {"baseline": self.baseline, "measures": measures, "uncompared": dict(self.uncompared)}
        return json.dumps(body, indent=2, allow_nan=False)


def load_statistics(path: Path) -> statistics_pb2.DatasetFeatureStatistics:
    """The statistics of one split, as StatisticsGen writes them (`Split-<name>/FeatureStats.pb`).

    Raises:
        ArtifactError: the file is absent, or holds no statistics.
    """
    try:
        datasets = statistics_pb2.DatasetFeatureStatisticsList.FromString(path.read_bytes()).datasets
    except (OSError, DecodeError) as error:
        raise ArtifactError(f"statistics {path} cannot be read ({error}); run the statistics step again") from error
    if not datasets:
        raise ArtifactError(f"statistics {path} are empty; run the statistics step again")
    return datasets[0]


def compare(
    current: statistics_pb2.DatasetFeatureStatistics,
    baseline: statistics_pb2.DatasetFeatureStatistics | None,
    thresholds: DriftThresholds,
) -> DriftReport:
    """Measures the drift of every feature, of the label's share and of the number of rows.

    Numbers are compared over the bins that the baseline's quantiles cut, as finely as both quantile histograms resolve
    (`QUANTILE_BUCKETS`; the mass at zero is always exact); text over the baseline's most frequent values; the missing
    (NaN, "") are a bin.

    Args:
        current: this run's training examples.
        baseline: the champion's training examples; none when there is no champion.
    """
    if baseline is None:
        return DriftReport("none")
    then, now = _by_name(baseline), _by_name(current)
    measures: list[Measure] = []
    uncompared = [(name, "not among this run's features") for name in then if name not in now]
    for name, feature in now.items():
        if name not in then:
            uncompared.append((name, "not among the champion's features"))
        elif feature.WhichOneof("stats") != then[name].WhichOneof("stats"):
            uncompared.append(
                (name, f"{feature.WhichOneof('stats')} here, {then[name].WhichOneof('stats')} for the champion")
            )
        elif (few := min(_values(feature), _values(then[name]))) < thresholds.min_values:
            uncompared.append((name, f"{few:.0f} values on one side, below {thresholds.min_values}"))
        else:
            measures += (
                _label_measures(feature, then[name], thresholds)
                if name == LABEL
                else _measures(name, feature, then[name], thresholds)
            )
    measures += _volume_measures(current.num_examples, baseline.num_examples, thresholds)
    return DriftReport("champion", tuple(measures), tuple(uncompared))


def reasons(report: DriftReport) -> tuple[Reason, ...]:
    """The findings as reasons; without a baseline, one warning that says so."""
    if report.baseline == "none":
        return (
            Reason("drift", "warn", "baseline", "No baseline: there is no champion yet, so drift was not measured."),
        )
    return tuple(
        Reason("drift", m.severity, m.feature, _MESSAGES[m.statistic].format(m=m), m.value, m.limit)
        for m in report.findings
    )


def _measures(
    name: str,
    now: statistics_pb2.FeatureNameStatistics,
    then: statistics_pb2.FeatureNameStatistics,
    limits: DriftThresholds,
) -> Iterator[Measure]:
    p, q = (
        _numeric_shares(now, then, limits.bins)
        if now.HasField("num_stats")
        else _text_shares(now, then, limits.categories)
    )
    yield Measure(name, "psi", population_stability_index(p, q), limits.psi, limits.severity("psi"))
    divergence = jensen_shannon_divergence(p, q)
    yield Measure(name, "jensen_shannon", divergence, limits.jensen_shannon, limits.severity("jensen_shannon"))
    missing_then, missing_now = float(q[-1]), float(p[-1])
    yield Measure(
        name, "missing_share_change", abs(missing_now - missing_then), limits.missing_share_change,
        limits.severity("missing_share_change"), missing_then, missing_now,
    )  # fmt: skip
    # Names are derived from columns, so every statistic of amounts has the column in its name, and none else.
    medians = then.num_stats.median, now.num_stats.median
    if AMOUNT in name and min(medians) > 0:
        severity = limits.severity("median_factor")
        yield Measure(name, "median_factor", factor(*medians), limits.median_factor, severity, *medians)


def _label_measures(
    now: statistics_pb2.FeatureNameStatistics, then: statistics_pb2.FeatureNameStatistics, limits: DriftThresholds
) -> Iterator[Measure]:
    shares = then.num_stats.mean, now.num_stats.mean
    severity = limits.severity("label_share_factor")
    yield Measure(LABEL, "label_share_factor", factor(*shares), limits.label_share_factor, severity, *shares)


def _volume_measures(now: int, then: int, limits: DriftThresholds) -> Iterator[Measure]:
    ratio, counts = factor(then, now), (float(then), float(now))
    yield Measure("rows", "volume_factor", ratio, limits.volume_factor, limits.severity("volume_factor"), *counts)
    shrunk = ratio if now < then else 1.0
    yield Measure(
        "rows", "volume_collapse", shrunk, limits.volume_collapse, limits.severity("volume_collapse"), *counts
    )


def _by_name(statistics: statistics_pb2.DatasetFeatureStatistics) -> dict[str, statistics_pb2.FeatureNameStatistics]:
    return {feature.name or ".".join(feature.path.step): feature for feature in statistics.features}


def _common(feature: statistics_pb2.FeatureNameStatistics) -> statistics_pb2.CommonStatistics:
    return (feature.num_stats if feature.HasField("num_stats") else feature.string_stats).common_stats


def _values(feature: statistics_pb2.FeatureNameStatistics) -> float:
    """All values, missing ones included; a row without the feature lacks as many as other rows have."""
    common = _common(feature)
    return common.tot_num_values + common.num_missing * max(1.0, common.avg_num_values)


def _quantiles(feature: statistics_pb2.FeatureNameStatistics) -> statistics_pb2.Histogram:
    return next((h for h in feature.num_stats.histograms if h.type == _QUANTILES), statistics_pb2.Histogram())


def _numeric_shares(
    now: statistics_pb2.FeatureNameStatistics, then: statistics_pb2.FeatureNameStatistics, bins: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Shares `[bins + 1]` of both sides in the bins up to each edge, above the last one, and missing."""
    edges = _edges(then, bins)
    p, q = (
        np.append(np.diff(_cumulated(f, edges), prepend=0.0), _values(f) - _present(f)) / _values(f)
        for f in (now, then)
    )
    return p, q


def _edges(feature: statistics_pb2.FeatureNameStatistics, bins: int) -> npt.NDArray[np.float64]:
    """Where the inner quantiles lie: at most `bins - 1` distinct values, and zero where there are zeros."""
    buckets = _quantiles(feature).buckets
    highs = np.array([bucket.high_value for bucket in buckets])
    cumulated = np.cumsum([bucket.sample_count for bucket in buckets])
    targets = np.arange(1, bins) / bins * (cumulated[-1] if len(buckets) else 0.0)
    # Bucket counts are floats; a hair's breadth must not push a quantile into the next bucket.
    inner = highs[np.searchsorted(cumulated * (1 + 1e-9), targets)] if len(buckets) else highs
    return np.unique(np.append(inner, 0.0) if _zeros_are_lowest(feature) else inner)


def _cumulated(
    feature: statistics_pb2.FeatureNameStatistics, edges: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Values up to each edge, and all present ones last: `[edges + 1]`; inside a bucket values lie evenly."""
    total = np.zeros(len(edges))
    for bucket in _quantiles(feature).buckets:
        width = bucket.high_value - bucket.low_value
        inside = np.clip((edges - bucket.low_value) / width, 0.0, 1.0) if width > 0 else (edges >= bucket.low_value)
        total += bucket.sample_count * inside
    if _zeros_are_lowest(feature):
        zeros = float(feature.num_stats.num_zeros)
        total = np.where(edges == 0.0, zeros, np.where(edges > 0.0, np.maximum(total, zeros), total))
    return np.append(total, _present(feature))


def _zeros_are_lowest(feature: statistics_pb2.FeatureNameStatistics) -> bool:
    return feature.num_stats.num_zeros > 0 and feature.num_stats.min >= 0


def _present(feature: statistics_pb2.FeatureNameStatistics) -> float:
    if feature.HasField("num_stats"):
        return _common(feature).tot_num_values - _quantiles(feature).num_nan
    return _common(feature).tot_num_values - _frequencies(feature).get("", 0.0)


def _text_shares(
    now: statistics_pb2.FeatureNameStatistics, then: statistics_pb2.FeatureNameStatistics, categories: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Shares `[categories + 2]` of both sides: each of the baseline's most frequent values, all others, and missing."""
    # The rank histogram comes with the most frequent first.
    names = [name for name in _frequencies(then) if name][:categories]
    p, q = (_shares_of(names, feature) for feature in (now, then))
    return p, q


def _shares_of(names: list[str], feature: statistics_pb2.FeatureNameStatistics) -> npt.NDArray[np.float64]:
    frequencies, present, values = _frequencies(feature), _present(feature), _values(feature)
    named = np.array([frequencies.get(name, 0.0) for name in names])
    return np.append(named, [max(0.0, present - named.sum()), values - present]) / values


def _frequencies(feature: statistics_pb2.FeatureNameStatistics) -> dict[str, float]:
    return {bucket.label: bucket.sample_count for bucket in feature.string_stats.rank_histogram.buckets}


_MESSAGES: dict[Statistic, str] = {
    "psi": "{m.feature} is distributed otherwise than in the champion's data: PSI {m.value:.3g} is above {m.limit:g}.",
    "jensen_shannon": "{m.feature} is distributed otherwise than in the champion's data: Jensen-Shannon divergence"
    " {m.value:.3g} bits is above {m.limit:g}.",
    "missing_share_change": "The missing share of {m.feature} went from {m.baseline:.3g} to {m.current:.3g}, by more"
    " than {m.limit:g}: is its column still filled at the source?",
    "median_factor": "The median of {m.feature} went from {m.baseline:g} to {m.current:g}, by a factor of"
    " {m.value:.3g}, above {m.limit:g}: are amounts in another unit?",
    "label_share_factor": "The share of frauds went from {m.baseline:.3g} to {m.current:.3g}, by a factor of"
    " {m.value:.3g}, above {m.limit:g}.",
    "volume_factor": "There are {m.current:.0f} rows, the champion had {m.baseline:.0f}: a factor of {m.value:.3g},"
    " above {m.limit:g}.",
    "volume_collapse": "Only {m.current:.0f} rows are left of {m.baseline:.0f}, fewer by a factor above {m.limit:g}:"
    " is the log complete?",
}
