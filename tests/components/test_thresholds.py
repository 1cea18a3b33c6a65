"""Thresholds: the cheapest pair within the budget, against all pairs tried one by one; and odd inputs."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.thresholds import ThresholdConfig, choose_thresholds
from schemas.errors import ArtifactError, ConfigurationError
from schemas.thresholds import Costs, Thresholds

FREE = Costs(review_minor=0, false_decline_minor=1)


def cost(
    labels: np.ndarray, scores: np.ndarray, amounts: np.ndarray, review: float, block: float, costs: Costs
) -> float:
    """What decisions cost, told row by row."""
    total = 0.0
    for fraud, score, amount in zip(labels, scores, amounts, strict=True):
        if score >= block:
            total += 0 if fraud else costs.false_decline_minor
        elif score >= review:
            total += costs.review_minor
        elif fraud:
            total += amount
    return total


@settings(max_examples=80)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(0, 30),
    levels=st.integers(1, 12),
    budget=st.floats(0.01, 1),
    precision=st.floats(0.01, 1),
    review_minor=st.integers(0, 60),
    false_decline_minor=st.integers(0, 200),
)
def test_no_pair_of_thresholds_that_keeps_its_promises_costs_less(
    seed: int, rows: int, levels: int, budget: float, precision: float, review_minor: int, false_decline_minor: int
) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, levels, rows) / levels
    labels, amounts = rng.random(rows) < scores, rng.integers(0, 100, rows)
    costs = Costs(review_minor, false_decline_minor)
    config = ThresholdConfig(budget, precision, min_block_alerts=2, costs=costs)
    chosen = choose_thresholds(labels, scores, amounts, config)
    shuffled = rng.permutation(rows)
    assert chosen == choose_thresholds(labels[shuffled], scores[shuffled], amounts[shuffled], config)

    def allowed(review: float, block: float) -> bool:
        alert, blocked = scores >= review, scores >= block
        enough = not blocked.any() or (blocked.sum() >= 2 and labels[blocked].mean() >= precision)
        return alert.mean() <= budget and enough

    at = (math.inf if chosen.review is None else chosen.review, math.inf if chosen.block is None else chosen.block)
    if not rows:
        assert at == (math.inf, math.inf)
        return
    assert allowed(*at)
    levels_and_none = [*np.unique(scores), math.inf]
    pairs = [(r, b) for r, b in itertools.product(levels_and_none, repeat=2) if b >= r and allowed(r, b)]
    cheapest = min(cost(labels, scores, amounts, r, b, costs) for r, b in pairs)
    assert cost(labels, scores, amounts, *at, costs) == pytest.approx(cheapest)
    assert chosen.statements or (chosen.review is not None and chosen.block is not None)


def test_a_budget_that_divides_evenly_is_used_to_the_last_row() -> None:
    # 0.29 * 100 is 28.999999999999996 in floating point.
    scores = np.arange(100) / 100
    assert choose_thresholds(np.ones(100), scores, np.ones(100), ThresholdConfig(0.29, costs=FREE)).review == 0.71


def test_an_alert_that_saves_less_than_it_costs_is_not_raised() -> None:
    scores, labels = np.arange(100, 0, -1) / 100, np.zeros(100)
    labels[[0, 2, 40]] = 1
    # The third fraud would take 38 more reviews at 10 each, to save 100.
    chosen = choose_thresholds(labels, scores, np.full(100, 100), ThresholdConfig(1.0, costs=Costs(10, 1_000)))
    assert chosen.review == scores[2]
    nothing = choose_thresholds(labels, scores, np.full(100, 5), ThresholdConfig(1.0, costs=Costs(10, 1_000)))
    assert nothing.review is None
    assert "no alert is worth its cost" in nothing.statements[0]


def test_no_block_threshold_rests_on_a_handful_of_rows() -> None:
    scores = np.arange(1_000) / 1_000
    labels = scores >= 0.995
    few = ThresholdConfig(0.1, 0.9, min_block_alerts=5)
    chosen = choose_thresholds(labels, scores, np.full(1_000, 10_000), ThresholdConfig(0.1, 0.9))
    assert (chosen.review, chosen.block) == (0.995, None)
    assert "30 alerts or more" in chosen.statements[0]
    assert choose_thresholds(labels, scores, np.full(1_000, 10_000), few).block == 0.995


def test_where_a_review_is_free_nobody_is_declined() -> None:
    chosen = choose_thresholds([1, 1, 0], [0.9, 0.8, 0.1], [5, 5, 5], ThresholdConfig(1.0, 0.5, 1, Costs(0, 100)))
    assert (chosen.review, chosen.block) == (0.8, None)
    assert "costs less than to decline" in chosen.statements[0]


def test_constant_scores_leave_no_threshold_within_the_budget() -> None:
    chosen = choose_thresholds([0, 1] * 50, [0.25] * 100, [1] * 100, ThresholdConfig())
    assert (chosen.review, chosen.block) == (None, None)
    assert "100 of 100 transactions share the highest score 0.25" in chosen.statements[0]


def test_scores_that_are_no_numbers_choose_nothing() -> None:
    chosen = choose_thresholds([0, 1], [0.5, math.nan], [1, 1], ThresholdConfig(1.0))
    assert "1 of 2 scores are not finite" in chosen.statements[0]
    assert "no row" in choose_thresholds([], [], [], ThresholdConfig()).statements[0]


def test_columns_of_different_length_and_shares_beyond_1_are_refused() -> None:
    with pytest.raises(ValueError, match="amounts"):
        choose_thresholds([0, 1], [0.1, 0.2], [1], ThresholdConfig())
    for wrong in ({"alert_budget": 5}, {"block_precision": 0.0}, {"min_block_alerts": 0}):
        with pytest.raises(ConfigurationError, match=next(iter(wrong))):
            ThresholdConfig(**wrong)
    with pytest.raises(ConfigurationError, match="review_minor is -1"):
        Costs(review_minor=-1)


def test_thresholds_of_earlier_bundles_are_read() -> None:
    earlier = '{"review": 0.5, "block": null, "alert_budget": 0.005, "block_precision": 0.8, "statements": ["few"]}'
    assert Thresholds.from_json(earlier) == Thresholds(0.5, None, 0.005, 0.8, ("few",))
    ours = Thresholds(0.5, 0.8, 0.005, 0.8, (), Costs(3, 4))
    assert Thresholds.from_json(ours.to_json()) == ours


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"review": 0.5, "block": 0.1}'])
def test_a_file_that_holds_no_thresholds_is_named_as_such(text: str) -> None:
    with pytest.raises(ArtifactError, match="evaluate the model again"):
        Thresholds.from_json(text)


def test_thresholds_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(ValueError, match="below REVIEW"):
        Thresholds(review=0.5, block=0.4, alert_budget=0.1, block_precision=0.9)
