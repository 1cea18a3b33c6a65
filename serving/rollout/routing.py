"""Which cards a candidate version decides for: one generation of the rollout table."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from schemas.bundle import Bundle
from schemas.decision import Arm
from schemas.errors import ArtifactError

# The labels under which model servers know the two versions.
STABLE_LABEL = "stable"
CANARY_LABEL = "canary"

_UNIT = 2.0**-64


@dataclass(frozen=True)
class Served:
    """A version that serves, with all that turns its score into a decision."""

    version: int
    bundle: Bundle


@dataclass(frozen=True)
class Routing:
    """What gateways do, from one generation to the next.

    Attributes:
        generation: counts up with every change.
        stable: decides for everybody else; None before the first promotion, where the rules decide alone.
        candidate: the version that is being rolled out, None between rollouts.
        weight: share of all cards that the candidate decides for, in [0, 1]; 0 while it only shadows.
        shadow: whether the candidate scores every transaction that it does not decide, aside, for evidence.
        salt: names the rollout; another one puts other cards first.
    """

    generation: int
    stable: Served | None = None
    candidate: Served | None = None
    weight: float = 0.0
    shadow: bool = False
    salt: str = ""

    def arm(self, card_id: str) -> Arm:
        """The arm of a card; under one salt, a card that the candidate has stays with it as the weight grows."""
        if self.candidate is not None and self.weight > 0 and position(self.salt, card_id) < self.weight:
            return Arm.CANARY
        return Arm.STABLE

    def served(self, version: int) -> Served | None:
        """The version of that number, if it takes part."""
        return next((one for one in (self.stable, self.candidate) if one is not None and one.version == version), None)

    def to_json(self) -> str:
        """One JSON object."""

        def plain(served: Served | None) -> dict[str, object] | None:
            if served is None:
                return None
            return {"version": served.version, "bundle": json.loads(served.bundle.to_json())}

        return json.dumps(
            {
                "generation": self.generation,
                "stable": plain(self.stable),
                "candidate": plain(self.candidate),
                "weight": self.weight,
                "shadow": self.shadow,
                "salt": self.salt,
            },
            separators=(",", ":"),
        )

    @staticmethod
    def from_json(text: str) -> Routing:
        """Reads back `to_json`.

        Raises:
            ArtifactError: the text is no routing that this version can follow.
        """

        def served(raw: dict[str, object] | None) -> Served | None:
            return (
                None if raw is None else Served(int(str(raw["version"])), Bundle.from_json(json.dumps(raw["bundle"])))
            )

        try:
            raw = json.loads(text)
            raw["stable"], raw["candidate"] = served(raw["stable"]), served(raw["candidate"])
            return Routing(**raw)
        except (ValueError, KeyError, TypeError) as error:
            raise ArtifactError(f"not a generation of the rollout table: {error!r}") from error


def position(salt: str, card_id: str) -> float:
    """Where a card stands in a rollout, in [0, 1): a 64-bit BLAKE2b, evenly spread whatever the cards look like.

    A card is with the candidate while its position is below the weight.
    """
    digest = hashlib.blake2b(f"{salt}\0{card_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") * _UNIT
