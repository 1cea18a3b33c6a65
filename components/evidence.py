"""How good a model is on one split, at the split's true prevalence, with intervals by card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from components.measures import (
    FALSE_POSITIVE_RATES,
    NO_INTERVALS,
    PRECISIONS,
    Bootstrap,
    Estimate,
    Replicates,
    Scored,
    estimates,
    replicates,
    scored,
)
from schemas.errors import ArtifactError
from schemas.thresholds import Costs, Thresholds


@dataclass(frozen=True)
class OperatingPoint:
    """What a threshold does to a split: alerts are the transactions with a score of `threshold` or more.

    Attributes:
        name: `review` or `block`.
        threshold: the score.
        alerts: transactions at or above it, and `alert_share` of all.
        caught: frauds among the alerts.
        precision: caught / alerts; None without alerts.
        recall: caught / frauds; None without frauds.
        value_recall: amount of the caught frauds / amount of all frauds; None where that is zero.
    """

    name: str
    threshold: float
    alerts: int
    alert_share: float
    caught: int
    precision: float | None
    recall: float | None
    value_recall: float | None


@dataclass(frozen=True)
class RecallAtRate:
    """The largest share of frauds caught by a threshold that alerts on at most this share of genuine transactions."""

    false_positive_rate: float
    recall: float


@dataclass(frozen=True)
class RecallAtPrecision:
    """The largest share of frauds caught by a threshold of whose alerts at least this share are frauds."""

    precision: float
    recall: float


@dataclass(frozen=True)
class SplitEvidence:
    """What was measured on one split; a metric that the rows cannot give is None, and `statements` says why.

    `components.measures.replicates` says what each metric is.

    Attributes:
        split: `train`, `validation`, `test`, ...
        rows: transactions with a label, `frauds` among them, on `days` different days, `prevalence` = frauds / rows.
        fraud_value: amount of all frauds, in minor units of the base currency.
        mean_score: to be compared with `prevalence`; equal where the model is calibrated in the large.
        recall_at_fpr: one entry for each rate of `FALSE_POSITIVE_RATES`.
        recall_at_precision: one entry for each of `PRECISIONS`.
        operating_points: one entry for each threshold that there is.
        alerts_per_day, cost_per_transaction, cost_without_model, saved_share: at these points; costs are in minor units
            of the base currency.
        intervals: the ends of each metric's interval, by the name that it has in `metrics`.
    """

    split: str
    rows: int
    frauds: int
    days: int
    prevalence: float | None
    fraud_value: int
    mean_score: float | None
    average_precision: float | None
    roc_auc: float | None
    log_loss: float | None
    brier: float | None
    expected_calibration_error: float | None
    calibration_ratio: float | None
    card_precision_100: float | None
    recall_at_fpr: tuple[RecallAtRate, ...]
    recall_at_precision: tuple[RecallAtPrecision, ...]
    operating_points: tuple[OperatingPoint, ...]
    alerts_per_day: float | None = None
    cost_per_transaction: float | None = None
    cost_without_model: float | None = None
    saved_share: float | None = None
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    statements: tuple[str, ...] = ()

    def to_json(self) -> str:
        """One JSON object with the fields as keys; no NaN in it."""
        return json.dumps(asdict(self), indent=2, allow_nan=False)

    @staticmethod
    def from_json(text: str) -> SplitEvidence:
        """Reads back `to_json`.

        Raises:
            ArtifactError: the text is not the evidence of a split.
        """
        try:
            raw: dict[str, Any] = json.loads(text)
            raw["recall_at_fpr"] = tuple(RecallAtRate(**entry) for entry in raw["recall_at_fpr"])
            raw["recall_at_precision"] = tuple(RecallAtPrecision(**entry) for entry in raw["recall_at_precision"])
            raw["operating_points"] = tuple(OperatingPoint(**entry) for entry in raw["operating_points"])
            raw["intervals"] = {name: (low, high) for name, (low, high) in raw["intervals"].items()}
            raw["statements"] = tuple(raw["statements"])
            return SplitEvidence(**raw)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ArtifactError(f"not the evidence of a split: {error!r}; evaluate the model again") from error

    def metrics(self) -> dict[str, float]:
        """Every number by a flat name such as `recall_at_fpr_0.01` or `review_precision`; None is left out."""
        named: dict[str, float | None] = {name: getattr(self, name) for name in _PLAIN}
        named |= {f"recall_at_fpr_{entry.false_positive_rate:g}": entry.recall for entry in self.recall_at_fpr}
        named |= {f"recall_at_precision_{entry.precision:g}": entry.recall for entry in self.recall_at_precision}
        for point in self.operating_points:
            named |= {
                f"{point.name}_alerts": point.alerts,
                f"{point.name}_alert_share": point.alert_share,
                f"{point.name}_precision": point.precision,
                f"{point.name}_recall": point.recall,
                f"{point.name}_value_recall": point.value_recall,
            }
        return {name: float(value) for name, value in named.items() if value is not None}

    def estimate(self, name: str) -> Estimate | None:
        """One metric with its interval, by its flat name; None where it was not measured."""
        value = self.metrics().get(name)
        return None if value is None else Estimate(value, *self.intervals.get(name, ()))


_PLAIN = (
    "rows", "frauds", "prevalence", "mean_score", "average_precision", "roc_auc", "log_loss", "brier",
    "expected_calibration_error", "calibration_ratio", "card_precision_100", "alerts_per_day", "cost_per_transaction",
    "cost_without_model", "saved_share",
)  # fmt: skip
_SAME_NAME = _PLAIN[2:]


def measure(
    split: str,
    labels: ArrayLike,
    scores: ArrayLike,
    amounts_base_minor: ArrayLike,
    card_ids: ArrayLike,
    days: ArrayLike,
    thresholds: Thresholds | None = None,
    bootstrap: Bootstrap = NO_INTERVALS,
) -> SplitEvidence:
    """Measures the scores of one split.

    Args:
        split: its name.
        labels: `[rows]`, 1 or true for fraud; a row whose label is not known has no place here.
        scores: `[rows]`, probability of fraud.
        amounts_base_minor: `[rows]`, minor units of the base currency.
        card_ids: `[rows]`, anything that sorts.
        days: `[rows]`, number of the day of `event_time`, whole days in UTC.
        thresholds: as chosen on validation; without them there are no operating points.
        bootstrap: of which the intervals are.

    Raises:
        ValueError: the arrays differ in length, or a label is neither 0 nor 1.
    """
    transactions = scored(labels, scores, amounts_base_minor, card_ids, days)
    return told(split, transactions, replicated(transactions, thresholds, bootstrap), thresholds, bootstrap.confidence)


def replicated(transactions: Scored, thresholds: Thresholds | None, bootstrap: Bootstrap) -> Replicates:
    """Every measure that the scores allow; none where one of them is not a finite number."""
    if not transactions.is_finite:
        return {}
    return replicates(transactions, thresholds, (thresholds and thresholds.costs) or Costs(), bootstrap)


def told(
    split: str, transactions: Scored, measured: Replicates, thresholds: Thresholds | None, confidence: float
) -> SplitEvidence:
    """The evidence of a split that has been measured already.

    Args:
        split: its name.
        transactions: with the scores of the model.
        measured: by `replicated`, of them.
        thresholds: by which.
        confidence: of the intervals.
    """
    found = estimates(measured, confidence)
    value = {name: one.value for name, one in found.items()}
    rates = tuple(
        RecallAtRate(rate, value[f"recall_at_fpr_{rate:g}"]) for rate in FALSE_POSITIVE_RATES if _ranked(value)
    )
    precisions = tuple(
        RecallAtPrecision(precision, value[f"recall_at_precision_{precision:g}"])
        for precision in PRECISIONS
        if _ranked(value)
    )
    return SplitEvidence(
        split=split,
        rows=transactions.rows,
        frauds=transactions.frauds,
        days=transactions.days,
        fraud_value=transactions.fraud_value,
        recall_at_fpr=rates,
        recall_at_precision=precisions,
        operating_points=_operating_points(transactions, value, thresholds) if measured else (),
        intervals={
            name: (one.low, one.high) for name, one in found.items() if one.low is not None and one.high is not None
        },
        statements=_what_is_missing(split, transactions),
        **{name: value.get(name) for name in _SAME_NAME}
        | {"prevalence": transactions.frauds / transactions.rows if transactions.rows else None},
    )


def _ranked(value: Mapping[str, float]) -> bool:
    return "average_precision" in value


def _operating_points(
    transactions: Scored, value: Mapping[str, float], thresholds: Thresholds | None
) -> tuple[OperatingPoint, ...]:
    named = (("review", thresholds.review), ("block", thresholds.block)) if thresholds else ()
    points = []
    for name, threshold in named:
        if threshold is None:
            continue
        alert = transactions.score >= threshold
        points.append(
            OperatingPoint(
                name=name,
                threshold=threshold,
                alerts=int(alert.sum()),
                alert_share=value[f"{name}_alert_share"],
                caught=int((alert & transactions.fraud).sum()),
                precision=value.get(f"{name}_precision"),
                recall=value.get(f"{name}_recall"),
                value_recall=value.get(f"{name}_value_recall"),
            )
        )
    return tuple(points)


def _what_is_missing(split: str, transactions: Scored) -> tuple[str, ...]:
    score = transactions.score
    if transactions.rows == 0:
        return (f"Split {split} has no row, so nothing could be measured.",)
    statements = []
    if transactions.frauds == 0:
        statements.append(f"Split {split} holds no fraud, so precision and recall could not be measured.")
    elif transactions.frauds == transactions.rows:
        statements.append(f"Split {split} holds nothing but frauds, so ranking metrics could not be measured.")
    if not transactions.is_finite:
        unusable = int((~np.isfinite(score)).sum())
        statements.append(
            f"{unusable} of {score.size} scores of split {split} are not finite numbers, so none was measured."
        )
        return tuple(statements)
    if not transactions.is_probable:
        statements.append(
            f"Scores of split {split} reach from {score.min():.6g} to {score.max():.6g}, outside [0, 1], so "
            "calibration could not be measured."
        )
    if score.size > 1 and score.min() == score.max():
        statements.append(f"All {score.size} scores of split {split} are {score[0]:.6g}: they rank nothing.")
    return tuple(statements)
