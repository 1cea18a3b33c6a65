"""The scores from which on transactions are reviewed or blocked, chosen by what decisions cost within a budget."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from components.measures import as_labels
from schemas.errors import ConfigurationError
from schemas.thresholds import Costs, Thresholds


@dataclass(frozen=True)
class ThresholdConfig:
    """What REVIEW and BLOCK may take and cost.

    Attributes:
        alert_budget: share of transactions that people can look at.
        block_precision: share of frauds wanted among blocked transactions, at least.
        min_block_alerts: transactions that a BLOCK threshold rests on, at least.
        costs: of a decision.
    """

    alert_budget: float = 0.005
    block_precision: float = 0.8
    min_block_alerts: int = 30
    costs: Costs = field(default_factory=Costs)

    def __post_init__(self) -> None:
        for name in ("alert_budget", "block_precision"):
            if not 0 < getattr(self, name) <= 1:
                raise ConfigurationError(
                    f"thresholds {name} is {getattr(self, name)}; it is a share, above 0 and at most 1"
                )
        if self.min_block_alerts < 1:
            raise ConfigurationError(f"thresholds min_block_alerts is {self.min_block_alerts}; it must be 1 or more")


def choose_thresholds(
    labels: ArrayLike, scores: ArrayLike, amounts_base_minor: ArrayLike, config: ThresholdConfig
) -> Thresholds:
    """Chooses the pair of thresholds that costs least on the rows of a validation split.

    A fraud that passes costs its amount, a review what an investigator takes, a genuine transaction that is blocked
    what a false decline does.  Among all scores that occur, REVIEW is one at or above which no more than the budget
    lies; BLOCK is one from there on at or above which enough transactions lie, enough of them frauds, so that no
    threshold rests on a handful of rows.  Of equal costs the fewest alerts win.  All rows with one score fall on the
    same side.

    Cost splits into a part that depends on REVIEW alone and one that depends on BLOCK alone, so that the best of all
    pairs is found in one pass (compare Elkan, "The Foundations of Cost-Sensitive Learning", 2001).

    Args:
        labels: `[rows]`, 1 or true for fraud.
        scores: `[rows]`, probability of fraud.
        amounts_base_minor: `[rows]`, minor units of the base currency.
        config: budget, precision and costs.

    Raises:
        ValueError: the arrays differ in length, or a label is neither 0 nor 1.
    """
    fraud, score = as_labels(labels), np.asarray(scores, dtype=np.float64)
    amount = np.asarray(amounts_base_minor, dtype=np.float64)
    if score.shape != fraud.shape or amount.shape != fraud.shape:
        raise ValueError(f"scores have shape {score.shape}, amounts {amount.shape}, their labels {fraud.shape}")
    review, block, statements = _best(fraud, score, amount, config)
    return Thresholds(review, block, config.alert_budget, config.block_precision, statements, config.costs)


_Chosen = tuple[float | None, float | None, tuple[str, ...]]


def _best(fraud: np.ndarray, score: np.ndarray, amount: np.ndarray, config: ThresholdConfig) -> _Chosen:
    if fraud.size == 0:
        return None, None, ("No threshold: there is no row to choose one from.",)
    if not np.isfinite(score).all():
        unusable = int((~np.isfinite(score)).sum())
        return None, None, (f"No threshold: {unusable} of {score.size} scores are not finite numbers.",)
    order = np.argsort(-score, kind="stable")
    falling = score[order]
    ends = np.append(np.flatnonzero(np.diff(falling)), score.size - 1)
    alerts = ends + 1
    within = alerts / fraud.size <= config.alert_budget
    if not within.any():
        return None, None, (
            f"No threshold: {int(alerts[0])} of {fraud.size} transactions share the highest score {falling[0]:.6g}, "
            f"more than the budget of {config.alert_budget:.2%}.",
        )  # fmt: skip
    ends, alerts = ends[within], alerts[within]
    caught = np.cumsum(fraud[order])[ends]
    saved = np.cumsum(np.where(fraud, amount, 0.0)[order])[ends]
    precise = (alerts >= config.min_block_alerts) & (caught / alerts >= config.block_precision)
    # To block instead of reviewing spares the reviews, and declines the genuine ones.
    blocking = config.costs.false_decline_minor * (alerts - caught) - config.costs.review_minor * alerts
    blocking = np.where(precise, blocking, np.inf)
    reviewing = config.costs.review_minor * alerts - saved
    # REVIEW may not lie above BLOCK: beside each REVIEW stand the thresholds before it.
    best_block = np.minimum(np.minimum.accumulate(blocking), 0.0)
    total = reviewing + best_block
    at = int(np.argmin(total))
    if total[at] >= 0:
        return None, None, (
            "No threshold: within the budget no alert is worth its cost; the cheapest would cost "
            f"{total[at]:,.0f} minor units more than letting everything pass.",
        )  # fmt: skip
    review = float(falling[ends[at]])
    if best_block[at] < 0:
        return review, float(falling[ends[int(np.argmin(blocking[: at + 1]))]]), ()
    if precise[: at + 1].any():
        return review, None, ("No BLOCK threshold: to review costs less than to decline, whatever the score.",)
    return review, None, (
        f"No BLOCK threshold: no score at or above REVIEW has {config.min_block_alerts} alerts or more of which "
        f"{config.block_precision:.0%} are frauds; REVIEW alerts on {int(alerts[at])} transactions, "
        f"{int(caught[at])} of them frauds.",
    )  # fmt: skip
