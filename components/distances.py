"""Distances between two distributions over the same bins: effect sizes, which do not grow with the number of rows.

They are taken over the last axis, so that many distributions are compared at once.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
# A bin that one side lacks counts as one row in ten thousand: it keeps PSI finite, and a stray value next to harmless.
EMPTY_SHARE = 1e-4


def population_stability_index(current: Floats, baseline: Floats) -> Floats:
    """Sum over bins of (p - q) ln(p / q), empty bins counted as `EMPTY_SHARE`.

    N. Siddiqi, Credit Risk Scorecards (2006), "stability index"; it is the J-divergence of H. Jeffreys (1946).

    Args:
        current: shares `[..., bins]` that sum to 1.
        baseline: shares `[..., bins]` of the same bins.
    """
    p, q = np.maximum(current, EMPTY_SHARE), np.maximum(baseline, EMPTY_SHARE)
    return np.asarray(np.sum((p - q) * np.log(p / q), axis=-1))


def jensen_shannon_divergence(current: Floats, baseline: Floats) -> Floats:
    """H((p + q) / 2) - (H(p) + H(q)) / 2 in bits: 0 for equal shares, 1 for disjoint ones.

    J. Lin, Divergence measures based on the Shannon entropy, IEEE Trans. Inf. Theory 37 (1991).

    Args:
        current: shares `[..., bins]` that sum to 1.
        baseline: shares `[..., bins]` of the same bins.
    """
    divergence = _entropy((current + baseline) / 2) - (_entropy(current) + _entropy(baseline)) / 2
    return np.asarray(np.maximum(0.0, divergence))


def kolmogorov_smirnov_distance(current: Floats, baseline: Floats) -> Floats:
    """Largest difference of the cumulated shares, in [0, 1]; of binned numbers a lower bound of the exact distance.

    N. Smirnov, Table for estimating the goodness of fit of empirical distributions, Ann. Math. Statist. 19 (1948).

    Args:
        current: shares `[..., bins]` that sum to 1, in the order of the values.
        baseline: shares `[..., bins]` of the same bins.
    """
    return np.asarray(np.max(np.abs(np.cumsum(current - baseline, axis=-1)), axis=-1))


def factor(a: float, b: float) -> float:
    """By how much the larger of two non-negative numbers exceeds the smaller: 1 or more, infinite when one is 0."""
    if a == b:
        return 1.0
    return max(a, b) / min(a, b) if min(a, b) > 0 else math.inf


def rank_auc(genuine: npt.NDArray[np.int64], frauds: npt.NDArray[np.int64]) -> float:
    """How often a fraud lies in a higher bin than a genuine row, ties counted half: the area under the ROC curve.

    J. Hanley and B. McNeil, The meaning and use of the area under a ROC curve, Radiology 143 (1982).

    Args:
        genuine: rows `[bins]`, in the order of the values, not all 0.
        frauds: rows `[bins]` of the same bins, not all 0.
    """
    below = np.cumsum(genuine) - genuine
    return float(np.sum(frauds * (below + genuine / 2)) / (frauds.sum() * genuine.sum()))


def _entropy(shares: Floats) -> Floats:
    positive = np.where(shares > 0, shares, 1.0)
    return np.asarray(-np.sum(positive * np.log2(positive), axis=-1))
