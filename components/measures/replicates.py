"""Measures of a model on a split, of the rows as they are and of samples of their cards, all under flat names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.measures import kernels
from components.measures.scored import Bools, Floats, Integers, Scored
from schemas.errors import ConfigurationError
from schemas.thresholds import Costs, Thresholds

FALSE_POSITIVE_RATES = (0.001, 0.005, 0.01, 0.05)
PRECISIONS = (0.5, 0.8, 0.9)
CARDS_PER_DAY = 100
CALIBRATION_BINS = 15
# Log loss is infinite for a sure score that was wrong; this is where float32 stops telling a score from 1.
_LOG_LOSS_CLIP = float(np.finfo(np.float32).eps)
# Samples that are weighed at once: 64 of 100,000 cards take 26 MB.
_BLOCK = 64
_THREADS = 2

Counts = NDArray[np.int32]
# By name, the value for all rows as they are, and behind it one for each sample of cards: `[1 + resamples]`.
Replicates = Mapping[str, Floats]


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are found: by drawing as many cards as there are, with replacement, again and again.

    A card's transactions stay together, because frauds on one card come in runs: rows drawn one by one would pass for
    independent, and intervals would be too narrow (Field and Welsh, "Bootstrapping clustered data", 2007).

    Attributes:
        resamples: how often; 0 gives no intervals.
        seed: of the draws.  The draws depend on it, the number of cards and nothing else, so that two models on the
            same rows are measured on the same samples.
        confidence: of each interval, two-sided, by percentiles (Efron and Tibshirani, 1993, chapter 13).
    """

    resamples: int = 1_000
    seed: int = 7
    confidence: float = 0.95

    def __post_init__(self) -> None:
        if self.resamples < 0 or self.seed < 0 or not 0 < self.confidence < 1:
            raise ConfigurationError(
                f"bootstrap of {self.resamples} resamples, seed {self.seed}, confidence {self.confidence}; the first "
                "two must be 0 or more, the last between 0 and 1"
            )

    def draws(self, cards: int) -> Iterator[Counts]:
        """How often each card counts, `[some, cards]` at a time: first once each, then as drawn."""
        yield np.ones((1, cards), np.int32)
        for begin in range(0, self.resamples, _BLOCK):
            numbers = range(begin, min(begin + _BLOCK, self.resamples))
            yield np.stack([_draw(cards, self.seed, number) for number in numbers])


NO_INTERVALS = Bootstrap(resamples=0)


def _draw(cards: int, seed: int, number: int) -> Counts:
    drawn = np.random.default_rng((seed, number)).integers(0, cards, cards)
    return np.bincount(drawn, minlength=cards).astype(np.int32)


def replicates(
    split: Scored, thresholds: Thresholds | None, costs: Costs, bootstrap: Bootstrap = NO_INTERVALS
) -> Replicates:
    """Every measure, `[1 + resamples]` by name; NaN where it is not defined.

    average_precision: sum of precision times the step in recall, as scikit-learn's.
    roc_auc: share of pairs of a fraud and a genuine transaction in the right order, ties one half.
    recall_at_fpr_R: the largest recall of a threshold that alerts on at most R of the genuine transactions.
    recall_at_precision_P: the largest recall of a threshold with a precision of P or more, 0 where there is none.
    expected_calibration_error: mean over rows of |mean score - share of frauds| of the row's bin, of 15 of equal width
        (Guo et al., "On Calibration of Modern Neural Networks", 2017, equation 3, with the score as confidence).
    calibration_ratio: mean score / prevalence.
    card_precision_100: share of defrauded cards among the 100 inspected each day, mean over days; a card once caught is
        not inspected again (Le Borgne et al., "Fraud Detection Handbook", "Card Precision top-k").
    review_..., block_...: at the threshold, share of transactions, precision, recall, and amount of the frauds at or
        above it / amount of all frauds.
    alerts_per_day: transactions at or above the REVIEW threshold.
    cost_per_transaction: minor units: amounts of frauds that pass, reviews, and genuine transactions blocked.
    cost_without_model: minor units: what it would be if everything passed.
    saved_share: 1 - cost_per_transaction / cost_without_model ("savings" of Bahnsen et al., "Example-Dependent
        Cost-Sensitive Decision Trees", 2015).

    Args:
        split: the transactions with their scores, all finite.
        thresholds: of the operating points; without them these measures are left out.
        costs: of a decision.
        bootstrap: by which cards are drawn.
    """
    prepared = _Prepared.of(split, thresholds)
    with ThreadPoolExecutor(_THREADS) as pool:
        parts = list(pool.map(prepared.weigh, bootstrap.draws(split.cards)))
    raw = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    with np.errstate(divide="ignore", invalid="ignore"):
        return _named(raw, split, thresholds, costs)


@dataclass(frozen=True)
class _Prepared:
    """What all samples of one split share.

    Attributes:
        falling: the columns that `kernels.sweep` takes, by falling score.
        ends: of the operating points, see there.
        sums: by card, `[cards, columns]`: rows, frauds, their amount, score, log loss and squared error.
        by_day: as `kernels.inspect_cards` takes them.
    """

    falling: tuple[Bools, Floats, Integers, Bools, Floats, Integers]
    ends: Integers
    sums: Floats
    by_day: tuple[Integers, Integers, Bools]

    @staticmethod
    def of(split: Scored, thresholds: Thresholds | None) -> _Prepared:
        order = np.argsort(-split.score, kind="stable")
        fraud, score = split.fraud[order], split.score[order]
        given = np.clip(np.where(split.fraud, split.score, 1 - split.score), _LOG_LOSS_CLIP, 1 - _LOG_LOSS_CLIP)
        columns = (
            np.ones(split.rows),
            split.fraud,
            np.where(split.fraud, split.amount, 0),
            split.score,
            -np.log(given),
            (split.score - split.fraud) ** 2,
        )
        return _Prepared(
            (
                fraud,
                split.amount[order].astype(np.float64),
                split.card[order],
                np.append(score[1:] != score[:-1], True)[: split.rows],
                score - fraud,
                np.clip((score * CALIBRATION_BINS).astype(np.int64), 0, CALIBRATION_BINS - 1),
            ),
            np.array([int((score >= threshold).sum()) for _, threshold in _operating(thresholds)], np.int64),
            np.stack([np.bincount(split.card, column, split.cards) for column in columns], axis=1),
            _cards_of_days(split),
        )

    def weigh(self, weights: Counts) -> dict[str, Floats]:
        """What is summed of each sample, `[samples]`, or several of a kind, `[samples, ...]`."""
        rows, frauds, value, score, log_loss, brier = (weights @ self.sums).T
        totals = np.stack([frauds, rows - frauds], axis=1).astype(np.int64)
        rates, precisions = np.array(FALSE_POSITIVE_RATES), np.array(PRECISIONS)
        swept = kernels.sweep(*self.falling, CALIBRATION_BINS, weights, totals, rates, precisions, self.ends)
        points = 3 + rates.size + precisions.size
        return {
            "rows": rows,
            "frauds": frauds,
            "value": value,
            "score": score,
            "log_loss": log_loss,
            "brier": brier,
            "ranked": swept[:, :points],
            "points": swept[:, points:].reshape(len(weights), -1, 3),
            "card_precision": kernels.inspect_cards(*self.by_day, weights, CARDS_PER_DAY),
        }


def _operating(thresholds: Thresholds | None) -> list[tuple[str, float]]:
    """The thresholds that there are by name, the stricter one first."""
    named = (("block", thresholds.block), ("review", thresholds.review)) if thresholds else ()
    return [(name, threshold) for name, threshold in named if threshold is not None]


def _cards_of_days(split: Scored) -> tuple[Integers, Integers, Bools]:
    """Where each day's cards begin, the cards by day and falling highest score, and whether each was defrauded."""
    entry, place = np.unique(split.day * max(split.cards, 1) + split.card, return_inverse=True)
    day, card = np.divmod(entry, max(split.cards, 1))
    highest = np.full(entry.size, -np.inf)
    np.maximum.at(highest, place, split.score)
    defrauded = np.zeros(entry.size, np.bool_)
    defrauded[place[split.fraud]] = True
    order = np.lexsort((card, -highest, day))
    starts = np.searchsorted(day, np.arange(split.days + 1))
    return starts.astype(np.int64), card[order], defrauded[order]


def _named(
    raw: Mapping[str, NDArray[np.float64]], split: Scored, thresholds: Thresholds | None, costs: Costs
) -> dict[str, Floats]:
    rows, frauds, value, ranked = raw["rows"], raw["frauds"], raw["value"], raw["ranked"]
    recalls = [f"recall_at_fpr_{rate:g}" for rate in FALSE_POSITIVE_RATES]
    recalls += [f"recall_at_precision_{precision:g}" for precision in PRECISIONS]
    named = {
        "prevalence": frauds / rows,
        "mean_score": raw["score"] / rows,
        "average_precision": ranked[:, 0],
        "roc_auc": ranked[:, 1],
        **{name: ranked[:, 3 + place] for place, name in enumerate(recalls)},
        "card_precision_100": np.where(frauds > 0, raw["card_precision"], np.nan),
    }
    if split.is_probable:
        named |= {
            "log_loss": raw["log_loss"] / rows,
            "brier": raw["brier"] / rows,
            "expected_calibration_error": ranked[:, 2],
            "calibration_ratio": np.where(frauds > 0, raw["score"] / frauds, np.nan),
        }
    points = {name: raw["points"][:, place] for place, (name, _) in enumerate(_operating(thresholds))}
    for name, point in points.items():
        caught, alerts = point[:, 0], point[:, 0] + point[:, 1]
        named |= {
            f"{name}_alert_share": alerts / rows,
            f"{name}_precision": caught / alerts,
            f"{name}_recall": caught / frauds,
            f"{name}_value_recall": point[:, 2] / value,
        }
    if thresholds is not None:
        nothing = np.zeros((rows.size, 3))
        review, block = points.get("review", nothing), points.get("block", nothing)
        alerts, blocked = review[:, :2].sum(axis=1), block[:, :2].sum(axis=1)
        cost = value - review[:, 2] + costs.review_minor * (alerts - blocked) + costs.false_decline_minor * block[:, 1]
        named |= {
            "alerts_per_day": alerts / split.days,
            "cost_per_transaction": cost / rows,
            "cost_without_model": value / rows,
            "saved_share": 1 - cost / value,
        }
    return named
