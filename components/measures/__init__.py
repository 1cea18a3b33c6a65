"""What a model is worth on labelled transactions: measures, and intervals from samples of cards."""

from components.measures.estimates import Estimate, difference, estimate, estimates, ratio
from components.measures.replicates import (
    CARDS_PER_DAY,
    FALSE_POSITIVE_RATES,
    NO_INTERVALS,
    PRECISIONS,
    Bootstrap,
    Replicates,
    replicates,
)
from components.measures.scored import Bools, Floats, Scored, as_labels, scored

__all__ = [
    "CARDS_PER_DAY",
    "FALSE_POSITIVE_RATES",
    "NO_INTERVALS",
    "PRECISIONS",
    "Bools",
    "Bootstrap",
    "Estimate",
    "Floats",
    "Replicates",
    "Scored",
    "as_labels",
    "difference",
    "estimate",
    "estimates",
    "ratio",
    "replicates",
    "scored",
]
