"""What a decision can be, with the numbers that the scoring API gives it."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum


class Outcome(IntEnum):
    """What happens to a transaction; the greater, the stricter."""

    PASS = 1
    REVIEW = 2
    BLOCK = 3


class Arm(IntEnum):
    """Which part of the traffic a transaction belongs to.  Rules alone are no arm: there is no model version then."""

    STABLE = 1
    CANARY = 2
    CONTROL = 3


def strictest(outcomes: Iterable[Outcome]) -> Outcome:
    """The strictest of several outcomes; PASS where there is none."""
    return max(outcomes, default=Outcome.PASS)
