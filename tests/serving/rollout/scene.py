"""A rollout on a stage: the real controller, table and files; registry, model server, gateways and evidence played.

Everything that is played lies on disk, so that it goes on when the controller's process dies, and the clock moves only
when a test moves it.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from schemas.approval import APPROVED, REVOKED, Approval, ApproversKey, decide, read
from schemas.bundle import Bundle
from schemas.decision import Arm, Outcome
from schemas.digests import directory_digest, verify_directory
from schemas.errors import ArtifactError, ModelServerError, RegistryError
from schemas.features import FeatureSpec, RowInput
from schemas.thresholds import Thresholds
from schemas.versions import Version
from serving.decisions.evidence import ShadowTally, Tally
from serving.rollout.controller import SECOND_US, Controller, Settings
from serving.rollout.desired import AVAILABLE, END, UNKNOWN, Desired, Servers, VersionState
from serving.rollout.model_folder import ModelFolder
from serving.rollout.policy import CanaryStep, Policy, Step
from serving.rollout.routing import Routing
from serving.rollout.situation import State
from serving.rollout.table import RolloutTable

SPEC = FeatureSpec((RowInput("amount_base_minor"),), (), ())
WIDER_SPEC = FeatureSpec((RowInput("amount_base_minor"), RowInput("channel")), (), ())
RULES = "r" * 64
POLICY = Policy(
    shadow=Step(min_decisions=100, min_seconds=2),
    canary=(
        CanaryStep(weight=0.1, min_decisions=100, min_seconds=2),
        CanaryStep(weight=0.5, min_decisions=100, min_seconds=2),
    ),
)
_T = TypeVar("_T")


def outcomes(blocked: int) -> dict[Outcome, int]:
    return {Outcome.PASS: 9_990 - blocked, Outcome.REVIEW: 10, Outcome.BLOCK: blocked}


def tally(blocked: int = 100, failures: int = 0) -> Tally:
    return Tally(10_000, 10_000, failures, outcomes(blocked), {0.5: 1.0, 0.99: 3.0})


def shadow_tally(blocked: int = 100, failures: int = 0, stable: bool = True) -> ShadowTally:
    """Of a candidate that blocks what the stable model blocks, and more; or beside rules that let everything pass."""
    pairs = {
        (Outcome.PASS, Outcome.PASS): 9_990 - blocked,
        (Outcome.REVIEW if stable else Outcome.PASS, Outcome.REVIEW): 10,
        (Outcome.BLOCK if stable else Outcome.PASS, Outcome.BLOCK): min(blocked, 100),
        (Outcome.PASS, Outcome.BLOCK): max(blocked - 100, 0) if stable else blocked,
    }
    return ShadowTally(10_000, failures, pairs, {0.5: 1.0, 0.99: 3.0})


class Kept:
    """A JSON object in a file."""

    def __init__(self, path: Path, first: Mapping[str, Any]) -> None:
        self._path = path
        if not path.exists():
            self.write(dict(first))

    def read(self) -> dict[str, Any]:
        kept: dict[str, Any] = json.loads(self._path.read_text())
        return kept

    def write(self, value: Mapping[str, Any]) -> None:
        # Made anew: file systems wait for the disk where a file is overwritten or replaced.
        self._path.unlink(missing_ok=True)
        self._path.write_text(json.dumps(value))

    def update(self, **values: Any) -> None:
        self.write(self.read() | values)


class PlayedRegistry:
    """`Registry` in a folder."""

    def __init__(self, root: Path) -> None:
        root.mkdir(exist_ok=True)
        self._artifacts = root / "artifacts"
        self.kept = Kept(root / "registry.json", {"tags": {}, "aliases": {}, "down": False})

    def add(self, version: int, spec: FeatureSpec = SPEC, **tags: str) -> None:
        folder = self.artifact(version)
        if not folder.exists():  # the test's own
            folder.mkdir(parents=True)
            (folder / "saved_model.pb").write_text(f"the graph of version {version}")
        Bundle(spec, Thresholds(0.5, 0.9, 0.01, 0.8), RULES, reason_vocabulary=1).write(folder)
        first = {"gate": "passed", "digest.saved_model": directory_digest(folder)}
        self.set_tags(version, {**first, **tags})

    def artifact(self, version: int) -> Path:
        return self._artifacts / str(version)

    def tags(self, version: int) -> dict[str, str]:
        tags: dict[str, str] = self.kept.read()["tags"].get(str(version), {})
        return tags

    def set_tags(self, version: int, tags: Mapping[str, str]) -> None:
        self.kept.update(tags={**self.kept.read()["tags"], str(version): dict(tags)})

    def forget(self, version: int) -> None:
        self.kept.update(tags={key: tags for key, tags in self.kept.read()["tags"].items() if key != str(version)})

    def decide(self, state: Any, version: int, reason: str, key: ApproversKey | None = None) -> None:
        time = datetime(2026, 1, 2, tzinfo=UTC)
        made = decide(state, self.tags(version), version=version, by="ann", reason=reason, time=time, key=key)
        self.record(version, made)

    def approve(self, version: int, reason: str = "finds more", key: ApproversKey | None = None) -> None:
        self.decide(APPROVED, version, reason, key)

    def revoke(self, version: int, reason: str = "complaints") -> None:
        self.decide(REVOKED, version, reason)

    @property
    def aliases(self) -> dict[str, int]:
        aliases: dict[str, int] = self.kept.read()["aliases"]
        return aliases

    # The port.

    def versions(self) -> tuple[Version, ...]:
        kept = self.kept.read()
        if kept["down"]:
            raise RegistryError("the registry does not answer")
        return tuple(
            Version(
                model_name="fraud",
                version=int(version),
                gate=tags.get("gate"),
                approval=tags.get("approval"),
                aliases=tuple(alias for alias, named in kept["aliases"].items() if named == int(version)),
                digests={},
                lineage={},
                run_id=None,
                metrics={},
                created=datetime(2026, 1, 1, tzinfo=UTC),
                description="",
                tags=tags,
            )
            for version, tags in sorted(kept["tags"].items(), key=lambda one: -int(one[0]))
        )

    def version(self, version: int) -> Version:
        return next(one for one in self.versions() if one.version == version)

    def record(self, version: int, approval: Approval) -> None:
        tags = dict(self.tags(version))
        for tag, value in approval.writes():
            tags[tag] = value
        self.set_tags(version, {tag: value for tag, value in tags.items() if value})
        assert read(self.tags(version)) == approval

    def set_alias(self, alias: str, version: int) -> None:
        if self.kept.read()["down"]:
            raise RegistryError("the registry does not answer")
        self.kept.update(aliases={**self.aliases, alias: version})

    def remove_alias(self, alias: str) -> None:
        if self.kept.read()["down"]:
            raise RegistryError("the registry does not answer")
        self.kept.update(aliases={name: named for name, named in self.aliases.items() if name != alias})

    def download(self, version: int, destination: Path) -> None:
        if self.kept.read()["down"]:
            raise RegistryError("the registry does not answer")
        if destination.exists():
            raise ArtifactError(f"{destination} exists already")
        beside = destination.with_name(f"{destination.name}.part")
        if beside.exists():
            shutil.rmtree(beside)
        shutil.copytree(self.artifact(version), beside)
        verify_directory(beside, self.tags(version)["digest.saved_model"])
        beside.rename(destination)


class PlayedServer:
    """`Servers` of one server, which needs a second to load and nothing to unload; it serves what it has read."""

    def __init__(self, root: Path, models: Path) -> None:
        root.mkdir(exist_ok=True)
        self._models = models
        self.kept = Kept(root / "server.json", {"states": {}, "labels": {}, "down": False, "broken": [], "slow": []})

    @property
    def labels(self) -> dict[str, int]:
        labels: dict[str, int] = self.kept.read()["labels"]
        return labels

    @property
    def available(self) -> set[int]:
        return {int(version) for version, state in self.kept.read()["states"].items() if state == AVAILABLE}

    def settle(self) -> None:
        """What was loading has loaded, or failed."""
        kept = self.kept.read()
        states = {
            version: END if int(version) in kept["broken"] else AVAILABLE
            for version in kept["states"]
            if int(version) not in kept["slow"]
        }
        if states != kept["states"]:
            self.kept.update(states={**kept["states"], **states})

    def forget(self) -> None:
        self.kept.update(states={}, labels={})

    # The port.

    def apply(self, desired: Desired) -> None:
        self._answer()
        states = self.kept.read()["states"]
        for version in desired.versions:
            assert (self._models / str(version) / "saved_model.pb").exists(), f"version {version} is not there"
        available = self.available
        now = self.labels
        labels = {}
        for label, version in desired.labels.items():
            chosen = version if version in available else now.get(label)
            if chosen in available:
                labels[label] = chosen
        keep = desired.versions | set(labels.values())
        self.kept.update(states={str(version): states.get(str(version), "START") for version in keep}, labels=labels)

    def missing(self, desired: Desired) -> tuple[str, ...]:
        self._answer()
        kept = self.kept.read()
        states = {int(version): state for version, state in kept["states"].items()}
        found = [f"version {version} should be {AVAILABLE}" for version in desired.versions - self.available]
        found += [
            f"version {version} should be unloaded"
            for version, state in states.items()
            if version not in desired.versions and state != END
        ]
        found += ["labels"] if kept["labels"] != dict(desired.labels) else []
        return tuple(found)

    def states(self, version: int) -> dict[str, VersionState]:
        self._answer()
        state = self.kept.read()["states"].get(str(version), UNKNOWN)
        return {"played": VersionState(state, "no graph in it" if state == END else "")}

    def _answer(self) -> None:
        if self.kept.read()["down"]:
            raise ModelServerError("the model server does not answer")


class PlayedEvidence:
    """`Evidence`: what a test says."""

    def __init__(self) -> None:
        self.stable = tally()
        self.canary = tally()
        self.shadow = shadow_tally()
        self.broken = False

    def tally(self, routed: Arm, since_generation: int) -> Tally:
        if self.broken:
            raise ArtifactError("the decision log is held by somebody")
        return self.canary if routed is Arm.CANARY else self.stable

    def shadow_tally(self, version: int, since_generation: int) -> ShadowTally:
        return self.shadow


def as_it_is(port: _T) -> _T:
    return port


class Scene:
    """The stage below a folder, made new or gone on with.

    Args:
        port: what to put around each port of the controller.
        gateways: that live, and take up every routing within a second.
        servers: instead of the played one.
        now_us: instead of the clock that a test moves.
    """

    def __init__(
        self,
        root: Path,
        policy: Policy = POLICY,
        key: ApproversKey | None = None,
        port: Callable[[Any], Any] = as_it_is,
        gateways: tuple[str, ...] = ("a", "b"),
        servers: Servers | None = None,
        now_us: Callable[[], int] | None = None,
    ) -> None:
        root.mkdir(exist_ok=True)
        self._root = root
        self.settings = Settings(policy, SPEC, RULES, key, drain_s=1.0, load_timeout_s=20)
        self._port = port
        self.gateways = gateways
        self.models = root / "models"
        self.registry = PlayedRegistry(root / "registry")
        self.server = PlayedServer(root / "server", self.models)
        self._servers = servers or self.server
        self.evidence = PlayedEvidence()
        self._clock = Kept(root / "clock.json", {"now_us": 1_000_000_000})
        self.now_us = now_us or self._played_time_us
        self.table = RolloutTable(root / "rollout.sqlite")
        self.controller = self._controller()

    def restart(self) -> None:
        """Another controller goes on."""
        self.controller = self._controller()

    def second(self, check: bool = True) -> None:
        """A second passes, in which everybody does what it does."""
        self._clock.update(now_us=self.now_us() + SECOND_US)
        self.server.settle()
        self.adopt()
        if check:
            self.check_that_requests_are_answered()
        self.controller.tick()
        if check:
            self.check_that_requests_are_answered()

    def adopt(self) -> None:
        generation = self.table.generation()
        for gateway in self.gateways:
            self.table.adopt(gateway, generation, self.now_us())

    def seconds(self, number: int) -> None:
        for _ in range(number):
            self.second()

    def until(self, condition: Callable[[], bool], seconds: int = 60, check: bool = True) -> None:
        for _ in range(seconds):
            if condition():
                return
            self.second(check)
        raise AssertionError(f"it did not come to that: {self.state}; {self.table.status().note}; {self.story}")

    def until_state(self, state: State, version: int | None = None) -> None:
        def reached() -> bool:
            rollout = self.table.situation().rollout
            return rollout is not None and rollout.state is state and version in (None, rollout.version)

        self.until(reached)

    def promote(self, version: int) -> None:
        """Adds, approves and promotes a version; what is stable before plays no part in the evidence."""
        evidence = self.evidence.shadow
        if self.table.situation().stable is None:
            self.evidence.shadow = shadow_tally(stable=False)
        self.registry.add(version)
        self.registry.approve(version)
        self.until_state(State.PROMOTED, version)
        self.evidence.shadow = evidence

    def _played_time_us(self) -> int:
        now: int = self._clock.read()["now_us"]
        return now

    @property
    def state(self) -> str:
        rollout = self.table.situation().rollout
        return rollout.state.value if rollout else ""

    @property
    def story(self) -> list[tuple[int, str]]:
        """(version, state) of the history."""
        return [(event.version, event.state) for event in self.table.history()]

    @property
    def last_reason(self) -> str:
        return self.table.history()[-1].reason

    def placed(self) -> set[str]:
        return {child.name for child in self.models.iterdir() if not child.name.startswith(".")}

    def end(self) -> dict[str, Any]:
        """All that can be seen from outside, times left out."""
        situation, routing = self.table.situation(), self.table.routing()
        return {
            "stable": situation.stable and (situation.stable.version, situation.stable.digest),
            "rollout": situation.rollout
            and (situation.rollout.version, situation.rollout.state, situation.rollout.step),
            "waiting": situation.waiting,
            "story": self.story,
            "aliases": self.registry.aliases,
            "labels": self.server.labels,
            "loaded": sorted(self.server.available),
            "files": {child.name: directory_digest(child) for child in self.models.iterdir() if child.name.isdecimal()},
            "routing": replace(routing, generation=0).to_json(),
            "generation": routing.generation,
            "decisions": [(one.version, one.standing, one.refused) for one in self.table.decisions()],
        }

    def check_that_requests_are_answered(self) -> None:
        """Whichever label a gateway asks for under the routing it has taken up, a version answers that it knows."""
        for gateway in self.table.gateways():
            if gateway.seen_us < self.now_us() - 3 * SECOND_US:
                continue
            routing = self._routing(gateway.generation)
            for label, served in (("stable", routing.stable), ("canary", routing.candidate)):
                if served is None:
                    continue
                answers = self.server.labels.get(label)
                assert answers in self.server.available, f"{label} of {routing} names {answers}: {self.story}"
                assert answers is not None and routing.served(answers), f"{answers} answers under {routing}"

    def close(self) -> None:
        self.table.close()

    def _routing(self, generation: int) -> Routing:
        db = sqlite3.connect(self._root / "rollout.sqlite")
        try:
            row = db.execute("SELECT routing FROM routing WHERE generation = ?", (generation,)).fetchone()
        finally:
            db.close()
        return Routing.from_json(row[0]) if row else Routing(0)

    def _controller(self) -> Controller:
        port = self._port
        return Controller(
            port(self.table),
            port(self.registry),
            port(self._servers),
            port(ModelFolder(port(self.registry), self.models)),
            self.evidence,
            self.settings,
            self.now_us,
        )
