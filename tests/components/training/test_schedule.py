"""When training stops, and at which rate it learns."""

from __future__ import annotations

import itertools

import pytest

from components.training.config import TrainingConfig
from components.training.schedule import best_epoch, is_over, learning_rate

PLATEAU = TrainingConfig(learning_rate=0.1, schedule="plateau", patience=4, epochs=20)


def test_the_first_of_equals_is_the_best():
    assert best_epoch([0.1, 0.5, 0.3, 0.5]) == 1


@pytest.mark.parametrize(
    "course, over",
    [
        ([], False),
        ([0.5, 0.4, 0.4, 0.4], False),
        ([0.5, 0.4, 0.4, 0.4, 0.4], True),
        ([0.5, 0.4, 0.4, 0.4, 0.6], False),
        ([0.5, 0.5, 0.5, 0.5, 0.5], True),
        ([i / 100 for i in range(20)], True),
    ],
)
def test_training_ends_with_the_patience_or_the_epochs(course, over):
    assert is_over(course, PLATEAU) == over


@pytest.mark.parametrize(
    "course, cuts",
    [
        ([], 0),
        ([0.5, 0.4], 0),
        ([0.5, 0.4, 0.5], 1),
        # half the patience from one cut to the next
        ([0.5, 0.4, 0.5, 0.5], 1),
        ([0.5, 0.4, 0.5, 0.5, 0.5], 2),
        # a gain too small to count
        ([0.5, 0.50001, 0.50002], 1),
        ([0.5, 0.4, 0.6, 0.5], 0),
    ],
)
def test_on_a_plateau_the_rate_is_cut(course, cuts):
    assert learning_rate(course, PLATEAU, 1) == pytest.approx(0.1 * 0.3**cuts)


def test_a_cosine_begins_at_the_rate_and_ends_at_nothing():
    config = TrainingConfig(learning_rate=0.1, epochs=10, schedule="cosine")
    rates = [learning_rate([0.5] * epoch, config, 1) for epoch in range(11)]
    assert rates[0] == 0.1
    assert rates[5] == pytest.approx(0.05)
    assert rates[10] == pytest.approx(0, abs=1e-12)
    assert all(later < rate for rate, later in itertools.pairwise(rates))


def test_the_rate_grows_with_replicas_where_the_batch_does():
    assert learning_rate([], TrainingConfig(learning_rate=0.1), 4) == 0.1
    assert learning_rate([], TrainingConfig(learning_rate=0.1, scaling="linear"), 4) == pytest.approx(0.4)
