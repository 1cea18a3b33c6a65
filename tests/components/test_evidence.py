"""Evidence: each metric against a value by hand, by scikit-learn or by a naive loop; thresholds; odd inputs."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from components.evidence import (
    SplitEvidence,
    card_precision,
    choose_thresholds,
    expected_calibration_error,
    measure,
)
from schemas.errors import ArtifactError
from schemas.thresholds import Thresholds

# Ten transactions of four cards on two days, scored so that one fraud hides below three genuine payments.
LABELS = [0, 0, 1, 0, 1, 0, 0, 1, 0, 0]
SCORES = [0.1, 0.2, 0.9, 0.8, 0.7, 0.3, 0.1, 0.25, 0.4, 0.05]
AMOUNTS = [100, 200, 5_000, 300, 1_000, 50, 60, 4_000, 70, 80]
CARDS = ["a", "b", "c", "d", "a", "b", "c", "d", "a", "b"]
DAYS = [0, 0, 0, 0, 0, 1, 1, 1, 1, 1]
AT = Thresholds(review=0.7, block=0.85, alert_budget=0.3, block_precision=1.0)


@pytest.fixture
def ten() -> SplitEvidence:
    """What is measured on the ten transactions."""
    return measure("validation", LABELS, SCORES, AMOUNTS, CARDS, DAYS, AT)


def test_ranking_metrics_are_those_worked_out_by_hand(ten: SplitEvidence) -> None:
    # Ranks of the frauds: 1, 3 and 6.
    assert ten.average_precision == pytest.approx((1 / 1 + 2 / 3 + 3 / 6) / 3)
    # Of the 21 pairs of a fraud with a genuine payment, 7 + 6 + 4 are in order.
    assert ten.roc_auc == pytest.approx(17 / 21)


def test_counts_and_values_are_those_of_the_rows(ten: SplitEvidence) -> None:
    assert (ten.rows, ten.frauds, ten.days, ten.prevalence, ten.fraud_value) == (10, 3, 2, 0.3, 10_000)
    assert ten.mean_score == pytest.approx(0.38)


def test_probability_metrics_agree_with_scikit_learn(ten: SplitEvidence) -> None:
    assert ten.log_loss == pytest.approx(sklearn_metrics.log_loss(LABELS, SCORES))
    assert ten.brier == pytest.approx(sklearn_metrics.brier_score_loss(LABELS, SCORES))


def test_operating_points_count_what_the_thresholds_would_have_done(ten: SplitEvidence) -> None:
    review, block = ten.operating_points
    assert (review.name, review.alerts, review.alert_share, review.caught) == ("review", 3, 0.3, 2)
    assert review.precision == pytest.approx(2 / 3)
    assert review.recall == pytest.approx(2 / 3)
    assert review.value_recall == pytest.approx(6_000 / 10_000)
    assert (block.name, block.alerts, block.precision, block.value_recall) == ("block", 1, 1.0, 0.5)


def test_recall_at_a_false_positive_rate_never_uses_a_threshold_beyond_the_rate() -> None:
    # 1,000 genuine payments scored 0.001 ... 1.000; a fraud above all of them, one with exactly 10 above it, one below.
    labels = [0] * 1_000 + [1, 1, 1]
    scores = [(i + 1) / 1_000 for i in range(1_000)] + [1.5, 0.9905, 0.0]
    evidence = measure("test", labels, np.array(scores) / 2, [1] * 1_003, [0] * 1_003, [0] * 1_003)
    recalls = {entry.false_positive_rate: entry.recall for entry in evidence.recall_at_fpr}
    assert recalls == pytest.approx({0.001: 1 / 3, 0.005: 1 / 3, 0.01: 2 / 3, 0.05: 2 / 3})


def test_rows_with_one_score_stay_together_at_a_false_positive_rate() -> None:
    # The fraud shares its score with two genuine payments of a hundred: it is not caught at 1 %.
    evidence = measure("test", [1] + [0] * 100, [0.9] * 3 + [0.1] * 98, [1] * 101, [0] * 101, [0] * 101)
    recalls = {entry.false_positive_rate: entry.recall for entry in evidence.recall_at_fpr}
    assert (recalls[0.01], recalls[0.05]) == (0.0, 1.0)


def test_calibration_error_is_the_gap_of_each_bin_weighted_by_its_rows() -> None:
    labels = np.array([0, 1, 1, 1, 0, 0], dtype=bool)
    scores = np.array([0.1, 0.3, 0.6, 1.0, 0.9, 0.5])
    # Bins of a half: (0.1, 0.3) with one fraud, (0.6, 1.0, 0.9, 0.5) with two.
    expected = 2 / 6 * abs(0.2 - 0.5) + 4 / 6 * abs(0.75 - 0.5)
    assert expected_calibration_error(labels, scores, bins=2) == pytest.approx(expected)


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


@settings(max_examples=40, deadline=None)
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


def test_thresholds_keep_to_the_budget_and_reach_the_precision() -> None:
    # 1,000 rows, scores falling; the first 20 are frauds, then 1 in 4 is.
    scores = np.arange(1_000, 0, -1) / 1_000
    labels = np.array([i < 20 or (i < 100 and i % 4 == 0) for i in range(1_000)])
    chosen = choose_thresholds(labels, scores, alert_budget=0.05, block_precision=0.8, min_block_alerts=10)
    assert chosen.review == scores[49]
    # 22 of the first 27 rows are frauds, which is 81 %; 22 of 28 are too few, and so are all that follow.
    assert chosen.block == scores[26]
    assert chosen.statements == ()


def test_a_budget_that_divides_evenly_is_used_to_the_last_row() -> None:
    # 0.29 * 100 is 28.999999999999996 in floating point.
    scores = np.arange(100) / 100
    assert choose_thresholds(np.zeros(100), scores, alert_budget=0.29).review == 0.71


def test_no_block_threshold_rests_on_a_handful_of_rows() -> None:
    scores = np.arange(1_000) / 1_000
    labels = scores >= 0.995
    chosen = choose_thresholds(labels, scores, alert_budget=0.1, block_precision=0.9, min_block_alerts=30)
    assert chosen.block is None
    assert "30 alerts or more" in chosen.statements[0]
    assert choose_thresholds(labels, scores, alert_budget=0.1, block_precision=0.9, min_block_alerts=5).block == 0.995


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(0, 60),
    levels=st.integers(1, 30),
    budget=st.floats(0.001, 1),
    precision=st.floats(0.01, 1),
)
def test_chosen_thresholds_hold_what_they_promise(
    seed: int, rows: int, levels: int, budget: float, precision: float
) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, levels, rows) / levels
    labels = rng.random(rows) < scores
    chosen = choose_thresholds(labels, scores, budget, precision, min_block_alerts=2)
    shuffled = rng.permutation(rows)
    assert chosen == choose_thresholds(labels[shuffled], scores[shuffled], budget, precision, min_block_alerts=2)
    if chosen.review is None:
        assert chosen.block is None
        assert chosen.statements
        return
    assert np.mean(scores >= chosen.review) <= budget
    lower = scores[scores < chosen.review]
    assert lower.size == 0 or np.mean(scores >= lower.max()) > budget
    if chosen.block is not None:
        assert chosen.block >= chosen.review
        assert labels[scores >= chosen.block].mean() >= precision


@pytest.mark.parametrize(
    ("labels", "scores", "said"),
    [
        ([], [], "has no row"),
        ([0, 0, 0], [0.1, 0.2, 0.3], "holds no fraud"),
        ([1, 1], [0.1, 0.2], "nothing but frauds"),
        ([0, 1, 0], [0.5, 0.5, 0.5], "rank nothing"),
        ([0, 1, 0], [0.5, math.nan, 0.5], "1 of 3 scores of split odd are not finite"),
        ([0, 1, 0], [0.5, 7.0, -1.0], "outside [0, 1]"),
    ],
)
def test_an_odd_split_is_explained_and_stays_free_of_nan(labels: list[int], scores: list[float], said: str) -> None:
    rest = [1] * len(labels)
    thresholds = choose_thresholds(labels, scores, alert_budget=0.5)
    evidence = measure("odd", labels, scores, rest, rest, rest, thresholds)
    assert any(said in statement for statement in evidence.statements)
    assert SplitEvidence.from_json(evidence.to_json()) == evidence
    assert all(math.isfinite(value) for value in evidence.metrics().values())
    assert Thresholds.from_json(thresholds.to_json()) == thresholds


def test_constant_scores_leave_no_threshold_within_the_budget() -> None:
    chosen = choose_thresholds([0, 1] * 50, [0.25] * 100)
    assert (chosen.review, chosen.block) == (None, None)
    assert "100 of 100 transactions share the highest score 0.25" in chosen.statements[0]


def test_the_log_loss_of_a_sure_and_wrong_score_is_finite() -> None:
    evidence = measure("test", [1, 0], [0.0, 0.0], [1, 1], [1, 2], [1, 1])
    assert evidence.log_loss is not None and 7 < evidence.log_loss < 9


def test_the_value_of_frauds_may_pass_the_range_of_int64() -> None:
    evidence = measure("test", [1, 1, 0], [0.9, 0.8, 0.1], [2**62, 2**62 + 2**61, 1], [1, 2, 3], [1, 1, 1], AT)
    assert evidence.fraud_value == 2**63 + 2**61
    assert evidence.operating_points[0].value_recall == 1.0


def test_evidence_survives_json_with_every_field(ten: SplitEvidence) -> None:
    assert SplitEvidence.from_json(ten.to_json()) == ten
    assert set(json.loads(ten.to_json())) == set(SplitEvidence.__dataclass_fields__)


def test_metrics_have_flat_names_and_no_gaps(ten: SplitEvidence) -> None:
    named = ten.metrics()
    assert named["average_precision"] == ten.average_precision
    assert named["recall_at_fpr_0.001"] == ten.recall_at_fpr[0].recall
    assert named["review_value_recall"] == pytest.approx(0.6)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"split": "test"}', '{"review": 0.5, "block": 0.1}'])
def test_a_file_that_is_no_evidence_is_named_as_such(text: str) -> None:
    with pytest.raises(ArtifactError, match="evaluate the model again"):
        SplitEvidence.from_json(text)
    with pytest.raises(ArtifactError, match="evaluate the model again"):
        Thresholds.from_json(text)


def test_thresholds_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(ValueError, match="below REVIEW"):
        Thresholds(review=0.5, block=0.4, alert_budget=0.1, block_precision=0.9)


def test_columns_of_different_length_and_unknown_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="card_ids of split 'test' has shape"):
        measure("test", [0, 1], [0.1, 0.2], [1, 1], ["a"], [1, 1])
    with pytest.raises(ValueError, match="labels are 0 and 1"):
        measure("test", [0.0, math.nan], [0.1, 0.2], [1, 1], ["a", "b"], [1, 1])
    with pytest.raises(ValueError, match="alert_budget is 5"):
        choose_thresholds([0, 1], [0.1, 0.2], alert_budget=5)
