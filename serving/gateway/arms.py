"""Who scores a transaction: the version of its card's arm, and whom it falls back to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from schemas.decision import Arm
from schemas.scoring_pb2 import Degraded
from serving.features import Features
from serving.gateway.routes import Route, Routes
from serving.gateway.scorer import ModelFailure, Question, Scored, Scorer
from serving.rollout.routing import Served


@dataclass(frozen=True, slots=True)
class Answer:
    """What the models had to say.

    Attributes:
        routed: the arm of the card.
        by: the version that answered; None where none did, and the rules decide alone.
        arm: that version's, or STABLE.
        scored: its answer.
        asked: what it was asked, of the version that answered; None where none did.
        missing: names of its inputs that had no value.
        degraded: what went wrong on the way; None where nothing did.
        routed_us: how long the routed arm's model took, in microseconds; None where it did not answer.
    """

    routed: Arm
    by: Served | None = None
    arm: Arm = Arm.STABLE
    scored: Scored | None = None
    asked: Question | None = None
    missing: tuple[str, ...] = ()
    degraded: Degraded | None = None
    routed_us: int | None = None


class Arms:
    """Asks the arm's version, then stable, then nobody.

    Args:
        routes: looked at once more where a version answers that the transaction's routing does not know.
        stable: asks for the label of the stable version.
        canary: asks for the candidate's.
        deadline_s: how long each may take.
    """

    def __init__(self, routes: Routes, stable: Scorer, canary: Scorer, deadline_s: float) -> None:
        self._routes = routes
        self._stable = stable
        self._canary = canary
        self._deadline_s = deadline_s

    async def ask(self, route: Route, card_id: str, features: Features, left_s: Callable[[], float]) -> Answer:
        """The answer to a transaction.

        Args:
            route: the routing under which the transaction is decided.
            left_s: how much time there is.
        """
        routing = route.routing
        routed = routing.arm(card_id)
        first: ModelFailure | None = None
        if routed is Arm.CANARY and routing.candidate is not None:
            try:
                return await self._answer(self._canary, routing.candidate, route, routed, features, left_s())
            except ModelFailure as failure:
                first = failure
        if routing.stable is None:
            return Answer(routed, degraded=None if first is None else _degraded(first, Degraded.RULES_ALONE))
        try:
            answer = await self._answer(self._stable, routing.stable, route, routed, features, left_s())
        except ModelFailure as failure:
            then = None if first is None else failure
            return Answer(routed, degraded=_degraded(first or failure, Degraded.RULES_ALONE, then))
        if first is None:
            return answer
        return replace(answer, degraded=_degraded(first, Degraded.STABLE_MODEL), routed_us=None)

    async def _answer(
        self, scorer: Scorer, meant: Served, route: Route, routed: Arm, features: Features, left_s: float
    ) -> Answer:
        asked = question(route, meant, features)
        scored = await scorer.ask(asked, min(self._deadline_s, left_s))
        by, arm = await self._who(route, scored.version, meant)
        missing = asked.packer.missing(features)
        asked = replace(asked, version=scored.version)
        return Answer(routed, by, arm, scored, asked, missing, routed_us=scored.took_us)

    async def _who(self, route: Route, version: int, meant: Served) -> tuple[Served, Arm]:
        """The version that answered, and its arm.

        A label may have moved before the generation that says so was read.
        """
        now = route
        if route.routing.served(version) is None:
            now = await self._routes.reload()
        by = now.routing.served(version)
        if by is None:
            raise ModelFailure(
                Degraded.MODEL_FAILED,
                f"version {version} answered, which is not of generation {now.routing.generation}",
            )
        if now.packers.get(version) is not route.packers[meant.version]:
            raise ModelFailure(
                Degraded.MODEL_FAILED, f"version {version} answered to the inputs of version {meant.version}"
            )
        return by, Arm.CANARY if by is now.routing.candidate else Arm.STABLE


def question(route: Route, meant: Served, features: Features) -> Question:
    """The question to a version.

    Raises:
        ModelFailure: its inputs cannot be computed here.
    """
    packer = route.packers.get(meant.version)
    if packer is None:
        raise ModelFailure(Degraded.MODEL_FAILED, route.unusable[meant.version])
    return Question(features, packer, meant.version)


def _degraded(failure: ModelFailure, fallback: Degraded.Fallback, then: ModelFailure | None = None) -> Degraded:
    detail = failure.detail if then is None else f"{failure.detail}; then stable: {then.detail}"
    return Degraded(cause=failure.cause, fallback=fallback, detail=detail)
