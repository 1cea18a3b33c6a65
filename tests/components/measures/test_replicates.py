"""Measures: against scikit-learn, with weights as copies of cards, and intervals that know of cards."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from components.measures import Bootstrap, Estimate, Scored, difference, estimate, estimates, ratio, replicates, scored
from components.measures.kernels import inspect_cards
from components.measures.replicates import _cards_of_days, _Prepared
from schemas.errors import ConfigurationError
from schemas.thresholds import Costs, Thresholds

AT = Thresholds(review=0.5, block=0.8, alert_budget=0.1, block_precision=0.8)
COSTS = Costs(review_minor=10, false_decline_minor=40)


def some(seed: int, rows: int = 300, cards: int = 40, levels: int = 50) -> Scored:
    """Transactions whose scores tell something, with many ties."""
    rng = np.random.default_rng(seed)
    fraud = rng.random(rows) < 0.2
    score = np.clip(rng.normal(0.3, 0.2, rows) + 0.3 * fraud, 0, 1)
    score = np.round(score * levels) / levels
    return scored(fraud, score, rng.integers(1, 1_000, rows), rng.integers(0, cards, rows), rng.integers(0, 5, rows))


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(5, 200), levels=st.integers(1, 40))
def test_measures_of_the_rows_themselves_are_scikit_learns(seed: int, rows: int, levels: int) -> None:
    split = some(seed, rows, levels=levels)
    plain = {name: values[0] for name, values in replicates(split, None, COSTS).items()}
    assert plain["brier"] == pytest.approx(np.mean((split.score - split.fraud) ** 2))
    if 0 < split.frauds < split.rows:
        assert plain["average_precision"] == pytest.approx(
            sklearn_metrics.average_precision_score(split.fraud, split.score)
        )
        assert plain["roc_auc"] == pytest.approx(sklearn_metrics.roc_auc_score(split.fraud, split.score))
        precision, recall, _ = sklearn_metrics.precision_recall_curve(split.fraud, split.score)
        assert plain["recall_at_precision_0.5"] == pytest.approx(recall[precision >= 0.5].max())
        false_alarms, caught, _ = sklearn_metrics.roc_curve(split.fraud, split.score, drop_intermediate=False)
        assert plain["recall_at_fpr_0.05"] == pytest.approx(caught[false_alarms <= 0.05].max())


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_card_that_counts_twice_is_two_cards_with_the_same_transactions(seed: int) -> None:
    split = some(seed, rows=120, cards=12)
    weights = np.random.default_rng(seed).integers(0, 4, (1, split.cards), np.int32)
    copies = [np.flatnonzero(weights[0][split.card] > copy) for copy in range(3)]
    rows = np.concatenate(copies)
    card = np.concatenate([split.card[taken] * 3 + copy for copy, taken in enumerate(copies)])
    written_out = scored(split.fraud[rows], split.score[rows], split.amount[rows], card, split.day[rows])
    weighed, plain = _Prepared.of(split, AT).weigh(weights), _Prepared.of(written_out, AT)
    ones = plain.weigh(np.ones((1, written_out.cards), np.int32))
    for name in ("rows", "frauds", "value", "score", "ranked", "points"):
        np.testing.assert_allclose(weighed[name], ones[name], rtol=1e-9, err_msg=name)
    if written_out.days == split.days:
        assert weighed["card_precision"] == pytest.approx(ones["card_precision"])


def test_cost_is_what_passes_what_is_looked_at_and_who_is_declined() -> None:
    # Passed: a fraud of 100.  Reviewed: a fraud and a genuine payment.  Blocked: a fraud and a genuine payment.
    split = scored(
        [1, 0, 1, 0, 1, 0], [0.1, 0.2, 0.6, 0.7, 0.9, 0.8], [100, 7, 200, 7, 400, 7], range(6), [0, 0, 0, 1, 1, 1]
    )
    plain = {name: values[0] for name, values in replicates(split, AT, COSTS).items()}
    assert plain["cost_per_transaction"] * 6 == pytest.approx(100 + 2 * 10 + 1 * 40)
    assert plain["cost_without_model"] * 6 == pytest.approx(700)
    assert plain["saved_share"] == pytest.approx(1 - 160 / 700)
    assert plain["alerts_per_day"] == pytest.approx(4 / 2)
    assert (plain["block_precision"], plain["review_recall"]) == (0.5, pytest.approx(2 / 3))
    assert plain["review_value_recall"] == pytest.approx(600 / 700)


def test_without_thresholds_everything_passes() -> None:
    nothing = Thresholds(review=None, block=None, alert_budget=0.1, block_precision=0.8)
    plain = {name: values[0] for name, values in replicates(some(1), nothing, COSTS).items()}
    assert (plain["saved_share"], plain["alerts_per_day"]) == (0, 0)
    assert "review_recall" not in plain


def test_the_same_seed_draws_the_same_cards_whatever_else_is_measured() -> None:
    bootstrap = Bootstrap(resamples=70, seed=3)
    first, second = replicates(some(1), AT, COSTS, bootstrap), replicates(some(1), None, COSTS, bootstrap)
    np.testing.assert_array_equal(first["average_precision"], second["average_precision"])
    other = replicates(some(1), AT, COSTS, Bootstrap(resamples=70, seed=4))
    assert (first["average_precision"][1:] != other["average_precision"][1:]).any()


def clustered(seed: int, copies: int = 8) -> Scored:
    """Cards whose transactions are all alike: what looks like many observations is a few."""
    one = some(seed, rows=200, cards=1)
    repeated = [np.repeat(column, copies) for column in (one.fraud, one.score, one.amount, np.arange(200), one.day)]
    return scored(*repeated)


def width(split: Scored) -> float:
    found = estimates(replicates(split, None, COSTS, Bootstrap(resamples=300)), 0.95)["average_precision"]
    assert found.low is not None and found.high is not None
    assert found.low <= found.value <= found.high
    return found.high - found.low


def test_intervals_by_card_are_wider_than_by_row_where_cards_repeat() -> None:
    by_card = clustered(5)
    by_row = scored(by_card.fraud, by_card.score, by_card.amount, np.arange(by_card.rows), by_card.day)
    # Eight copies of each: wider by the root of eight.
    assert width(by_card) / width(by_row) == pytest.approx(8**0.5, rel=0.25)


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    truth = estimates(replicates(some(0, rows=200_000, cards=50_000), None, COSTS), 0.9)["roc_auc"].value
    bootstrap, held = Bootstrap(resamples=150, confidence=0.9), 0
    for seed in range(1, 101):
        found = estimates(replicates(some(seed), None, COSTS, bootstrap), 0.9)["roc_auc"]
        assert found.low is not None and found.high is not None
        held += found.low <= truth <= found.high
    # 90 of 100, give or take three standard deviations and a little for the small sample.
    assert 78 <= held <= 99


def test_a_paired_difference_is_far_narrower_than_two_intervals() -> None:
    split, bootstrap = some(2, rows=2_000, cards=300), Bootstrap(resamples=200)
    ours = replicates(split, None, COSTS, bootstrap)
    theirs = replicates(split.rescored(split.score * 0.99 + 0.001 * split.fraud), None, COSTS, bootstrap)
    apart = difference(ours, theirs, "average_precision", 0.95)
    alone = estimate(ours["average_precision"], 0.95)
    assert apart and apart.low is not None and apart.high is not None
    assert alone and alone.low is not None and alone.high is not None
    assert apart.high - apart.low < 0.3 * (alone.high - alone.low)
    same = ratio(ours, ours, "average_precision", 0.95)
    assert same == Estimate(1.0, 1.0, 1.0)
    assert difference(ours, theirs, "alerts_per_day", 0.95) is None


def test_samples_without_a_fraud_leave_no_interval() -> None:
    split = scored([1] + [0] * 50, np.linspace(1, 0, 51), [1] * 51, range(51), [0] * 51)
    found = estimates(replicates(split, None, COSTS, Bootstrap(resamples=100)), 0.95)
    # A third of the samples miss the only fraud.
    assert found["average_precision"] == Estimate(1.0)
    assert found["mean_score"].low is not None


def test_scores_outside_0_and_1_are_ranked_and_not_taken_for_probabilities() -> None:
    plain = replicates(scored([0, 1], [-3.0, 7.0], [1, 1], [0, 1], [0, 0]), None, COSTS)
    assert plain["average_precision"][0] == 1
    assert "expected_calibration_error" not in plain


@pytest.mark.parametrize("wrong", [{"resamples": -1}, {"seed": -1}, {"confidence": 1.0}])
def test_settings_that_make_no_intervals_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match="bootstrap"):
        Bootstrap(**wrong)  # type: ignore[arg-type]


def test_columns_of_different_length_and_unknown_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="card_ids have shape"):
        scored([0, 1], [0.1, 0.2], [1, 1], ["a"], [1, 1])
    with pytest.raises(ValueError, match="labels are 0 and 1"):
        scored([0.0, np.nan], [0.1, 0.2], [1, 1], ["a", "b"], [1, 1])


def test_calibration_error_is_the_gap_of_each_bin_weighted_by_its_rows() -> None:
    # Fifteen bins: two rows with one fraud in the second, four with two in the last.
    split = scored([0, 1, 1, 1, 0, 0], [0.1, 0.12, 0.96, 1.0, 0.94, 0.98], [1] * 6, range(6), [0] * 6)
    expected = 2 / 6 * abs(0.11 - 0.5) + 4 / 6 * abs(0.97 - 0.5)
    assert replicates(split, None, COSTS)["expected_calibration_error"][0] == pytest.approx(expected)


def card_precision(labels: np.ndarray, scores: np.ndarray, cards: np.ndarray, days: np.ndarray, k: int) -> float:
    split = scored(labels, scores, np.zeros(len(labels)), cards, days)
    return inspect_cards(*_cards_of_days(split), np.ones((1, split.cards), np.int32), k)[0]


def test_a_card_once_caught_leaves_room_for_another() -> None:
    labels = np.array([1, 0, 1, 1], dtype=bool)
    scores = np.array([0.9, 0.1, 0.9, 0.5])
    cards, days = np.array(["a", "b", "a", "b"]), np.array([0, 0, 1, 1])
    # One inspection a day: `a` is caught on day 0, so on day 1 `b` is the one that is inspected.
    assert card_precision(labels, scores, cards, days, k=1) == 1.0


def test_a_card_is_inspected_by_its_highest_score_and_caught_by_any_fraud_of_the_day() -> None:
    labels = np.array([1, 0, 0], dtype=bool)
    scores = np.array([0.1, 0.9, 0.5])
    assert card_precision(labels, scores, np.array(["a", "a", "b"]), np.array([4, 4, 4]), k=1) == 1.0


def card_precision_with_pandas(frame: pd.DataFrame, k: int) -> float:
    """The same definition, told by groups."""
    known: set[int] = set()
    shares = []
    for _, today in frame.groupby("day"):
        best = today[~today.card.isin(known)].groupby("card").agg(score=("score", "max"), fraud=("fraud", "max"))
        hits = best.nlargest(k, "score").query("fraud").index
        known.update(hits)
        shares.append(len(hits) / k)
    return float(np.mean(shares))


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 80), k=st.integers(1, 5), levels=st.integers(1, 12))
def test_card_precision_agrees_with_a_naive_loop(seed: int, rows: int, k: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "day": rng.integers(0, 5, rows),
            "card": rng.integers(0, 9, rows),
            "score": rng.integers(0, levels, rows) / levels,
            "fraud": rng.random(rows) < 0.3,
        }
    )
    fraud, score, card, day = (frame[name].to_numpy() for name in ("fraud", "score", "card", "day"))
    assert card_precision(fraud, score, card, day, k) == pytest.approx(card_precision_with_pandas(frame, k))
