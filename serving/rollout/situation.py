"""Where the rollout stands: what the controller writes down before it acts, and finds again after a death."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import StrEnum

from schemas.errors import ArtifactError


class State(StrEnum):
    """How far a version has come.

    PROMOTING and ROLLING_BACK are on the way: gateways, model servers and registry are brought in line, in this order.
    PROMOTED and ROLLED_BACK are reached when that is done.
    """

    PENDING = "pending"
    LOADING = "loading"
    SHADOW = "shadow"
    CANARY = "canary"
    PROMOTING = "promoting"
    PROMOTED = "promoted"
    ROLLING_BACK = "rolling_back"
    ROLLED_BACK = "rolled_back"


ENDED = frozenset({State.PROMOTED, State.ROLLED_BACK})


@dataclass(frozen=True)
class Release:
    """A version that was promoted.

    Attributes:
        digest: of its SavedModel, as registered.
        rollout: number of the rollout that promoted it.
    """

    version: int
    digest: str
    rollout: int


@dataclass(frozen=True)
class Rollout:
    """One attempt to put a version into service.

    Attributes:
        number: counts up, from 1.
        version: the candidate.
        digest: of its SavedModel, as registered.
        state: how far it is.
        step: index of the canary step while `state` is CANARY, and of the last one reached behind it.
        since_us: when the state, or the step, was entered.
        since_generation: the routing's generation from then on; evidence counts from it.
        reason: why it was entered.
    """

    number: int
    version: int
    digest: str
    state: State
    since_us: int
    since_generation: int
    reason: str
    step: int = 0

    @property
    def ended(self) -> bool:
        """Whether nothing remains to be done."""
        return self.state in ENDED


@dataclass(frozen=True)
class Pause:
    """An operator's wish that nothing advances."""

    by: str
    reason: str
    since_us: int


@dataclass(frozen=True)
class Situation:
    """All that the controller knows of what it is doing.

    Attributes:
        stable: decides; None while the rules decide alone.
        previous: was stable before; its files are kept.
        rollout: the one that runs, or the last one.
        waiting: an approved version that waits until the running rollout has ended.
        pause: set while an operator holds things; it ends with the rollout.
    """

    stable: Release | None = None
    previous: Release | None = None
    rollout: Rollout | None = None
    waiting: int | None = None
    pause: Pause | None = None

    @property
    def running(self) -> Rollout | None:
        """The rollout that has not ended, if there is one."""
        return None if self.rollout is None or self.rollout.ended else self.rollout

    def to_json(self) -> str:
        """One JSON object."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @staticmethod
    def from_json(text: str) -> Situation:
        """Reads back `to_json`.

        Raises:
            ArtifactError: the text is no situation that this version can go on from.
        """
        try:
            raw = json.loads(text)
            for key, kind in (("stable", Release), ("previous", Release), ("pause", Pause)):
                raw[key] = kind(**raw[key]) if raw[key] else None
            if raw["rollout"]:
                raw["rollout"] = Rollout(**{**raw["rollout"], "state": State(raw["rollout"]["state"])})
            return Situation(**raw)
        except (ValueError, KeyError, TypeError) as error:
            raise ArtifactError(f"not a situation of the rollout controller: {error!r}") from error


@dataclass(frozen=True)
class Event:
    """A line of the history.

    Attributes:
        time_us: UTC, microseconds.
        rollout: its number; 0 for what belongs to none.
        version: the version that it is about; 0 for none.
        state: a State's value, or what else happened: `refused`, `waiting`, `paused`, `resumed`, `ignored`, `routed`.
        step: index of the canary step.
        weight: share of cards that the candidate decides for from then on.
        generation: of the routing from then on.
        reason: in a sentence.
    """

    time_us: int
    rollout: int
    version: int
    state: str
    step: int
    weight: float
    generation: int
    reason: str
