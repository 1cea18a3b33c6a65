"""TFDV's own drift comparators: what a schema's say of statistics beside earlier ones.

They know nothing of segments, periods or calibration, find nothing in numbers by L-infinity, and cannot compare numbers
that may be missing (`schemas/fraud.pbtxt`); they are run beside ours because people know them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tensorflow_metadata.proto.v0 import anomalies_pb2

from components.gate import Reason

if TYPE_CHECKING:
    from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

_MEASURES = anomalies_pb2.DriftSkewInfo.Measurement.Type


@dataclass(frozen=True)
class Exceeded:
    """One comparator of the schema that is exceeded.

    Attributes:
        feature: the feature's name.
        measure: by which it was compared, such as `L-infinity`.
        value: what it measured, above `threshold`.
    """

    feature: str
    measure: str
    value: float
    threshold: float

    @property
    def reason(self) -> Reason:
        """A warning; our own statistics of the same feature decide whether to stop."""
        message = (
            f"TFDV's comparator finds {self.feature} away from the champion's training rows: {self.measure} is"
            f" {self.value:.3g}, its threshold in schemas/fraud.pbtxt {self.threshold:.3g}."
        )
        return Reason("drift", "warn", self.feature, message, self.value, self.threshold)


def exceeded(
    current: statistics_pb2.DatasetFeatureStatistics,
    previous: statistics_pb2.DatasetFeatureStatistics,
    schema: schema_pb2.Schema,
) -> tuple[Exceeded, ...]:
    """What the drift comparators of a schema find between two statistics, by feature.

    Args:
        current: of this run's rows.
        previous: of the champion's.
        schema: with the comparators.
    """
    import tensorflow_data_validation as tfdv
    from tensorflow_metadata.proto.v0.statistics_pb2 import DatasetFeatureStatisticsList

    now, then = (DatasetFeatureStatisticsList(datasets=[one]) for one in (current, previous))
    found = tfdv.validate_statistics(now, schema, previous_statistics=then).drift_skew_info
    above = [
        Exceeded(".".join(info.path.step), _name(measured.type), measured.value, measured.threshold)
        for info in found
        for measured in info.drift_measurements
        if measured.value > measured.threshold
    ]
    return tuple(sorted(above, key=lambda one: (one.feature, one.measure)))


def _name(measure: int) -> str:
    names = {_MEASURES.L_INFTY: "L-infinity", _MEASURES.JENSEN_SHANNON_DIVERGENCE: "Jensen-Shannon divergence"}
    return names.get(measure, _MEASURES.Name(measure))
