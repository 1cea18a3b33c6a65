"""Thresholds of drift from the log's own history: how far an ordinary week is from those before it.

The threshold of a statistic of a feature is taken from the largest value that it had between a week and the one before
it, or all weeks before it: what looks back 30 days differs little from the week before, and a later run is compared
with all that the champion was trained on.  It is over all rows, and for the segments of one column together, because
eight weeks of one small segment, in which a few busy merchants decide, say little of its ninth.  A quantile would be of
no use: among a few pairs it is the largest or near it, and of thousands of statistics a share of any next week would
lie above it.  Instead a change must be twice as far as any ordinary one (`headroom`): distances and logarithms of
factors are multiplied by it, PSI and Jensen-Shannon divergence by its square, because for small changes they are
squared distances.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa

from components.gate import Severity
from components.profiles.counting import Profile, merge
from components.profiles.layout import ALL, segment_column
from components.profiles.measures import DISTRIBUTION, Measured, Statistic, Support, drift
from schemas.errors import ArtifactError, ConfigurationError
from schemas.transaction import SECOND_US, WEEK_S

WEEK_US = WEEK_S * SECOND_US
Key = tuple[str, str, Statistic]
_UNKNOWN_SEGMENT = 2.0


@dataclass(frozen=True)
class Law:
    """How the threshold of one statistic comes about.

    Attributes:
        fixed: the threshold without enough history; for distributions in a segment a change must be twice as far.
        floor: below it no change matters, however calm the history.
        scale: what `headroom` multiplies: the statistic, its root, its logarithm; faults are not calibrated.
        severity: of a finding, where the configuration says nothing else.
    """

    fixed: float
    floor: float
    scale: Literal["linear", "square", "factor", "never"]
    severity: Severity = "warn"


# 0.1 and 0.25 are the customary marks of some and of much change for PSI; for small changes they are 0.018 and 0.045
# bits of Jensen-Shannon divergence.
LAWS: dict[Statistic, Law] = {
    "psi": Law(0.25, 0.1, "square"),
    "jensen_shannon": Law(0.05, 0.02, "square"),
    "kolmogorov_smirnov": Law(0.2, 0.1, "linear"),
    "missing_share_change": Law(0.04, 0.02, "linear"),
    "label_share_factor": Law(2.0, 2.0, "factor"),
    "volume_factor": Law(3.0, 2.0, "factor"),
    "new_value_share": Law(0.01, 0.005, "linear"),
    "vanished_value_share": Law(0.01, 0.005, "linear"),
    "top_share_rise": Law(0.1, 0.05, "linear"),
    "unit_factor": Law(5.0, 5.0, "never", "stop"),
    "time_zone_gain": Law(0.005, 0.005, "never", "stop"),
    "repeated_day_share": Law(0.3, 0.3, "never", "stop"),
    "label_auc": Law(0.98, 0.98, "never", "stop"),
}


@dataclass(frozen=True)
class Calibration:
    """How thresholds are taken from history.

    Attributes:
        headroom: by which factor a change must exceed the largest ordinary one, as a distance.
        least_pairs: with fewer pairs of weeks the fixed thresholds hold.
    """

    headroom: float = 2.0
    least_pairs: int = 6

    def __post_init__(self) -> None:
        if not self.headroom >= 1 or self.least_pairs < 1:
            raise ConfigurationError(
                f"calibration with headroom {self.headroom} and least_pairs {self.least_pairs}; both must be 1 or more"
            )


@dataclass(frozen=True)
class Thresholds:
    """Above which value each statistic is a finding.

    Attributes:
        pairs: how many pairs of weeks the history had.
        calibrated: thresholds from history by feature, column of the segment (`all` for all rows) and statistic; for
            all others the fixed ones hold.
        support: that the history was measured with, and that comparisons use.
    """

    pairs: int = 0
    calibrated: Mapping[Key, float] = field(default_factory=dict)
    support: Support = field(default_factory=Support)

    def of(self, measured: Measured) -> float:
        law = LAWS[measured.statistic]
        # How restless a segment is by nature is not known then, and it is more so than all rows are.
        unknown = measured.segment != ALL and measured.statistic in DISTRIBUTION
        fixed = _apart(law.fixed, law, _UNKNOWN_SEGMENT) if unknown else law.fixed
        return self.calibrated.get(_key(measured), fixed)

    def is_calibrated(self, measured: Measured) -> bool:
        return _key(measured) in self.calibrated

    def strain(self, measured: Measured) -> float:
        """The statistic as a part of its threshold, so that 1 is a finding; a factor of 1 is 0."""
        if LAWS[measured.statistic].scale == "factor":
            return math.log(measured.value) / math.log(self.of(measured)) if measured.value > 1 else 0.0
        return measured.value / self.of(measured)

    def to_dict(self) -> dict[str, Any]:
        nested: dict[str, dict[str, dict[str, float]]] = {}
        for (feature, column, statistic), threshold in sorted(self.calibrated.items()):
            nested.setdefault(feature, {}).setdefault(column, {})[statistic] = threshold
        return {"pairs": self.pairs, "calibrated": nested, "support": asdict(self.support)}

    @staticmethod
    def from_dict(raw: Mapping[str, Any]) -> Thresholds:
        """Reads back `to_dict`.

        Raises:
            ArtifactError: these are no thresholds of this version.
        """
        try:
            calibrated: dict[Key, float] = {
                (feature, column, statistic): float(threshold)
                for feature, columns in raw["calibrated"].items()
                for column, statistics in columns.items()
                for statistic, threshold in statistics.items()
            }
            if unknown := {key[2] for key in calibrated} - set(get_args(Statistic)):
                raise ValueError(f"unknown statistic {', '.join(sorted(unknown))}")
            return Thresholds(int(raw["pairs"]), calibrated, Support(**raw["support"]))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArtifactError(f"not drift thresholds of this version ({error}); calibrate them again") from error


def calibrate(
    history: Sequence[Profile], calibration: Calibration | None = None, support: Support | None = None
) -> Thresholds:
    """Thresholds from the profiles of consecutive weeks, in one layout and in order.

    Every statistic that at least `least_pairs` pairs had the rows for gets a threshold of its own.
    """
    calibration, support = calibration or Calibration(), support or Support()
    seen: dict[Key, list[float]] = {}
    all_before: Profile | None = None
    for before, after in pairwise(history):
        all_before = merge([all_before, before]) if all_before else before
        largest: dict[Key, float] = {}
        for measured in (*drift(after, before, support), *drift(after, all_before, support)):
            key = _key(measured)
            largest[key] = max(measured.value, largest.get(key, 0.0))
        for key, value in largest.items():
            seen.setdefault(key, []).append(value)
    calibrated = {
        key: _threshold(max(values), LAWS[key[2]], calibration.headroom)
        for key, values in seen.items()
        # A factor is infinite where a week had no rows or no frauds; that says nothing of the others.
        if len(values) >= calibration.least_pairs and math.isfinite(max(values))
    }
    return Thresholds(max(0, len(history) - 1), calibrated, support)


def weeks(batches: Iterable[pa.Table]) -> Iterator[tuple[int, pa.Table]]:
    """The rows by the week that they are in, counted from the first row on; a week may come in several parts.

    Args:
        batches: with `event_time`, ascending.
    """
    first_us: int | None = None
    for batch in batches:
        if not batch.num_rows:
            continue
        time_us = batch["event_time"].cast(pa.int64()).to_numpy()
        first_us = int(time_us[0]) if first_us is None else first_us
        number = (time_us - first_us) // WEEK_US
        starts = np.flatnonzero(np.diff(number, prepend=-1))
        for begin, end in pairwise([*starts.tolist(), batch.num_rows]):
            yield int(number[begin]), batch.slice(begin, end - begin)


def _key(measured: Measured) -> Key:
    return measured.feature, segment_column(measured.segment), measured.statistic


def _threshold(largest: float, law: Law, headroom: float) -> float:
    return max(law.floor, _apart(largest, law, headroom))


def _apart(value: float, law: Law, times: float) -> float:
    """The value of a change that is so many times as far."""
    if law.scale == "factor":
        return float(value**times)
    return value * times ** (2 if law.scale == "square" else 1)
