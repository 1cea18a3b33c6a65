"""What the demonstration came to, read off the rollout table, the decision log and the client's own file."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from pipelines.demo.stage import end_of
from schemas.decision import Arm, Outcome
from serving.decisions.evidence import ShadowTally
from serving.decisions.log import DecisionLog
from serving.decisions.tallies import OutcomeCount, Share
from serving.rollout.situation import Event, State
from serving.rollout.table import RolloutTable

# The version that was planted blocks at least so many times as many transactions as the one that decides.
PLANTED_BLOCK_RATIO = 3.0
# How far a measured share may be from its weight, in standard deviations.
_DEVIATIONS = 4.0


@dataclass(frozen=True)
class CanaryShare:
    """What one canary step should have sent to the candidate, and what it did.

    Attributes:
        weight: share of cards that the candidate was to decide for.
        decisions: in the step; `canary_decisions` of them were routed to the candidate.
        cards: that paid in the step; `canary_cards` of them were the candidate's.
    """

    version: int
    weight: float
    decisions: int
    canary_decisions: int
    cards: int
    canary_cards: int

    @property
    def of_decisions(self) -> float:
        return self.canary_decisions / max(self.decisions, 1)

    @property
    def of_cards(self) -> float:
        return self.canary_cards / max(self.cards, 1)

    @property
    def as_wanted(self) -> bool:
        """Whether the share of cards is as near to the weight as so many cards, each drawn by itself, come."""
        deviation = math.sqrt(self.weight * (1 - self.weight) / max(self.cards, 1))
        return self.cards > 0 and abs(self.of_cards - self.weight) <= _DEVIATIONS * deviation


@dataclass(frozen=True)
class Aside:
    """What a version said aside, in shadow, beside what was decided on the same transactions.

    Attributes:
        asked: transactions on which it answered.
        blocks: those that it would have blocked; `decided_blocks` were to be blocked by what decided.
    """

    version: int
    asked: int
    blocks: int
    decided_blocks: int

    @property
    def ratio(self) -> float | None:
        """How many times as many it would have blocked, infinitely many beside none; None where neither blocked."""
        if self.decided_blocks:
            return self.blocks / self.decided_blocks
        return math.inf if self.blocks else None


@dataclass(frozen=True)
class Calls:
    """What the client saw.

    Attributes:
        made: calls that were answered or failed.
        errors: those that failed, by code.
    """

    made: int
    errors: dict[str, int]


@dataclass(frozen=True)
class Check:
    """Something that the demonstration has to show, and whether it did."""

    expected: str
    holds: bool


@dataclass(frozen=True)
class Findings:
    """All of it.

    Attributes:
        good: the versions that deserve to decide, in the order of their rollouts.
        skewed: the one that does not.
        champion: the version that the registry's alias names.
        history: of the rollouts, oldest first.
        shares: of each canary step.
        asides: of each version that was in shadow.
        outcomes: of all decisions.
        calls: of the client.
    """

    good: tuple[int, ...]
    skewed: int
    champion: int | None
    history: tuple[Event, ...]
    shares: tuple[CanaryShare, ...]
    asides: tuple[Aside, ...]
    outcomes: tuple[OutcomeCount, ...]
    calls: Calls

    @property
    def checks(self) -> tuple[Check, ...]:
        """What has to hold."""
        aside = next((one for one in self.asides if one.version == self.skewed), None)
        ratio = aside.ratio if aside else None
        judged = (State.SHADOW.value, State.CANARY.value)
        rolled_back = _reached(self.history, self.skewed, State.ROLLED_BACK)
        return (
            *(
                Check(f"version {version} is promoted", _reached(self.history, version, State.PROMOTED))
                for version in self.good
            ),
            Check(
                f"version {self.skewed}, which was registered all the same, is rolled back once it has been judged",
                rolled_back and any(e.version == self.skewed and e.state in judged for e in self.history),
            ),
            Check(
                f"version {self.skewed} blocks at least {PLANTED_BLOCK_RATIO:g} times as many as what decides",
                ratio is not None and ratio >= PLANTED_BLOCK_RATIO,
            ),
            Check(f"version {self.good[-1]} is the champion", self.champion == self.good[-1]),
            Check(
                "every canary step has had its share of the cards, as near as chance allows",
                bool(self.shares) and all(share.as_wanted for share in self.shares),
            ),
            Check("calls were made, and none failed", self.calls.made > 0 and not self.calls.errors),
        )

    @property
    def passed(self) -> bool:
        """Whether everything is as it has to be."""
        return all(check.holds for check in self.checks)

    def fields(self) -> dict[str, object]:
        """The part of `--json` that is about serving."""
        return {
            "versions": {"good": self.good, "skewed": self.skewed, "champion": self.champion},
            "history": [asdict(event) for event in self.history],
            "shares": [
                asdict(share) | {"of_decisions": share.of_decisions, "of_cards": share.of_cards}
                for share in self.shares
            ],
            "shadows": [asdict(aside) | {"ratio": aside.ratio} for aside in self.asides],
            "outcomes": [asdict(one) | {"arm": one.arm.name, "outcome": one.outcome.name} for one in self.outcomes],
            "calls": asdict(self.calls),
            "checks": [asdict(check) for check in self.checks],
        }


def gather(
    table: RolloutTable,
    log: DecisionLog,
    answers: Iterable[Path],
    champion: int | None,
    good: Sequence[int],
    skewed: int,
) -> Findings:
    """All of it, once the traffic has ended.

    Args:
        answers: what `fraudops score --out` wrote, as JSON lines.
        champion: see `Findings`, as `good` and `skewed`.
    """
    history = table.history()
    asides = (
        aside(event.version, log.shadow_tally(event.version, event.generation))
        for event in history
        if event.state == State.SHADOW
    )
    return Findings(
        tuple(good),
        skewed,
        champion,
        history,
        tuple(canary_shares(history, log.shares())),
        tuple(asides),
        tuple(log.outcomes()),
        calls(answers),
    )


def canary_shares(history: Iterable[Event], shares: Iterable[Share]) -> list[CanaryShare]:
    """The canary steps of a history, each with how its traffic was divided; a step has a generation of its own."""
    decisions: Counter[tuple[int, Arm]] = Counter()
    cards: Counter[tuple[int, Arm]] = Counter()
    for share in shares:
        decisions[share.generation, share.routed] += share.decisions
        cards[share.generation, share.routed] += share.cards
    return [
        CanaryShare(
            event.version,
            event.weight,
            sum(decisions[event.generation, arm] for arm in Arm),
            decisions[event.generation, Arm.CANARY],
            sum(cards[event.generation, arm] for arm in Arm),
            cards[event.generation, Arm.CANARY],
        )
        for event in history
        if event.state == State.CANARY
    ]


def aside(version: int, tally: ShadowTally) -> Aside:
    """What a version said aside, as far as it is about blocking."""
    pairs = tally.outcomes
    return Aside(
        version,
        sum(pairs.values()),
        sum(count for (_, said), count in pairs.items() if said is Outcome.BLOCK),
        sum(count for (decided, _), count in pairs.items() if decided is Outcome.BLOCK),
    )


def calls(answers: Iterable[Path]) -> Calls:
    """What the client wrote down of its calls, counted."""
    codes = [answer["error"] for answer in read_answers(answers)]
    return Calls(len(codes), dict(Counter(code for code in codes if code is not None)))


def read_answers(answers: Iterable[Path]) -> Iterator[dict[str, Any]]:
    """What the client wrote down of its calls, one after another."""
    for file in answers:
        with file.open("rb") as lines:
            # A client that was killed leaves a line without an end.
            yield from (orjson.loads(line) for line in lines if line.endswith(b"\n"))


def _reached(history: Sequence[Event], version: int, state: State) -> bool:
    end = end_of(history, version)
    return end is not None and end.state == state
