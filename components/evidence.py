"""How good a model is on one split, at the split's true prevalence, and the thresholds chosen on validation."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from schemas.errors import ArtifactError
from schemas.thresholds import Thresholds

FALSE_POSITIVE_RATES = (0.001, 0.005, 0.01, 0.05)
CARDS_PER_DAY = 100
CALIBRATION_BINS = 15
# Log loss is infinite for a sure score that was wrong; this is where float32 stops telling a score from 1.
_LOG_LOSS_CLIP = float(np.finfo(np.float32).eps)

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


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
class SplitEvidence:
    """What was measured on one split; a metric that the rows cannot give is None, and `statements` says why.

    Attributes:
        split: `train`, `validation`, `test`, ...
        rows: transactions with a label, `frauds` among them, on `days` different days, `prevalence` = frauds / rows.
        fraud_value: amount of all frauds, in minor units of the base currency.
        mean_score: to be compared with `prevalence`; equal where the model is calibrated in the large.
        average_precision: scikit-learn's, the sum of precision times the step in recall.
        roc_auc: area under the receiver operating characteristic.
        log_loss: mean of -ln of the probability given to the truth.
        brier: mean squared difference of score and label.
        expected_calibration_error: see `expected_calibration_error`.
        card_precision_100: see `card_precision`.
        recall_at_fpr: one entry for each rate of `FALSE_POSITIVE_RATES`.
        operating_points: one entry for each threshold that there is.
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
    card_precision_100: float | None
    recall_at_fpr: tuple[RecallAtRate, ...]
    operating_points: tuple[OperatingPoint, ...]
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
            raw["operating_points"] = tuple(OperatingPoint(**entry) for entry in raw["operating_points"])
            raw["statements"] = tuple(raw["statements"])
            return SplitEvidence(**raw)
        except (ValueError, KeyError, TypeError) as error:
            raise ArtifactError(f"not the evidence of a split: {error!r}; evaluate the model again") from error

    def metrics(self) -> dict[str, float]:
        """Every number by a flat name such as `recall_at_fpr_0.01` or `review_precision`; None is left out."""
        named: dict[str, float | None] = {
            "rows": self.rows,
            "frauds": self.frauds,
            "prevalence": self.prevalence,
            "mean_score": self.mean_score,
            "average_precision": self.average_precision,
            "roc_auc": self.roc_auc,
            "log_loss": self.log_loss,
            "brier": self.brier,
            "expected_calibration_error": self.expected_calibration_error,
            "card_precision_100": self.card_precision_100,
        }
        named |= {f"recall_at_fpr_{entry.false_positive_rate:g}": entry.recall for entry in self.recall_at_fpr}
        for point in self.operating_points:
            named |= {
                f"{point.name}_alerts": point.alerts,
                f"{point.name}_alert_share": point.alert_share,
                f"{point.name}_precision": point.precision,
                f"{point.name}_recall": point.recall,
                f"{point.name}_value_recall": point.value_recall,
            }
        return {name: float(value) for name, value in named.items() if value is not None}


def measure(
    split: str,
    labels: ArrayLike,
    scores: ArrayLike,
    amounts_base_minor: ArrayLike,
    card_ids: ArrayLike,
    days: ArrayLike,
    thresholds: Thresholds | None = None,
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

    Raises:
        ValueError: the arrays differ in length, or a label is neither 0 nor 1.
    """
    fraud = _labels(labels)
    score = np.asarray(scores, dtype=np.float64)
    amount = np.asarray(amounts_base_minor, dtype=np.int64)
    card, day = np.asarray(card_ids), np.asarray(days)
    for name, column in (("scores", score), ("amounts_base_minor", amount), ("card_ids", card), ("days", day)):
        if column.shape != fraud.shape:
            raise ValueError(f"{name} of split {split!r} has shape {column.shape}, its labels {fraud.shape}")

    rows, frauds = fraud.size, int(fraud.sum())
    statements = _what_is_missing(split, fraud, score)
    finite = rows > 0 and bool(np.isfinite(score).all())
    probable = finite and bool(((score >= 0) & (score <= 1)).all())
    ranked = finite and 0 < frauds < rows
    sweep = _Sweep(fraud, score, amount) if finite else None
    return SplitEvidence(
        split=split,
        rows=rows,
        frauds=frauds,
        days=len(np.unique(day)),
        prevalence=frauds / rows if rows else None,
        fraud_value=_total(amount[fraud]),
        mean_score=float(score.mean()) if finite else None,
        average_precision=float(average_precision_score(fraud, score)) if ranked else None,
        roc_auc=float(roc_auc_score(fraud, score)) if ranked else None,
        log_loss=log_loss(fraud, score) if probable else None,
        brier=float(np.mean((score - fraud) ** 2)) if probable else None,
        expected_calibration_error=expected_calibration_error(fraud, score) if probable else None,
        card_precision_100=card_precision(fraud, score, card, day) if finite and frauds else None,
        recall_at_fpr=sweep.recall_at_rates(FALSE_POSITIVE_RATES) if sweep and ranked else (),
        operating_points=sweep.operating_points(thresholds) if sweep and thresholds else (),
        statements=statements,
    )


def choose_thresholds(
    labels: ArrayLike,
    scores: ArrayLike,
    alert_budget: float = 0.005,
    block_precision: float = 0.8,
    min_block_alerts: int = 30,
) -> Thresholds:
    """Chooses the REVIEW and BLOCK thresholds from the scores of a validation split.

    REVIEW is the lowest score that, with all at or above it, is no more than `alert_budget` of the transactions.
    BLOCK is the lowest score from REVIEW on at which at least `block_precision` of the alerts are frauds, among at
    least `min_block_alerts` of them, so that no threshold rests on a handful of rows.  Both are scores that occur, and
    all rows with one score fall on the same side.

    Args:
        labels: `[rows]`, 1 or true for fraud.
        scores: `[rows]`, probability of fraud.
        alert_budget: share of transactions that people can look at, in (0, 1].
        block_precision: share of frauds wanted among blocked transactions, in (0, 1].
        min_block_alerts: see above.

    Raises:
        ValueError: the arrays differ in length, a label is neither 0 nor 1, or a share is outside (0, 1].
    """
    for name, share in (("alert_budget", alert_budget), ("block_precision", block_precision)):
        if not 0 < share <= 1:
            raise ValueError(f"{name} is {share!r}; it is a share, above 0 and at most 1")
    fraud, score = _labels(labels), np.asarray(scores, dtype=np.float64)
    if score.shape != fraud.shape:
        raise ValueError(f"scores have shape {score.shape}, their labels {fraud.shape}")
    review: float | None = None
    block: float | None = None
    statements: list[str] = []
    if fraud.size == 0:
        statements.append("No threshold: there is no row to choose one from.")
    elif not np.isfinite(score).all():
        statements.append(f"No threshold: {_count_not_finite(score)} are not finite numbers.")
    else:
        sweep = _Sweep(fraud, score, np.zeros(fraud.size, dtype=np.int64))
        within = sweep.alerts / fraud.size <= alert_budget
        if within.any():
            last = int(np.flatnonzero(within)[-1])
            review = float(sweep.thresholds[last])
            precise = within & (sweep.alerts >= min_block_alerts)
            precise &= sweep.caught / sweep.alerts >= block_precision
            if precise.any():
                block = float(sweep.thresholds[np.flatnonzero(precise)[-1]])
            else:
                statements.append(
                    f"No BLOCK threshold: no score at or above REVIEW has {min_block_alerts} alerts or more of which "
                    f"{block_precision:.0%} are frauds; REVIEW alerts on {int(sweep.alerts[last])} transactions, "
                    f"{int(sweep.caught[last])} of them frauds."
                )
        else:
            statements.append(
                f"No threshold: {int(sweep.alerts[0])} of {fraud.size} transactions share the highest score "
                f"{sweep.thresholds[0]:.6g}, more than the budget of {alert_budget:.2%}."
            )
    return Thresholds(review, block, alert_budget, block_precision, tuple(statements))


def log_loss(labels: Bools, scores: Floats) -> float:
    """Mean of -ln of the probability given to the truth, with scores kept a float32 epsilon away from 0 and 1."""
    given = np.clip(np.where(labels, scores, 1 - scores), _LOG_LOSS_CLIP, 1 - _LOG_LOSS_CLIP)
    return float(-np.log(given).mean())


def expected_calibration_error(labels: Bools, scores: Floats, bins: int = CALIBRATION_BINS) -> float:
    """Mean, over rows, of |mean score - share of frauds| of the row's bin, bins of equal width over [0, 1].

    Guo et al., "On Calibration of Modern Neural Networks", 2017, equation 3, with the score of fraud as the confidence.
    """
    place = np.minimum((scores * bins).astype(np.int64), bins - 1)
    gaps = np.bincount(place, scores, bins) - np.bincount(place, labels.astype(np.float64), bins)
    return float(np.abs(gaps).sum() / labels.size)


def card_precision(
    labels: Bools, scores: Floats, card_ids: NDArray[Any], days: NDArray[Any], k: int = CARDS_PER_DAY
) -> float:
    """Share of cards with a fraud among the `k` that are inspected each day, mean over the days.

    Each day the `k` cards with the highest score of that day are inspected; a card once caught is not inspected
    again.  Equal scores go by card id.  A day with fewer cards still counts `k` inspections.  Le Borgne et al., "Fraud
    Detection Handbook", section "Card Precision top-k".
    """
    names, card = np.unique(card_ids, return_inverse=True)
    caught = np.zeros(names.size, dtype=np.bool_)
    order = np.argsort(days, kind="stable")
    _, starts = np.unique(days[order], return_index=True)
    precisions = []
    for today in np.split(order, starts[1:]):
        open_rows = today[~caught[card[today]]]
        cards, slot = np.unique(card[open_rows], return_inverse=True)
        highest = np.full(cards.size, -np.inf)
        np.maximum.at(highest, slot, scores[open_rows])
        defrauded = np.zeros(cards.size, dtype=np.bool_)
        defrauded[slot[labels[open_rows]]] = True
        inspected = np.argsort(-highest, kind="stable")[:k]
        hits = inspected[defrauded[inspected]]
        caught[cards[hits]] = True
        precisions.append(hits.size / k)
    return float(np.mean(precisions))


class _Sweep:
    """Every distinct score as a threshold, highest first, with what it alerts on: `[distinct scores]` each."""

    def __init__(self, fraud: Bools, score: Floats, amount: NDArray[np.int64]) -> None:
        order = np.argsort(-score, kind="stable")
        descending = score[order]
        ends = np.append(np.flatnonzero(np.diff(descending)), score.size - 1)
        self.fraud, self.score, self.amount = fraud, score, amount
        self.thresholds = descending[ends]
        self.alerts = ends + 1
        self.caught = np.cumsum(fraud[order])[ends]

    def recall_at_rates(self, rates: tuple[float, ...]) -> tuple[RecallAtRate, ...]:
        frauds = int(self.caught[-1])
        false_alerts = self.alerts - self.caught
        genuine = int(false_alerts[-1])

        def recall(rate: float) -> float:
            within = np.flatnonzero(false_alerts / genuine <= rate)
            return float(self.caught[within[-1]] / frauds) if within.size else 0.0

        return tuple(RecallAtRate(rate, recall(rate)) for rate in rates)

    def operating_points(self, thresholds: Thresholds) -> tuple[OperatingPoint, ...]:
        named = (("review", thresholds.review), ("block", thresholds.block))
        return tuple(self._at(name, threshold) for name, threshold in named if threshold is not None)

    def _at(self, name: str, threshold: float) -> OperatingPoint:
        alert = self.score >= threshold
        caught = alert & self.fraud
        alerts, hits, frauds = int(alert.sum()), int(caught.sum()), int(self.fraud.sum())
        value = _total(self.amount[self.fraud])
        return OperatingPoint(
            name=name,
            threshold=threshold,
            alerts=alerts,
            alert_share=alerts / self.score.size,
            caught=hits,
            precision=hits / alerts if alerts else None,
            recall=hits / frauds if frauds else None,
            value_recall=_total(self.amount[caught]) / value if value else None,
        )


def _labels(labels: ArrayLike) -> Bools:
    given = np.asarray(labels)
    fraud = given == 1
    if given.ndim != 1 or not (fraud | (given == 0)).all():
        strange = given if given.ndim != 1 else given[~(fraud | (given == 0))]
        raise ValueError(
            f"labels are 0 and 1 in one dimension, but here are {strange.ravel()[:3].tolist()} of shape {given.shape}"
        )
    return fraud


def _total(amounts: NDArray[np.int64]) -> int:
    # In Python's integers: a long log in a small currency passes 2**63 minor units.
    return sum(amounts.tolist())


def _count_not_finite(score: Floats) -> str:
    return f"{int((~np.isfinite(score)).sum())} of {score.size} scores"


def _what_is_missing(split: str, fraud: Bools, score: Floats) -> tuple[str, ...]:
    if fraud.size == 0:
        return (f"Split {split} has no row, so nothing could be measured.",)
    statements = []
    if not fraud.any():
        statements.append(f"Split {split} holds no fraud, so precision and recall could not be measured.")
    elif fraud.all():
        statements.append(f"Split {split} holds nothing but frauds, so ranking metrics could not be measured.")
    if not np.isfinite(score).all():
        statements.append(f"{_count_not_finite(score)} of split {split} are not finite numbers, so none was measured.")
        return tuple(statements)
    if ((score < 0) | (score > 1)).any():
        statements.append(
            f"Scores of split {split} reach from {score.min():.6g} to {score.max():.6g}, outside [0, 1], so "
            "calibration could not be measured."
        )
    if score.size > 1 and score.min() == score.max():
        statements.append(f"All {score.size} scores of split {split} are {score[0]:.6g}: they rank nothing.")
    return tuple(statements)
