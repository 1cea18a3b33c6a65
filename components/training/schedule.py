"""When training stops and at which rate it learns, both read off the course of validation average precision."""

from __future__ import annotations

import math
from collections.abc import Sequence

from components.training.config import TrainingConfig

_PLATEAU_FACTOR = 0.3
# A gain smaller than this does not put off the next cut of the rate.
_LEAST_GAIN = 1e-4


def best_epoch(course: Sequence[float]) -> int:
    """The first epoch, counted from 0, with the highest value."""
    return max(range(len(course)), key=course.__getitem__)


def is_over(course: Sequence[float], config: TrainingConfig) -> bool:
    """Whether the epochs, or the patience, are used up.

    Args:
        course: validation average precision of the epochs so far.
        config: says how many epochs there are, and how many without a better one.
    """
    if len(course) >= config.epochs:
        return True
    return bool(course) and len(course) - 1 - best_epoch(course) >= config.patience


def learning_rate(course: Sequence[float], config: TrainingConfig, replicas: int) -> float:
    """The rate of the epoch behind the course.

    Args:
        course: validation average precision of the epochs so far.
        config: says how the rate begins and falls.
        replicas: how many share a batch.
    """
    rate = config.learning_rate * (replicas if config.scaling == "linear" else 1)
    if config.schedule == "cosine":
        return rate * (1 + math.cos(math.pi * len(course) / config.epochs)) / 2
    best, waited = -math.inf, 0
    for value in course:
        if value > best + _LEAST_GAIN:
            best, waited = value, 0
            continue
        waited += 1
        if waited >= max(1, config.patience // 2):
            rate, waited = rate * _PLATEAU_FACTOR, 0
    return rate
