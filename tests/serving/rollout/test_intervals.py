"""Intervals of a share: exact where they can be computed otherwise, and right at all looks together."""

from __future__ import annotations

import math

import numpy as np
import pytest

from serving.rollout.intervals import interval


def evidence_against(share: float, hits: float, trials: float) -> float:
    """E(share) by numerical integration over Jeffreys' prior, q = sin(t)^2, which makes the prior flat in t."""
    t = (np.arange(200_000) + 0.5) * (math.pi / 2 / 200_000)
    q = np.sin(t) ** 2
    mixture = np.mean(q**hits * (1 - q) ** (trials - hits))
    return float(mixture / (share**hits * (1 - share) ** (trials - hits)))


@pytest.mark.parametrize(("hits", "trials"), [(1, 2), (3, 40), (20, 20), (0, 15), (2.5, 7.25), (70, 100)])
def test_the_edges_are_where_the_evidence_reaches_its_limit(hits: float, trials: float) -> None:
    low, high = interval(hits, trials, 0.99)
    assert 0 <= low < hits / trials + 1e-12 and hits / trials - 1e-12 < high <= 1
    if hits:
        assert evidence_against(low, hits, trials) == pytest.approx(100, rel=1e-3)
    else:
        assert low == 0
    if hits < trials:
        assert evidence_against(high, hits, trials) == pytest.approx(100, rel=1e-3)
    else:
        assert high == 1


def test_nothing_is_known_without_trials_and_hardly_anything_with_a_part_of_one() -> None:
    assert interval(0, 0, 0.99) == (0, 1)
    low, high = interval(0, 0.1, 0.99)
    assert (low, high) == (0, pytest.approx(1, abs=1e-9))


def test_more_trials_and_less_confidence_make_it_narrower() -> None:
    def width(trials: int, confidence: float) -> float:
        low, high = interval(trials / 10, trials, confidence)
        return high - low

    assert width(10, 0.99) > width(100, 0.99) > width(10_000, 0.99) > 0
    assert width(100, 0.999) > width(100, 0.99) > width(100, 0.9)
    assert width(10_000_000, 0.99) < 0.002


@pytest.mark.parametrize("share", [0.002, 0.1, 0.5])
def test_the_truth_is_outside_at_any_of_many_looks_as_rarely_as_promised(share: float) -> None:
    rng = np.random.default_rng(7)
    runs, looks, confidence = 200, 100, 0.9
    missed = 0
    for _ in range(runs):
        seen = np.cumsum(rng.binomial(20, share, looks))
        intervals = (interval(int(hits), 20 * (look + 1), confidence) for look, hits in enumerate(seen))
        missed += any(not low <= share <= high for low, high in intervals)
    # Twice the standard error above what is promised.
    assert missed / runs <= 0.1 + 2 * math.sqrt(0.1 * 0.9 / runs)
