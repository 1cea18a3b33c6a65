"""What the gateway asks of the decision log, and of the world: clocks, chance and names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from schemas.scoring_pb2 import Decision
from serving.decisions.labels import Label, Reported
from serving.decisions.record import Entry, Kept, ShadowEntry


class Log(Protocol):
    """The decision log; any thread may call it, and any call may raise an ArtifactError."""

    def append(self, entries: Sequence[Entry], shadows: Sequence[ShadowEntry] = ()) -> list[Decision]:
        """Writes all in one commit, and gives the decision that stands for each entry."""

    def find(self, transaction_id: str) -> Kept | None:
        """What stands for a transaction; None where nobody decided on it yet."""

    def report(
        self, transaction_id: str, is_fraud: bool, label_time_us: int, reported_by: str | None, now_us: int
    ) -> Reported:
        """Records what a transaction turned out to be; raises OutcomeReportError or UnknownTransactionError."""

    def pending_labels(self) -> list[Label]:
        """The labels that were not marked by `applied` yet, in the order in which they were reported."""

    def applied(self, applied: Sequence[Label]) -> None:
        """Marks labels that the feature store has taken in."""


@dataclass(frozen=True)
class Surroundings:
    """Where a gateway has time, chance and names from.

    Attributes:
        now_us: wall clock, UTC microseconds since the Unix epoch.
        clock_s: monotonic clock, in seconds.
        chance: uniform in [0, 1): who becomes a control.
        new_id: an id that no other decision has.
    """

    now_us: Callable[[], int]
    clock_s: Callable[[], float]
    chance: Callable[[], float]
    new_id: Callable[[], str]
