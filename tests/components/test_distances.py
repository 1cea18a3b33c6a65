import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from components.distances import (
    factor,
    jensen_shannon_divergence,
    kolmogorov_smirnov_distance,
    population_stability_index,
    rank_auc,
)

counts = st.lists(st.integers(0, 1_000), min_size=4, max_size=4).filter(any)
shares = counts.map(lambda n: np.array(n) / sum(n))


def test_the_stability_index_of_a_worked_example():
    # (0.2 - 0.3) ln(0.2 / 0.3) + (0.8 - 0.7) ln(0.8 / 0.7)
    value = population_stability_index(np.array([0.2, 0.8]), np.array([0.3, 0.7]))
    assert value == pytest.approx(0.0405465 + 0.0133531, abs=1e-7)


def test_disjoint_shares_are_as_far_apart_as_can_be():
    first, last = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    assert jensen_shannon_divergence(first, last) == pytest.approx(1.0)
    assert kolmogorov_smirnov_distance(first, last) == pytest.approx(1.0)


@given(shares, shares)
def test_all_three_are_symmetric_and_zero_for_equal_shares(p, q):
    for distance in (population_stability_index, jensen_shannon_divergence, kolmogorov_smirnov_distance):
        assert distance(p, q) == pytest.approx(distance(q, p))
        assert distance(p, q) >= 0
        assert distance(p, p) == 0
    assert jensen_shannon_divergence(p, q) <= 1 + 1e-12
    assert kolmogorov_smirnov_distance(p, q) <= 1 + 1e-12


@given(shares, shares)
def test_the_distances_bound_each_other(p, q):
    # Pinsker's inequality, by way of the middle of both; half the L1 norm is the total variation, which bounds KS.
    variation = np.abs(p - q).sum() / 2
    assert kolmogorov_smirnov_distance(p, q) <= variation + 1e-12
    assert jensen_shannon_divergence(p, q) >= variation**2 / (2 * math.log(2)) - 1e-12


@given(counts, counts)
def test_the_ks_distance_is_that_of_the_rows_in_the_bins(a, b):
    first, second = (np.repeat(np.arange(4), n) for n in (a, b))
    distance = max(abs(np.mean(first <= x) - np.mean(second <= x)) for x in range(4))
    p, q = (np.array(n) / sum(n) for n in (a, b))
    assert kolmogorov_smirnov_distance(p, q) == pytest.approx(distance, abs=1e-12)


@given(counts, counts)
def test_the_auc_is_that_of_the_rows_in_the_bins(genuine, frauds):
    score = np.concatenate([np.repeat(np.arange(4), genuine), np.repeat(np.arange(4), frauds)])
    label = np.repeat([0, 1], [sum(genuine), sum(frauds)])
    assert rank_auc(np.array(genuine), np.array(frauds)) == pytest.approx(roc_auc_score(label, score))


@pytest.mark.parametrize(("a", "b", "expected"), [(2, 6, 3), (6, 2, 3), (0, 0, 1), (0, 5, math.inf)])
def test_a_factor_is_at_least_one_and_infinite_from_nothing(a, b, expected):
    assert factor(a, b) == expected


def test_many_distributions_are_compared_at_once():
    p, q = np.array([[0.2, 0.8, 0.0], [0.5, 0.25, 0.25]]), np.array([[0.3, 0.7, 0.0], [0.0, 0.5, 0.5]])
    for distance in (population_stability_index, jensen_shannon_divergence, kolmogorov_smirnov_distance):
        assert distance(p, q).tolist() == [distance(now, then) for now, then in zip(p, q, strict=True)]
