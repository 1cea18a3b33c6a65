"""What the decision log says of a version that is being rolled out: the port through which the controller asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from schemas.decision import Arm, Outcome


@dataclass(frozen=True)
class Tally:
    """Decisions on the transactions that were routed to one arm.

    Attributes:
        decisions: all of them, those that something else had to make included.
        cards: on how many cards.
        failures: those in which the arm's model did not answer, or not in time.
        outcomes: how many of each outcome, as the decision would have been without a control group.
        latency_ms: quantile (0.5, 0.99) to milliseconds that the model server took; empty where no model answered.
    """

    decisions: int
    cards: int
    failures: int
    outcomes: Mapping[Outcome, int]
    latency_ms: Mapping[float, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ShadowTally:
    """What a candidate said aside of transactions that somebody else decided.

    Attributes:
        asked: on how many transactions it was asked.
        failures: how often it did not answer, or not in time.
        outcomes: (decided, candidate's) to how many; of those that it answered.
        latency_ms: as in `Tally`.
    """

    asked: int
    failures: int
    outcomes: Mapping[tuple[Outcome, Outcome], int]
    latency_ms: Mapping[float, float] = field(default_factory=dict)


class Evidence(Protocol):
    """The decision log as the controller reads it."""

    def tally(self, routed: Arm, since_generation: int) -> Tally:
        """Of the transactions routed to an arm under this generation or a later one."""
        ...

    def shadow_tally(self, version: int, since_generation: int) -> ShadowTally:
        """Of what a version said aside under this generation or a later one."""
        ...
