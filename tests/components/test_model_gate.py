"""The model's gate: each bound stops what lies beyond it, and chance alone stops nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from components.comparison import CHAMPION, Rival, compare
from components.evidence import SplitEvidence, measure
from components.footprint import Footprint
from components.gate import Reason, decide
from components.gathering import Gathered
from components.measures import Bootstrap, Estimate, replicates, scored
from components.model_gate import ModelGateConfig, judge
from components.slices import SliceEvidence
from schemas.acceptance import Acceptance
from schemas.errors import ConfigurationError
from schemas.thresholds import Costs, Thresholds

AT = Thresholds(review=0.4, block=None, alert_budget=0.2, block_precision=0.8, costs=Costs(500, 2_000))
SMALL = Footprint(size_bytes=2_000_000, latency_p50_ms=0.3, latency_p99_ms=0.9)
BOOTSTRAP = Bootstrap(resamples=60)
BOUNDS = ModelGateConfig()


def columns(skill: float = 0.5, seed: int = 1, rows: int = 3_000) -> tuple[Any, ...]:
    """Labels, calibrated scores, amounts, cards and days; with less skill the scores tell less."""
    rng = np.random.default_rng(seed)
    fraud = rng.random(rows) < 0.1
    hidden = rng.normal(0, 1, rows) + 6 * skill * fraud
    # The probability that Bayes gives for what is seen.
    odds = 0.1 / 0.9 * np.exp(6 * skill * hidden - (6 * skill) ** 2 / 2)
    days, cards = rng.integers(0, 9, rows), rng.integers(0, 400, rows)
    return fraud, odds / (1 + odds), rng.integers(5_000, 20_000, rows), cards, days


def evidence(*given: Any, thresholds: Thresholds = AT) -> SplitEvidence:
    labels, scores, amounts, cards, days = given or columns()
    return measure("test", labels, scores, amounts, cards, days, thresholds, BOOTSTRAP)


def found(**given: Any) -> Gathered:
    test = evidence()
    about: dict[str, Any] = {"splits": {"test": test}, "thresholds": AT, "rivals": (), "slices": (), "footprint": SMALL}
    return Gathered(**(about | given))


def said(gathered: Gathered, config: ModelGateConfig = BOUNDS) -> dict[str, str]:
    return {reason.subject: reason.severity for reason in judge(gathered, config)}


def against(skill: float, champion_skill: float) -> Gathered:
    """A model and a champion whose scores of the same rows have different skill."""
    ours, theirs = (scored(*columns(one)) for one in (skill, champion_skill))
    measured, beside = (replicates(one, AT, Costs(), BOOTSTRAP) for one in (ours, ours.rescored(theirs.score)))
    return found(splits={"test": evidence(*columns(skill))}, rivals=(compare(CHAMPION, measured, beside, 0.95),))


def test_nothing_speaks_against_a_good_model() -> None:
    assert judge(found(), BOUNDS) == ()
    assert said(against(0.5, 0.5)) == {}
    assert said(against(0.6, 0.5)) == {}


def test_a_model_that_tells_nothing_is_below_the_floors() -> None:
    blind = evidence(*columns(0.0)[:1], np.full(3_000, 0.1), *columns(0.0)[2:])
    assert said(found(splits={"test": blind})) == {"roc_auc": "stop"}


def test_alerts_that_cost_more_than_they_save_stop() -> None:
    cheap = [column if place != 2 else np.full(3_000, 10) for place, column in enumerate(columns())]
    assert said(found(splits={"test": evidence(*cheap)})) == {"saved_share": "stop"}


def test_a_model_that_is_worse_than_the_champion_beyond_chance_stops() -> None:
    assert said(against(0.2, 0.6)) == {"champion average_precision": "stop", "champion cost": "stop"}


def test_a_loss_within_chance_stops_nothing() -> None:
    small = Rival(CHAMPION, {}, {"average_precision": Estimate(-0.05, -0.12, 0.02)}, Estimate(1.3, 0.9, 1.7))
    assert said(found(rivals=(small,))) == {}


def test_scores_that_are_no_probabilities_stop() -> None:
    fraud, score, *rest = columns()
    assert said(found(splits={"test": evidence(fraud, score**0.2, *rest)})) | {"alert_budget": "warn"} == {
        "calibration_error": "stop",
        "calibration_ratio": "stop",
        "alert_budget": "warn",
    }


def collapsed(high: float | None) -> SliceEvidence:
    ratios = {"review_recall": Estimate(0.3, None if high is None else 0.1, high)}
    return SliceEvidence("channel online", 900, 40, True, {}, ratios)


def test_a_slice_that_collapses_is_stopped_by_name() -> None:
    [reason] = judge(found(slices=(collapsed(0.4),)), BOUNDS)
    assert (reason.subject, reason.severity) == ("slice channel online", "stop")
    assert "recall at REVIEW is 0.30 of the champion's, at most 0.40" in reason.message
    assert said(found(slices=(collapsed(0.6), collapsed(None)))) == {}


def test_size_and_latency_are_bounded() -> None:
    heavy = Footprint(size_bytes=3 * 1024 * 1024, latency_p50_ms=1, latency_p99_ms=60)
    assert said(found(footprint=heavy), replace(BOUNDS, max_size_mib=2.5)) == {"size": "stop", "latency": "stop"}


def test_what_thresholds_do_not_keep_on_test_is_a_warning() -> None:
    strict = Thresholds(review=0.05, block=0.1, alert_budget=0.01, block_precision=0.99, costs=Costs(1, 1))
    kept = found(splits={"test": evidence(*columns(), thresholds=strict)}, thresholds=strict)
    assert said(kept) == {"alert_budget": "warn", "block_precision": "warn"}


def test_a_baseline_that_does_better_is_told() -> None:
    trees = Rival("trees", {"average_precision": Estimate(0.9)}, {"average_precision": Estimate(-0.1, -0.2, -0.05)})
    assert said(found(rivals=(trees,))) == {"trees": "warn"}


def test_a_test_split_without_frauds_cannot_be_accepted_and_other_stops_can() -> None:
    fraud, *rest = columns()
    nothing, *_ = judge(found(splits={"test": evidence(np.zeros_like(fraud), *rest)}), BOUNDS)
    assert (nothing.subject, nothing.stops, nothing.acceptable) == ("test", True, False)
    reasons: tuple[Reason, ...] = judge(found(slices=(collapsed(0.4),)), BOUNDS)
    accepted = decide(reasons, [Acceptance("model", "we left that market", "m.keller", "slice channel online")])
    assert accepted.passed


@pytest.mark.parametrize(
    "wrong", [{"min_roc_auc": 2}, {"max_calibration_factor": 0.5}, {"max_latency_ms": 0}, {"max_cost_rise": -1}]
)
def test_bounds_that_mean_nothing_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        ModelGateConfig(**wrong)
