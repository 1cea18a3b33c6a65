"""The rollout controller: looks at everything, writes down what follows, and makes the world match it, again and again.

It is driven by levels, not by events.  What is written down says what should be true (`machine.world`); a tick compares
that with what model servers, registry, files and gateways say now, and acts only where they differ.  Every act may be
done twice.  So it does not matter where the process dies, nor what a restarted model server has forgotten.

The order in which things come true keeps every request answerable:
- gateways have taken up the routing in force, and requests under the one before have ended, before anything is taken
  away from model servers;
- a version is available everywhere before a label names it, and its bytes are verified right before that;
- a label names it before a routing sends anybody there.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from schemas.approval import ApproversKey
from schemas.bundle import Bundle
from schemas.decision import Arm
from schemas.errors import ArtifactError, ConfigurationError, DigestMismatchError, ModelServerError, RegistryError
from schemas.features import FeatureSpec
from schemas.versions import CHALLENGER, CHAMPION, Version
from serving.decisions.evidence import Evidence
from serving.inputs import Packer
from serving.registry import Registry
from serving.rollout import machine
from serving.rollout.approvals import Review, candidate, review
from serving.rollout.desired import Desired, Servers
from serving.rollout.judge import Check, Verdict, judge_bootstrap, judge_canary, judge_shadow
from serving.rollout.machine import Change, Facts, World
from serving.rollout.metrics import Metrics
from serving.rollout.policy import Policy
from serving.rollout.routing import Served
from serving.rollout.situation import Event, Rollout, Situation, State
from serving.rollout.table import RolloutTable

_log = logging.getLogger(__name__)

SECOND_US = 1_000_000
# A gateway says once a second that it lives; one that has not for so long takes no requests.
_ALIVE_US = 3 * SECOND_US
# The more evidence there is, the longer a look at it takes.  Between two looks this many times as long goes by, so that
# they never take more than a tenth of the time.
_REST = 9


@dataclass(frozen=True)
class Settings:
    """What the controller goes by.

    Attributes:
        policy: how rollouts proceed.
        store_spec: what the gateways' feature store computes.
        rules_digest: of the rules that the gateways decide by.
        key: where given, approvals have to be signed under it.
        drain_s: after a gateway has taken up a routing, how long requests under the one before may still be in work.
        load_timeout_s: in which a version has to become available once every model server was told of it.
    """

    policy: Policy
    store_spec: FeatureSpec
    rules_digest: str
    key: ApproversKey | None = None
    drain_s: float = 1.0
    load_timeout_s: float = 300.0


class Files(Protocol):
    """The folder that model servers serve from; `ModelFolder` is one."""

    def versions(self) -> frozenset[int]:
        """Those that are there."""
        ...

    def place(self, version: int, digest: str) -> Path:
        """Sees to it that a version is there, and verifies it."""
        ...

    def remove(self, version: int) -> None:
        """Sees to it that a version is not there."""
        ...


class _Unservable(Exception):
    """A version cannot be served as it is, and waiting does not help."""

    def __init__(self, version: int, reason: str) -> None:
        super().__init__(reason)
        self.version = version


class _Aliases:
    """Which version each alias names, and which versions there are to be named, as of one look at the registry."""

    def __init__(self, versions: tuple[Version, ...]) -> None:
        self.versions = frozenset(one.version for one in versions)
        self.named = {alias: one.version for one in versions for alias in one.aliases}


class Controller:
    """Takes approved versions through the rollout.

    Args:
        table: written by nobody else; see `RolloutTable.lead`.
        now_us: the clock, UTC, microseconds.
    """

    def __init__(
        self,
        table: RolloutTable,
        registry: Registry,
        servers: Servers,
        files: Files,
        evidence: Evidence,
        settings: Settings,
        now_us: Callable[[], int],
    ) -> None:
        self._table = table
        self._registry = registry
        self._servers = servers
        self._files = files
        self._evidence = evidence
        self._settings = settings
        self._now_us = now_us
        self._weights = tuple(step.weight for step in settings.policy.canary)
        self._registry_read_us: int | None = None
        # Number of the rollout whose version every model server was told to load, and when that was done first: by
        # this process, because while there is none nobody waits for it.
        self._told_to_load: tuple[int, int] | None = None
        self._look_again_us = 0
        self._checks: tuple[Check, ...] = ()
        # What failed in this tick and in the one before, by kind, so that an outage is one line of the log.
        self._failures: dict[str, str] = {}
        self._failures_before: dict[str, str] = {}
        self.metrics = Metrics(self._registry_age_s)

    def run(self, stop: threading.Event, poll_s: float) -> None:
        """Ticks until it is told to stop; a tick that has begun ends first."""
        while not stop.is_set():
            self.tick()
            stop.wait(poll_s)

    def tick(self) -> None:
        """Looks at everything once, and goes as far as that allows.

        Raises:
            ArtifactError: the rollout table cannot be read or written.
        """
        with self.metrics.ticks.time():
            notes: list[str] = []
            self._failures_before, self._failures = self._failures, {}
            self._end_foreign_routing()
            self._obey()
            verdict = self._judge(notes)
            versions = self._read_registry(notes)
            if versions is not None:
                self._follow(versions, notes)
            self._go_on(versions, verdict, notes)
            self._table.beat(self._now_us(), "; ".join(notes), [asdict(check) for check in self._checks])
            self.metrics.show(self._table.situation(), self._table.routing(), self._checks)

    def _end_foreign_routing(self) -> None:
        situation, facts = self._table.situation(), self._facts()
        if situation.rollout is None and (facts.routing.stable or facts.routing.candidate):
            self._write(machine.reroute(situation, facts))

    def _obey(self) -> None:
        for command in self._table.commands():
            self._write(machine.obey(self._table.situation(), command, self._facts()), executed=(command.id,))

    def _judge(self, notes: list[str]) -> Verdict | None:
        """The verdict on the running step, if it is time for one; where it is a failure, the rollout stops here."""
        situation = self._table.situation()
        running = situation.running
        if running is None or running.state not in machine.JUDGED:
            self._checks = ()
            return None
        began_us = self._now_us()
        if began_us < self._look_again_us:
            return None
        try:
            verdict = self._verdict(situation, running)
        except ArtifactError as error:
            self._failed("evidence", error, notes)
            return None
        ended_us = self._now_us()
        self._look_again_us = ended_us + _REST * (ended_us - began_us)
        self._checks = verdict.checks
        if verdict.decision == "fail":
            self._write(machine.stop(situation, verdict.reason, self._facts()))
        return verdict

    def _verdict(self, situation: Situation, running: Rollout) -> Verdict:
        policy, since = self._settings.policy, running.since_generation
        seconds = (self._now_us() - running.since_us) / SECOND_US
        beside = self._evidence.tally(Arm.STABLE, since)
        if running.state is State.CANARY:
            step = policy.canary[machine.current_step(running, len(policy.canary))]
            return judge_canary(policy, step, beside, self._evidence.tally(Arm.CANARY, since), seconds)
        judge = judge_shadow if situation.stable else judge_bootstrap
        return judge(policy, self._evidence.shadow_tally(running.version, since), beside, seconds)

    def _read_registry(self, notes: list[str]) -> tuple[Version, ...] | None:
        try:
            versions = self._registry.versions()
        except RegistryError as error:
            self._failed("registry", error, notes)
            return None
        self._registry_read_us = self._now_us()
        return versions

    def _follow(self, versions: tuple[Version, ...], notes: list[str]) -> None:
        """Does what people decided about versions."""
        found = review(versions, self._table.decisions(), self._settings.key)
        if found.decisions or found.notices:
            situation, facts = self._table.situation(), self._facts()
            told = [event for notice in found.notices for event in machine.tell(situation, *notice, facts).events]
            self._write(Change(situation, tuple(told), decisions=found.decisions))
        self._withdraw_what_may_not_serve(found, notes)
        self._stop_what_may_not_run(found)
        situation, facts = self._table.situation(), self._facts()
        following = candidate(found.standings, situation)
        if situation.running is None and following is not None:
            self._write(machine.begin(situation, following, facts))
        elif situation.waiting != (following.version if following else None):
            self._write(machine.wait(situation, following, facts))

    def _withdraw_what_may_not_serve(self, found: Review, notes: list[str]) -> None:
        situation = self._table.situation()
        stable = situation.stable
        if stable is None:
            return
        standing = found.standings.get(stable.version)
        if standing is None:
            # Nobody took the approval back: a registry that has lost a version is no reason to stop deciding.
            notes.append(f"version {stable.version}, which decides, is not in the registry any more")
        elif standing.obstacles:
            reason = f"{'; '.join(standing.obstacles)} ({standing.decided})"
            self._write(machine.withdraw(situation, reason, self._facts()))

    def _stop_what_may_not_run(self, found: Review) -> None:
        situation = self._table.situation()
        running = situation.running
        if running is None or not machine.stoppable(situation):
            return
        standing = found.standings.get(running.version)
        if standing is None:
            reason = f"version {running.version} is not in the registry any more"
        elif standing.obstacles:
            reason = f"{'; '.join(standing.obstacles)} ({standing.decided})"
        elif standing.digest != running.digest:
            reason = (
                f"the tag digest.saved_model of version {running.version} was {running.digest} when its rollout began, "
                f"and is {standing.digest} now"
            )
        else:
            return
        self._write(machine.stop(situation, reason, self._facts()))

    def _go_on(self, versions: tuple[Version, ...] | None, verdict: Verdict | None, notes: list[str]) -> None:
        """Makes the world match, and goes on to the next state, until something has to be waited for."""
        aliases = None if versions is None else _Aliases(versions)
        while True:
            situation = self._table.situation()
            try:
                waits = self._make_true(situation, aliases)
                change = None if waits else self._next(situation, aliases is not None, verdict)
            except _Unservable as error:
                change = self._give_up(situation, error)
                waits = []
            except RegistryError as error:
                self._failed("registry", error, notes)
                return
            except ModelServerError as error:
                self._told_to_load = None
                self._failed("model_server", error, notes)
                return
            except (ArtifactError, OSError) as error:
                self._failed("files", error, notes)
                return
            notes += waits
            if change is None:
                return
            self._write(change)
            # It was of the step that has just been left.
            verdict = None

    def _make_true(self, situation: Situation, aliases: _Aliases | None) -> list[str]:
        """Does what is left to do for the world to match; what has to be waited for, as sentences."""
        world = machine.world(situation, CHAMPION, CHALLENGER)
        waits = self._adoption() or self._serve(situation, world)
        # Names in the registry route nobody, and wait for nobody.
        waits += self._name(world, aliases)
        if not waits:
            self._clean_up(world)
        return waits

    def _adoption(self) -> list[str]:
        """Waits until every gateway that lives decides under the routing in force, and nobody under another."""
        now_us, generation = self._now_us(), self._table.generation()
        drained_us = now_us - int(self._settings.drain_s * SECOND_US)
        waits = []
        for gateway in self._table.gateways():
            if gateway.seen_us < now_us - _ALIVE_US:
                continue
            if gateway.generation != generation:
                waits.append(
                    f"gateway {gateway.name} decides under generation {gateway.generation}, not yet {generation}"
                )
            elif gateway.adopted_us > drained_us:
                waits.append(f"requests in work at gateway {gateway.name} get {self._settings.drain_s:g} s to end")
        return waits

    def _serve(self, situation: Situation, world: World) -> list[str]:
        """Brings the model servers to what the world wants; files first, labels last."""
        if not self._servers.missing(world.desired):
            return []
        running = situation.running
        if running is not None and running.state is State.LOADING:
            # No label before the bytes were verified once more, behind the loading.
            labels = {label: version for label, version in world.desired.labels.items() if version != running.version}
            if waits := self._apply(situation, Desired(world.desired.versions, labels), world):
                return waits
        return self._apply(situation, world.desired, world)

    def _apply(self, situation: Situation, desired: Desired, world: World) -> list[str]:
        if not self._servers.missing(desired):
            return []
        running = situation.running
        for version in sorted(desired.versions):
            folder = self._place(version, world.digests[version])
            if running is not None and version == running.version:
                self._bundle(version, folder)
        self._servers.apply(desired)
        missing = list(self._servers.missing(desired))
        if missing and running is not None and running.version in desired.versions:
            self._check_loading(running)
        return missing

    def _place(self, version: int, digest: str) -> Path:
        try:
            return self._files.place(version, digest)
        except DigestMismatchError as error:
            raise _Unservable(version, f"version {version} is not what was registered: {error}") from error

    def _bundle(self, version: int, folder: Path) -> Bundle:
        """The bundle of a version, once it is clear that the gateways can decide with it."""
        try:
            bundle = Bundle.read(folder)
            Packer(self._settings.store_spec, bundle.spec)
        except (ArtifactError, ConfigurationError) as error:
            raise _Unservable(version, f"version {version} cannot decide here: {error}") from error
        return bundle

    def _check_loading(self, running: Rollout) -> None:
        """Gives a version up that cannot be loaded, or not in time."""
        for address, state in self._servers.states(running.version).items():
            if state.failed:
                raise _Unservable(
                    running.version, f"model server {address} cannot load version {running.version}: {state.error}"
                )
        if self._told_to_load is None or self._told_to_load[0] != running.number:
            self._told_to_load = (running.number, self._now_us())
        seconds = (self._now_us() - self._told_to_load[1]) / SECOND_US
        if seconds > self._settings.load_timeout_s:
            raise _Unservable(
                running.version,
                f"version {running.version} did not become available within {self._settings.load_timeout_s:g} s",
            )

    def _name(self, world: World, aliases: _Aliases | None) -> list[str]:
        """Lets the aliases name what they should."""
        if aliases is None:
            return ["the registry cannot be read, so its aliases stay as they are"]
        for alias, version in world.aliases.items():
            if aliases.named.get(alias) == version or (version is not None and version not in aliases.versions):
                continue
            if version is None:
                self._registry.remove_alias(alias)
                del aliases.named[alias]
            else:
                self._registry.set_alias(alias, version)
                aliases.named[alias] = version
        return []

    def _clean_up(self, world: World) -> None:
        for version in sorted(self._files.versions() - world.kept):
            self._files.remove(version)

    def _next(self, situation: Situation, registry_read: bool, verdict: Verdict | None) -> Change | None:
        """The change that follows where the world matches; None where nothing does."""
        running = situation.running
        if running is None or (running.state in machine.HELD and (situation.pause is not None or not registry_read)):
            return None
        facts = self._facts()
        if running.state is State.PENDING:
            return machine.advance(situation, f"nothing else is on its way; {running.reason}", facts)
        if running.state is State.LOADING:
            bundle = self._bundle(running.version, self._place(running.version, running.digest))
            reason = f"every model server has version {running.version} available, its bytes are those registered"
            if bundle.rules_digest != self._settings.rules_digest:
                reason += (
                    f"; it was made beside the rules {bundle.rules_digest[:12]}, and the gateways decide by "
                    f"{self._settings.rules_digest[:12]}"
                )
            return machine.advance(situation, reason, facts, Served(running.version, bundle))
        if running.state in machine.JUDGED:
            if verdict is None or verdict.decision != "pass":
                return None
            return machine.advance(situation, verdict.reason, facts)
        if running.state is State.PROMOTING and not machine.handed_over(situation):
            return machine.hand_over(situation, facts)
        if running.state is State.PROMOTING:
            return machine.advance(situation, f"nothing decides but version {running.version}", facts)
        return machine.advance(situation, running.reason, facts)

    def _give_up(self, situation: Situation, error: _Unservable) -> Change:
        """What follows from a version that cannot be served."""
        facts = self._facts()
        if situation.stable is not None and situation.stable.version == error.version:
            return machine.withdraw(situation, str(error), facts)
        return machine.stop(situation, str(error), facts)

    def _facts(self) -> Facts:
        return Facts(self._now_us(), self._table.routing(), self._weights, self._table.decisions())

    def _write(self, change: Change, executed: tuple[int, ...] = ()) -> None:
        self._table.advance(change.situation, change.events, change.routing, change.decisions, executed)
        self.metrics.count(change.events)
        for event in change.events:
            _log.log(logging.INFO if event.state != "refused" else logging.WARNING, "%s", _line(event))

    def _failed(self, kind: str, error: Exception, notes: list[str]) -> None:
        self.metrics.errors.labels(kind).inc()
        self._failures[kind] = str(error)
        if self._failures_before.get(kind) != str(error):
            _log.warning("%s", error)
        notes.append(str(error))

    def _registry_age_s(self) -> float:
        if self._registry_read_us is None:
            return math.inf
        return (self._now_us() - self._registry_read_us) / SECOND_US


def _line(event: Event) -> str:
    where = f"version {event.version} {event.state}" if event.version else event.state
    step = f" step {event.step + 1}" if event.state == State.CANARY.value else ""
    return f"{where}{step} (weight {event.weight:g}, generation {event.generation}): {event.reason}"
