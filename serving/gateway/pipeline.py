"""The path of a transaction: door, features, model, rules, decision log, and the answer once it is in the log.

Each transaction is a task that passes the stages; each stage takes what waits as one batch.  A task goes on when its
caller has left: what has reached the feature store is decided and logged.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from schemas.decision import Arm, Outcome
from schemas.errors import FraudOpsError, RefusedTransaction
from schemas.features import FeatureSpec
from schemas.reasons import VERSION as REASON_VOCABULARY
from schemas.scoring_pb2 import Decision, Degraded, Transaction
from schemas.transaction import CALENDAR_COLUMNS, COLUMN, second_of_day, second_of_week
from serving.decisions.record import Entry, Kept, ShadowEntry
from serving.features import Features, FeatureStore
from serving.gateway.arms import Answer, Arms
from serving.gateway.decide import Verdict, by_model, by_nobody, reached
from serving.gateway.door import Door
from serving.gateway.explainer import Explainer
from serving.gateway.metrics import Metrics
from serving.gateway.ports import Log, Surroundings
from serving.gateway.refusal import Refusal, at_the_door, decided_otherwise, expired, overloaded, unavailable
from serving.gateway.routes import Route, Routes
from serving.gateway.scorer import ModelFailure, Scorer
from serving.gateway.settings import Settings
from serving.gateway.shadows import Shadows
from serving.gateway.stage import Stage, in_thread
from serving.rules import Rule, RuleSet, Value

_log = logging.getLogger(__name__)

_OWN_FIELDS = frozenset({*COLUMN, *CALENDAR_COLUMNS})
# It follows from the others by the rates of the day, which may have been mended since.
_DERIVED = "amount_base_minor"


@dataclass(slots=True)
class _Case:
    """A transaction in work.

    Attributes:
        route: under which it is decided.
        began_s: when it came, by the monotonic clock.
        deadline_s: until when somebody waits for it, by the same; the latest of all who asked.
    """

    transaction: Mapping[str, Any]
    route: Route
    began_s: float
    deadline_s: float


class _NoFeatures(Exception):
    """The feature store gave none."""


class Pipeline:
    """Decides on transactions; lives on one event loop.

    Args:
        door: lets transactions in.
        store: of features.
        thread: in which the store is called.
        log: of decisions; appended to in a thread of its own.
        routes: which versions to ask.
        rules: take part in every decision.
        stable: asks for the stable version, ...
        canary: ... for the candidate, ...
        shadow: ... and for the candidate aside.
        explainer: asks for the reasons of whichever scored.
        settings: bounds.
        surroundings: time, chance and names.
        metrics: counts.
    """

    def __init__(
        self,
        door: Door,
        store: FeatureStore,
        thread: Executor,
        log: Log,
        routes: Routes,
        rules: RuleSet,
        stable: Scorer,
        canary: Scorer,
        shadow: Scorer,
        explainer: Explainer,
        settings: Settings,
        surroundings: Surroundings,
        metrics: Metrics,
    ) -> None:
        self._door = door
        self._store = store
        self._log = log
        self._routes = routes
        self._rules = rules
        # Without features all of them would seem to be missing, which is what a rule may look for.
        self._own_rules = RuleSet(tuple(rule for rule in rules.rules if rule.when.fields <= _OWN_FIELDS))
        self._fields = _Fields(store.spec, rules)
        self._explainer = explainer
        self._arms = Arms(routes, stable, canary, settings.model_deadline_s)
        self._settings = settings
        self._surroundings = surroundings
        self._metrics = metrics
        self._log_thread = ThreadPoolExecutor(1, thread_name_prefix="decision-log")
        self._looking: Stage[_Case, Kept | Features] = Stage(
            in_thread(thread, self._look_up), settings.feature_batch, on_batch=metrics.batch("features")
        )
        self._appending: Stage[Entry | ShadowEntry, Decision | None] = Stage(
            in_thread(self._log_thread, self._append), settings.log_batch, on_batch=metrics.batch("log")
        )
        self._shadows = Shadows(shadow, self._appending.put, settings.max_shadows, metrics)
        self._in_work: dict[str, tuple[_Case, asyncio.Task[Decision]]] = {}
        self._for_room: deque[asyncio.Future[None]] = deque()

    @property
    def in_work(self) -> int:
        """How many transactions are being decided."""
        return len(self._in_work)

    async def room(self) -> None:
        """Waits until another transaction may come."""
        while self.in_work >= self._settings.max_waiting:
            place = asyncio.get_running_loop().create_future()
            self._for_room.append(place)
            await place

    async def score(self, message: Transaction, remaining_s: float | None) -> Decision:
        """The decision on a transaction; on one that was decided before, the decision that stands.

        Args:
            message: as it came.
            remaining_s: how long the caller waits; None: as long as it takes.

        Raises:
            Refusal: it cannot be admitted, was decided with other content, or is one too many; or nobody waits any
                more; or the decision log does not work.
        """
        try:
            transaction = self._door.admit(message, self._surroundings.now_us())
        except RefusedTransaction as refused:
            raise at_the_door(refused) from refused
        transaction_id = transaction["transaction_id"]
        now_s = self._surroundings.clock_s()
        deadline_s = math.inf if remaining_s is None else now_s + remaining_s
        if (known := self._in_work.get(transaction_id)) is not None:
            case, task = known
            if _differ(case.transaction, transaction):
                raise decided_otherwise(transaction_id)
            case.deadline_s = max(case.deadline_s, deadline_s)
        else:
            if self.in_work >= self._settings.max_waiting:
                raise overloaded(self.in_work)
            case = _Case(transaction, self._routes.current, now_s, deadline_s)
            task = asyncio.get_running_loop().create_task(self._decide(case))
            self._in_work[transaction_id] = case, task
            task.add_done_callback(lambda done: self._leave(transaction_id, done))
        # The caller may leave, and the task goes on.
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Ends when all that was taken is decided and logged."""
        while self._in_work:
            await asyncio.wait([task for _, task in self._in_work.values()])
        await self._shadows.drain()
        self._log_thread.shutdown()

    def _leave(self, transaction_id: str, task: asyncio.Task[Decision]) -> None:
        del self._in_work[transaction_id]
        while self._for_room:
            if not (place := self._for_room.popleft()).done():
                place.set_result(None)
                break
        if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, Refusal):
            _log.error("transaction %r was not decided", transaction_id, exc_info=error)

    async def _decide(self, case: _Case) -> Decision:
        transaction, route = case.transaction, case.route
        try:
            async with asyncio.timeout(self._settings.features_deadline_s):
                found = await self._looking.put(case)
        except TimeoutError:
            waited_ms = self._settings.features_deadline_s * 1_000
            return await self._without_features(case, f"the feature store did not answer within {waited_ms:.0f} ms")
        except _NoFeatures as error:
            return await self._without_features(case, str(error))
        if isinstance(found, Kept):
            return _standing(found, transaction)
        self._metrics.features.add(found)
        hits = self._rules.hits(self._fields.values(transaction, found))
        answer = await self._arms.ask(route, transaction["card_id"], found, lambda: self._left_s(case))
        asked = Outcome.PASS
        if answer.by is not None and answer.scored is not None:
            asked = reached(answer.scored.score, answer.by.bundle.thresholds)
        why, unexplained = ((), "") if asked is Outcome.PASS else await self._reasons(case, answer)
        entry = self._entry(case, by_model(asked, hits, why), answer, hits, found, unexplained)
        decision = await self._write(case, entry, answer)
        candidate = route.routing.candidate
        if (
            route.routing.shadow
            and candidate is not None
            and answer.routed is not Arm.CANARY
            and decision is entry.decision
        ):
            self._shadows.ask(route, candidate, entry, hits, found)
        return decision

    def _left_s(self, case: _Case) -> float:
        """How long the models may still take."""
        return case.deadline_s - self._surroundings.clock_s() - self._settings.reserve_s

    async def _reasons(self, case: _Case, answer: Answer) -> tuple[tuple[str, ...], str]:
        """The reasons of the model that scored; or none, and why there are none."""
        assert answer.asked is not None, "a model that scored was asked"
        try:
            return await self._explainer.ask(answer.asked, self._left_s(case)), ""
        except ModelFailure as failure:
            self._metrics.unexplained(answer.asked.version, Degraded.Cause.Name(failure.cause))
            return (), failure.detail

    async def _without_features(self, case: _Case, detail: str) -> Decision:
        """REVIEW, whatever a model might have said."""
        transaction, routing = case.transaction, case.route.routing
        degraded = Degraded(cause=Degraded.FEATURES_UNAVAILABLE, fallback=Degraded.REVIEW_ALL, detail=detail)
        answer = Answer(routing.arm(transaction["card_id"]), degraded=degraded)
        hits = self._own_rules.hits(_with_calendar(transaction))
        return await self._write(case, self._entry(case, by_nobody(hits), answer, hits, None), answer)

    def _entry(
        self,
        case: _Case,
        verdict: Verdict,
        answer: Answer,
        hits: Sequence[Rule],
        features: Features | None,
        unexplained: str = "",
    ) -> Entry:
        """The decision as it is answered, and what the log keeps beside it."""
        share = self._settings.control_share
        is_control = verdict.outcome is Outcome.BLOCK and self._surroundings.chance() < share
        decision = Decision(
            decision_id=self._surroundings.new_id(),
            transaction_id=case.transaction["transaction_id"],
            outcome=(Outcome.PASS if is_control else verdict.outcome).name,
            reason_codes=verdict.reasons,
            reason_vocabulary=REASON_VOCABULARY,
            arm=(Arm.CONTROL if is_control else answer.arm).name,
            generation=case.route.routing.generation,
            missing_features=answer.missing,
            degraded=answer.degraded,
            unexplained=unexplained,
        )
        if answer.scored is not None:
            decision.score = answer.scored.score
            decision.model.name, decision.model.version = self._settings.model_name, answer.scored.version
        for rule in hits:
            decision.rule_hits.add(rule=rule.name, action=rule.action.name, reason_code=rule.reason)
        if is_control:
            decision.control_propensity = share
        return Entry(
            decision=decision,
            transaction=case.transaction,
            routed=answer.routed,
            intended=verdict.outcome,
            features=features,
            rules_digest=self._rules.digest,
            decided_us=self._surroundings.now_us(),
            model_us=answer.routed_us,
            total_us=round((self._surroundings.clock_s() - case.began_s) * 1e6),
        )

    async def _write(self, case: _Case, entry: Entry, answer: Answer) -> Decision:
        """Logs a decision, and gives the one that stands: another gateway may have been first."""
        stands = await self._appending.put(entry)
        assert stands is not None, "an entry has a decision"
        if stands.decision_id != entry.decision.decision_id:
            kept = await asyncio.get_running_loop().run_in_executor(
                self._log_thread, self._log.find, stands.transaction_id
            )
            return stands if kept is None else _standing(kept, case.transaction)
        model_s = None if answer.scored is None else answer.scored.took_us / 1e6
        self._metrics.decided(entry.decision, self._surroundings.clock_s() - case.began_s, model_s)
        return entry.decision

    def _look_up(self, cases: list[_Case]) -> Sequence[Kept | Features | Exception]:
        """What stands for transactions that were decided, and features of the others; in the features' thread."""
        results = [self._known(case) for case in cases]
        new = [case.transaction for case, known in zip(cases, results, strict=True) if known is None]
        fresh = iter(self._observe(new))
        return [next(fresh) if known is None else known for known in results]

    def _known(self, case: _Case) -> Kept | Exception | None:
        if case.deadline_s <= self._surroundings.clock_s():
            return expired()
        try:
            return self._log.find(case.transaction["transaction_id"])
        except FraudOpsError as error:
            return unavailable(str(error))

    def _observe(self, transactions: Sequence[Mapping[str, Any]]) -> Sequence[Features | Exception]:
        if not transactions:
            return []
        try:
            return self._store.observe_all(transactions)
        except Exception as error:
            if len(transactions) > 1 and not isinstance(error, FraudOpsError):
                # It is about one of them, and the others must not suffer for it.
                return [result for transaction in transactions for result in self._observe([transaction])]
            _log.warning("no features for %d transactions: %r", len(transactions), error)
            return [_NoFeatures(f"the feature store failed: {error}")] * len(transactions)

    def _append(self, items: list[Entry | ShadowEntry]) -> Sequence[Decision | Exception | None]:
        """In the log's thread."""
        entries = [item for item in items if isinstance(item, Entry)]
        shadows = [item for item in items if isinstance(item, ShadowEntry)]
        try:
            stands = iter(self._log.append(entries, shadows))
        except FraudOpsError as error:
            return [unavailable(f"the decision cannot be logged: {error}")] * len(items)
        return [next(stands) if isinstance(item, Entry) else None for item in items]


class _Fields:
    """What rules look at, out of a transaction and its features."""

    def __init__(self, spec: FeatureSpec, rules: RuleSet) -> None:
        self._numbers = list(_places(spec.numeric, rules.fields))
        self._texts = list(_places(spec.categorical, rules.fields))

    def values(self, transaction: Mapping[str, Any], features: Features) -> Mapping[str, Value]:
        values = _with_calendar(transaction)
        for name, place in self._numbers:
            values[name] = features.numbers[place]
        for name, place in self._texts:
            values[name] = features.texts[place]
        return values


def _places(inputs: Iterable[Any], fields: frozenset[str]) -> Iterable[tuple[str, int]]:
    place = 0
    for declared in inputs:
        if declared.name in fields and declared.name not in _OWN_FIELDS:
            yield declared.name, place
        place += declared.width


def _with_calendar(transaction: Mapping[str, Any]) -> dict[str, Any]:
    time_us = transaction["event_time"]
    return {**transaction, "second_of_day": second_of_day(time_us), "second_of_week": second_of_week(time_us)}


def _standing(kept: Kept, transaction: Mapping[str, Any]) -> Decision:
    """The decision that stands, if it is about the same transaction."""
    if _differ(kept.transaction, transaction):
        raise decided_otherwise(transaction["transaction_id"])
    return kept.decision


def _differ(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return any(one.get(name) != other.get(name) for name in {*one, *other} - {_DERIVED})
