"""The evidence of a split: metrics worked out by hand, intervals beside them, odd inputs."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from components.evidence import SplitEvidence, measure
from components.measures import Bootstrap, Estimate
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
    evidence = measure("odd", labels, scores, rest, rest, rest, AT, Bootstrap(resamples=20))
    assert any(said in statement for statement in evidence.statements)
    assert SplitEvidence.from_json(evidence.to_json()) == evidence
    assert all(math.isfinite(value) for value in evidence.metrics().values())


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


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"split": "test"}'])
def test_a_file_that_is_no_evidence_is_named_as_such(text: str) -> None:
    with pytest.raises(ArtifactError, match="evaluate the model again"):
        SplitEvidence.from_json(text)


def test_every_metric_has_its_interval_beside_it() -> None:
    rng = np.random.default_rng(1)
    labels = rng.random(2_000) < 0.1
    scores = np.clip(rng.normal(0.2, 0.1, 2_000) + 0.3 * labels, 0, 1)
    columns = (labels, scores, rng.integers(1, 9_000, 2_000), rng.integers(0, 200, 2_000), rng.integers(0, 9, 2_000))
    evidence = measure("test", *columns, AT, Bootstrap(resamples=50))
    counted = {"rows", "frauds", "review_alerts", "block_alerts"}
    assert set(evidence.intervals) == set(evidence.metrics()) - counted
    for name, (low, high) in evidence.intervals.items():
        # Of a calibration error the samples' are larger: chance puts gaps where there are none.
        assert low <= evidence.metrics()[name] <= high or name == "expected_calibration_error"
    found = evidence.estimate("review_recall")
    assert found is not None and found.low is not None and found.high is not None
    assert found == Estimate(evidence.operating_points[0].recall or 0, found.low, found.high)
    assert evidence.estimate("no such metric") is None
    assert SplitEvidence.from_json(evidence.to_json()) == evidence
