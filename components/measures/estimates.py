"""Estimates: a measured value with the interval that samples of cards put around it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from components.measures.replicates import Replicates
from components.measures.scored import Floats

# Where more samples than this share say nothing, for want of frauds in them, the others are no picture of all.
_MAX_UNDEFINED = 0.05


@dataclass(frozen=True)
class Estimate:
    """A value and its interval; both ends are None where samples are too few to say."""

    value: float
    low: float | None = None
    high: float | None = None

    @staticmethod
    def read(raw: Mapping[str, Any]) -> Estimate:
        """Of what `dataclasses.asdict` made."""
        return Estimate(**raw)


def estimate(values: Floats, confidence: float) -> Estimate | None:
    """Of one measure's replicates `[1 + resamples]`; None where the rows themselves do not define it."""
    value, samples = float(values[0]), values[1:]
    if not np.isfinite(value):
        return None
    defined = samples[np.isfinite(samples)]
    if not samples.size or defined.size < (1 - _MAX_UNDEFINED) * samples.size:
        return Estimate(value)
    tail = (1 - confidence) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return Estimate(value, float(low), float(high))


def estimates(measured: Replicates, confidence: float) -> dict[str, Estimate]:
    """Of all measures that the rows define, by name."""
    found = {name: estimate(values, confidence) for name, values in measured.items()}
    return {name: one for name, one in found.items() if one is not None}


def difference(ours: Replicates, theirs: Replicates, name: str, confidence: float) -> Estimate | None:
    """Ours less theirs, sample by sample: of two models on the same rows, cards and draws.

    What both models share, hard weeks and easy cards, cancels out, so that small differences show (a paired bootstrap).
    """
    if name not in ours or name not in theirs:
        return None
    return estimate(ours[name] - theirs[name], confidence)


def ratio(ours: Replicates, theirs: Replicates, name: str, confidence: float) -> Estimate | None:
    """Ours over theirs, sample by sample, likewise."""
    if name not in ours or name not in theirs:
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        return estimate(ours[name] / theirs[name], confidence)
