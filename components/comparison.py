"""A model beside others on the same rows: the champion, and baselines that any network has to beat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from components.measures import Estimate, Replicates, difference, estimates, ratio

CHAMPION = "champion"
# What is told of another model.
MEASURES = (
    "average_precision",
    "roc_auc",
    "recall_at_fpr_0.001",
    "recall_at_fpr_0.01",
    "card_precision_100",
    "expected_calibration_error",
    "review_recall",
    "review_value_recall",
    "alerts_per_day",
    "cost_per_transaction",
    "saved_share",
)


@dataclass(frozen=True)
class Rival:
    """Another model on the rows that a model was measured on, at its own thresholds.

    Attributes:
        name: `champion`, or what kind of baseline it is.
        measures: of the other model, by name.
        differences: the model's less the other's, sample by sample.
        cost_ratio: the model's cost over the other's, likewise; None where the other's is zero.
    """

    name: str
    measures: Mapping[str, Estimate]
    differences: Mapping[str, Estimate]
    cost_ratio: Estimate | None = None

    def fields(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)

    @staticmethod
    def read(raw: Mapping[str, Any]) -> Rival:
        """Reads back `fields`."""
        named = {
            key: {name: Estimate.read(one) for name, one in raw[key].items()} for key in ("measures", "differences")
        }
        cost_ratio = raw["cost_ratio"]
        return Rival(raw["name"], **named, cost_ratio=Estimate.read(cost_ratio) if cost_ratio else None)


def compare(name: str, ours: Replicates, theirs: Replicates, confidence: float) -> Rival:
    """Sets a model beside another one; both were measured on the same rows with the same draws."""
    found = estimates(theirs, confidence)
    differences = {measure: difference(ours, theirs, measure, confidence) for measure in MEASURES}
    return Rival(
        name,
        {measure: found[measure] for measure in MEASURES if measure in found},
        {measure: one for measure, one in differences.items() if one is not None},
        ratio(ours, theirs, "cost_per_transaction", confidence),
    )
