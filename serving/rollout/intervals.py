"""Confidence intervals of a share that hold however often one looks.

A rollout is looked at every second, and a test that is wrong in 1 % of its looks would sooner or later roll back
everything.  So the intervals are confidence sequences: with the given confidence, the truth is inside all of those that
a growing sample ever gives.  For `hits` of `trials`, each a hit with probability p, the ratio

    E(p) = integral of q^hits (1 - q)^(trials - hits) over Jeffreys' prior Beta(1/2, 1/2) of q
           / (p^hits (1 - p)^(trials - hits))

is a martingale of mean 1 under the true p, whatever p is, and exceeds 1/alpha at any time at all with probability alpha
at most (Ville 1939; Robbins 1970, Statistical methods related to the law of the iterated logarithm; Howard, Ramdas,
McAuliffe and Sekhon 2021, Time-uniform, nonparametric, nonasymptotic confidence sequences).  The interval is where
E(p) < 1/alpha.  It needs no table, is exact for small counts, zero included, and takes counts that are no integers.
"""

from __future__ import annotations

import math

_BISECTIONS = 60  # as fine as a double


def interval(hits: float, trials: float, confidence: float) -> tuple[float, float]:
    """The shares in [0, 1] that `hits` of `trials` do not refute; (0, 1) without any trial."""
    if trials <= 0:
        return 0.0, 1.0
    refuting = _log_mixture(hits, trials) + math.log1p(-confidence)

    def edge(outside: float) -> float:
        inside = hits / trials
        for _ in range(_BISECTIONS):
            middle = (outside + inside) / 2
            if middle == outside:  # an edge beside 0 or 1 that a double cannot tell from it
                break
            if _log_likelihood(hits, trials, middle) <= refuting:
                outside = middle
            else:
                inside = middle
        return outside

    return edge(0.0) if hits > 0 else 0.0, edge(1.0) if hits < trials else 1.0


def _log_mixture(hits: float, trials: float) -> float:
    """Logarithm of the likelihood's mean over Jeffreys' prior: of B(hits + 1/2, misses + 1/2) / B(1/2, 1/2)."""
    return math.lgamma(hits + 0.5) + math.lgamma(trials - hits + 0.5) - math.lgamma(trials + 1) - math.log(math.pi)


def _log_likelihood(hits: float, trials: float, share: float) -> float:
    """For a share in (0, 1)."""
    return hits * math.log(share) + (trials - hits) * math.log1p(-share)
