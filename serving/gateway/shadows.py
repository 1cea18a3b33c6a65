"""What a candidate says aside of transactions that others decide: evidence, for which nobody waits."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from schemas.scoring_pb2 import Degraded
from serving.decisions.record import Entry, ShadowEntry
from serving.features import Features
from serving.gateway.arms import question
from serving.gateway.decide import by_model, reached
from serving.gateway.metrics import Metrics
from serving.gateway.refusal import Refusal
from serving.gateway.routes import Route
from serving.gateway.scorer import ModelFailure, Scorer
from serving.rollout.routing import Served
from serving.rules import Rule

_log = logging.getLogger(__name__)


class Shadows:
    """Asks the candidate after the answer has gone; lives on one event loop.

    Args:
        scorer: asks for the candidate's label, beside whoever decides by it.
        write: puts what it said into the decision log.
        most: transactions that may wait; of more, the rest go without.
        metrics: counts.
    """

    def __init__(
        self, scorer: Scorer, write: Callable[[ShadowEntry], Awaitable[object]], most: int, metrics: Metrics
    ) -> None:
        self._scorer = scorer
        self._write = write
        self._most = most
        self._metrics = metrics
        self._tasks: set[asyncio.Task[None]] = set()

    def ask(self, route: Route, candidate: Served, entry: Entry, hits: Sequence[Rule], features: Features) -> None:
        """Asks about a transaction, aside.

        Args:
            route: the routing under which it was decided.
            candidate: of that routing.
            entry: the decision that stands.
            hits: the rules that held.
            features: as the store gave them.
        """
        if len(self._tasks) >= self._most:
            self._metrics.shadows_dropped.inc()
            return
        task = asyncio.get_running_loop().create_task(self._ask(route, candidate, entry, hits, features))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def drain(self) -> None:
        """Waits for those that were asked."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _ask(
        self, route: Route, candidate: Served, entry: Entry, hits: Sequence[Rule], features: Features
    ) -> None:
        version, decided = candidate.version, entry.intended
        said = ShadowEntry(
            decision_id=entry.decision.decision_id,
            version=version,
            generation=route.routing.generation,
            decided=decided,
            outcome=None,
            score=None,
            cause="",
            model_us=None,
        )
        try:
            scored = await self._scorer.ask(question(route, candidate, features))
            if scored.version != version:
                raise ModelFailure(Degraded.MODEL_FAILED, f"version {scored.version} answered for {version}")
            outcome = by_model(reached(scored.score, candidate.bundle.thresholds), hits).outcome
            said = replace(said, outcome=outcome, score=scored.score, model_us=scored.took_us)
            self._metrics.shadowed(version, decided, outcome)
        except ModelFailure as failure:
            said = replace(said, cause=Degraded.Cause.Name(failure.cause))
            self._metrics.shadow_failed(version, said.cause)
        try:
            await self._write(said)
        except Refusal as refusal:
            _log.warning("what version %d said of decision %s is lost: %s", version, said.decision_id, refusal)
