"""The questions that are asked of the decision log about many decisions at once: by the controller, and by people.

Each function reads in the transaction of the connection that it is given, so that its numbers belong together.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from schemas.decision import Arm, Outcome
from schemas.scoring_pb2 import Degraded
from serving.decisions.evidence import ShadowTally, Tally

# In percent, because a rank computed from 0.99 may come out one too high.
_QUANTILES = {0.5: 50, 0.99: 99}

# The causes that speak against a model; features that cannot be read do not.
_MODEL_CAUSES = frozenset(
    map(Degraded.Cause.Name, (Degraded.MODEL_UNAVAILABLE, Degraded.MODEL_LATE, Degraded.MODEL_FAILED))
)


@dataclass(frozen=True)
class Share:
    """How much of one generation's traffic went to an arm: decisions, and on how many cards."""

    generation: int
    routed: Arm
    decisions: int
    cards: int


@dataclass(frozen=True)
class OutcomeCount:
    """Decisions of one kind.

    Attributes:
        arm: to which the transaction belonged in the end.
        version: the model that answered; None where none did.
        outcome: as it was answered.
        cause: name of the `Degraded.Cause`, "" where the decision was made as it should have been.
        decisions: how many.
    """

    arm: Arm
    version: int | None
    outcome: Outcome
    cause: str
    decisions: int


def tally(db: sqlite3.Connection, routed: Arm, since_generation: int) -> Tally:
    """See `Evidence`; a quantile is as in `quantiles_ms`."""
    where = "FROM decisions WHERE routed = ? AND generation >= ?"
    of = (routed.name, since_generation)
    outcomes: Counter[Outcome] = Counter()
    failures = 0
    # By generation first, which is the order of the index: nothing is sorted.
    for outcome, cause, decisions in db.execute(
        f"SELECT intended, cause, count(*) {where} GROUP BY generation, intended, cause", of
    ):
        outcomes[Outcome[outcome]] += decisions
        failures += decisions if cause in _MODEL_CAUSES else 0
    (cards,) = db.execute(f"SELECT count(DISTINCT card_id) {where}", of).fetchone()
    times = db.execute(
        f"SELECT model_us, count(*) {where} AND cause IS NULL AND model_us IS NOT NULL GROUP BY 1 ORDER BY 1", of
    ).fetchall()
    return Tally(outcomes.total(), cards, failures, dict(outcomes), quantiles_ms(times))


def shadow_tally(db: sqlite3.Connection, version: int, since_generation: int) -> ShadowTally:
    """See `Evidence`; a quantile is as in `quantiles_ms`."""
    where = "FROM shadows WHERE version = ? AND generation >= ?"
    of = (version, since_generation)
    outcomes: Counter[tuple[Outcome, Outcome]] = Counter()
    failures = 0
    for decided, outcome, decisions in db.execute(
        f"SELECT decided, outcome, count(*) {where} GROUP BY generation, decided, outcome", of
    ):
        if outcome is None:
            failures += decisions
        else:
            outcomes[Outcome[decided], Outcome[outcome]] += decisions
    times = db.execute(
        f"SELECT model_us, count(*) {where} AND outcome IS NOT NULL AND model_us IS NOT NULL GROUP BY 1 ORDER BY 1", of
    ).fetchall()
    return ShadowTally(outcomes.total() + failures, failures, dict(outcomes), quantiles_ms(times))


def quantiles_ms(times: Sequence[tuple[int, int]]) -> dict[float, float]:
    """The quantiles of a tally, in milliseconds; none of no times.

    Exact, by nearest rank: the shortest time that at least this share of all is not longer than, so one that was taken.

    Args:
        times: (microseconds, how often), shortest first.
    """
    ranks = {
        quantile: -(-sum(count for _, count in times) * percent // 100) for quantile, percent in _QUANTILES.items()
    }
    found: dict[float, float] = {}
    reached = 0
    for time_us, count in times:
        reached += count
        found |= {quantile: time_us / 1e3 for quantile in ranks if quantile not in found and reached >= ranks[quantile]}
    return found


def shares(db: sqlite3.Connection, since_generation: int, until_generation: int | None) -> list[Share]:
    """The arms of each generation from the first to the last, both included, in order."""
    found = db.execute(
        "SELECT generation, routed, count(*), count(DISTINCT card_id) FROM decisions"
        " WHERE generation >= ?1 AND generation <= coalesce(?2, generation) GROUP BY routed, generation",
        (since_generation, until_generation),
    )
    of_arms = [Share(generation, Arm[routed], decisions, cards) for generation, routed, decisions, cards in found]
    return sorted(of_arms, key=lambda share: (share.generation, share.routed))


def outcomes(db: sqlite3.Connection) -> list[OutcomeCount]:
    """All decisions by arm, version, outcome and cause, in that order."""
    found = db.execute(
        "SELECT arm, version, outcome, cause, count(*) FROM decisions GROUP BY arm, version, outcome, cause"
    )
    counts = [
        OutcomeCount(Arm[arm], version, Outcome[outcome], cause or "", n) for arm, version, outcome, cause, n in found
    ]
    return sorted(counts, key=lambda one: (one.arm, one.version or 0, one.outcome, one.cause))
