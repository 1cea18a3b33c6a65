"""Which versions of which models are loaded, in which state, and who still uses them.

A version goes START, LOADING, AVAILABLE, UNLOADING, END, or from LOADING to END with the error.  One thread looks at
the base paths and loads, one version at a time, beside those that serve; a version that leaves gets no new request,
waits for those inside it, and is then closed.  A request finds its version, by number, label or as the latest, in the
same moment in which it counts as inside: no configuration and no unloading comes between.
"""

from __future__ import annotations

import enum
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc

from serving.model_server.config import ModelSettings, check_labels
from serving.model_server.servable import Servable
from serving.model_server.status import OK, Refusal, invalid, not_found

_log = logging.getLogger(__name__)


class State(enum.IntEnum):
    """A version's state, numbered as in `GetModelStatusResponse`."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclass
class Version:
    """One version of a model; all but `number`, `model` and `path` change under the lock of `Versions`."""

    model: str
    number: int
    path: Path
    aspired: bool = True
    state: State = State.START
    error: Refusal | None = None
    servable: Servable | None = None
    inside: int = 0

    def __str__(self) -> str:
        return f"{self.model} version {self.number}"


@dataclass(frozen=True)
class Status:
    """What is said of a version: its state, and OK or what went wrong as gRPC code and message."""

    version: int
    state: State
    code: int
    message: str


def to_unload(versions: Sequence[Version]) -> list[Version]:
    """The versions of one model that may leave: those nobody aspires to, once one that is aspired to serves.

    TensorFlow Serving's availability-preserving policy; where nothing is aspired to, all of them leave.
    """
    aspired = [version for version in versions if version.aspired]
    if aspired and all(version.state is not State.AVAILABLE for version in aspired):
        return []
    return [version for version in versions if not version.aspired and version.state is State.AVAILABLE]


def to_load(versions: Sequence[Version]) -> Version | None:
    """The version of one model to load next: the highest that is aspired to."""
    waiting = [version for version in versions if version.aspired and version.state is State.START]
    return max(waiting, key=lambda version: version.number, default=None)


class Versions:
    """All versions of all models."""

    def __init__(
        self, load: Callable[[Path], Servable], poll_wait_s: float, allow_labels_for_unavailable: bool = False
    ) -> None:
        """Nothing is loaded before `start`.

        Args:
            load: loads the version in a folder; raises Refusal.
            poll_wait_s: seconds between two looks at the base paths; 0 looks at a start and a configuration only.
            allow_labels_for_unavailable: let a new label name a version that is not available yet.
        """
        self._load_from = load
        self._poll_wait_s = poll_wait_s
        self._allow_unavailable = allow_labels_for_unavailable
        self._changed = threading.Condition(threading.Lock())
        self._models: Mapping[str, ModelSettings] = {}
        self._versions: dict[str, dict[int, Version]] = {}
        self._wake = threading.Event()
        self._stopping = False
        self._unloaders: set[threading.Thread] = set()
        self._worker = threading.Thread(target=self._work, name="load-versions", daemon=True)

    def start(self, models: Sequence[ModelSettings]) -> None:
        """Begins to load what a first configuration asks for, and to look for more.

        Raises:
            Refusal: as `configure`.
        """
        self.configure(models)
        self._worker.start()

    def stop(self, timeout_s: float) -> None:
        """Unloads everything, waiting for the requests inside; called once, behind `start`.

        Of all threads it waits for the end, not for the state that they set: the interpreter must not be torn down
        while one of them is inside TensorFlow, which would abort the process.
        """
        deadline = time.monotonic() + timeout_s
        self._stopping = True
        self._wake.set()
        self._worker.join(timeout_s)
        with self._changed:
            for version in self._all():
                version.aspired = False
                if version.state is State.AVAILABLE:
                    self._begin_unload(version)
            unloaders = list(self._unloaders)
        for unloader in unloaders:
            unloader.join(max(0.0, deadline - time.monotonic()))

    def configure(self, models: Sequence[ModelSettings]) -> frozenset[str]:
        """Replaces the whole configuration, labels included, in one moment; loading and unloading follow.

        Returns:
            The models that were not configured before.

        Raises:
            Refusal: INVALID_ARGUMENT where a base path is not there, FAILED_PRECONDITION where a label names a version
                that is not available; then nothing has changed.
        """
        present = {model.name: self._look(model) for model in models}
        with self._changed:
            before = self._models
            for model in models:
                labels = before[model.name].labels if model.name in before else {}
                check_labels(model, self._available(model.name), labels, self._allow_unavailable)
            self._models = {model.name: model for model in models}
            self._aspire(present)
        self._wake.set()
        return frozenset(self._models) - frozenset(before)

    def wait(self, models: frozenset[str], timeout_s: float | None) -> None:
        """Waits until a version of each model is available, or has failed where there is no other.

        Raises:
            Refusal: UNKNOWN where all versions of a model have failed, DEADLINE_EXCEEDED.
        """

        def aspired(name: str) -> list[Version]:
            return [version for version in self._versions.get(name, {}).values() if version.aspired]

        def settled(name: str) -> bool:
            states = {version.state for version in aspired(name)}
            return State.AVAILABLE in states or states <= {State.END}

        with self._changed:
            if not self._changed.wait_for(lambda: all(map(settled, models)), timeout_s):
                raise Refusal(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline exceeded while models were loading")
            failed = [
                f"{{name: {version.model} version: {version.number}}}"
                for name in sorted(models)
                if not self._available(name)
                for version in aspired(name)
            ]
        if failed:
            raise Refusal(grpc.StatusCode.UNKNOWN, f"Some models did not become available: {{{', '.join(failed)}}}")

    def wait_until_settled(self) -> None:
        """Waits until everything that is aspired to is available or has failed."""
        with self._changed:
            self._changed.wait_for(
                lambda: all(v.state in (State.AVAILABLE, State.END) for v in self._all() if v.aspired)
            )

    @contextmanager
    def use(self, model: str, number: int | None = None, label: str | None = None) -> Iterator[Version]:
        """The version of a model by number or label, or the latest one; it stays loaded meanwhile.

        Raises:
            Refusal: NOT_FOUND, INVALID_ARGUMENT for a label that is unknown.
        """
        with self._changed:
            version = self._resolve(model, number, label)
            version.inside += 1
        try:
            yield version
        finally:
            with self._changed:
                version.inside -= 1
                if version.inside == 0 and version.state is State.UNLOADING:
                    self._changed.notify_all()

    def statuses(self, model: str) -> list[Status]:
        """Every version of a model that was ever seen, by number; empty for a model that is unknown."""
        with self._changed:
            return [
                Status(version.number, version.state, *_said(version.error))
                for _, version in sorted(self._versions.get(model, {}).items())
            ]

    def loaded(self) -> list[tuple[str, int]]:
        """Model and number of every version that is available."""
        with self._changed:
            return [(version.model, version.number) for version in self._all() if version.state is State.AVAILABLE]

    def _resolve(self, model: str, number: int | None, label: str | None) -> Version:
        if not model:
            raise invalid("ModelSpec has no name specified.")
        if label is not None:
            labels = self._models[model].labels if model in self._models else {}
            if label not in labels:
                raise invalid(f"Unrecognized servable version label: {label}")
            number = labels[label]
        available = self._available(model)
        wanted = max(available, default=None) if number is None else number
        if wanted is None or wanted not in available:
            shown = f"Latest({model})" if number is None else f"Specific({model}, {number})"
            raise not_found(f"Servable not found for request: {shown}")
        return self._versions[model][wanted]

    def _available(self, model: str) -> frozenset[int]:
        versions = self._versions.get(model, {}).values()
        return frozenset(version.number for version in versions if version.state is State.AVAILABLE)

    def _all(self) -> list[Version]:
        return [version for versions in self._versions.values() for version in versions.values()]

    def _work(self) -> None:
        while not self._stopping:
            self._wake.clear()
            self._poll()
            while not self._stopping and (version := self._next()) is not None:
                self._load(version)
            self._wake.wait(self._poll_wait_s or None)

    def _poll(self) -> None:
        models = self._models
        present = {}
        for model in models.values():
            try:
                present[model.name] = self._look(model)
            except Refusal as refusal:  # what serves goes on serving
                _log.warning("%s", refusal)
        with self._changed:
            if self._models is models:  # a new configuration has looked for itself
                self._aspire(present)

    @staticmethod
    def _look(model: ModelSettings) -> Mapping[int, Path]:
        try:
            return model.present()
        except OSError as error:
            raise invalid(
                f"Could not find base path {model.base_path} for servable {model.name} with error {error.strerror}"
            ) from error

    def _aspire(self, present: Mapping[str, Mapping[int, Path]]) -> None:
        """Marks what is aspired to, given what lies below the base paths that could be listed."""
        for name, model in self._models.items():
            if name in present:
                self._aspire_model(name, {number: present[name][number] for number in model.policy(present[name])})
        for name in self._versions.keys() - self._models.keys():
            self._aspire_model(name, {})
        self._changed.notify_all()

    def _aspire_model(self, name: str, wanted: Mapping[int, Path]) -> None:
        versions = self._versions.setdefault(name, {})
        for version in list(versions.values()):
            if version.number not in wanted:
                version.aspired = False
                if version.state is State.START:
                    del versions[version.number]
        for number, path in wanted.items():
            known = versions.get(number)
            if known is None or (known.state is State.END and not known.aspired):
                versions[number] = Version(name, number, path)
            # What is being unloaded has to be gone first; it is aspired to again at the next look.
            elif known.state is not State.UNLOADING:
                known.aspired = True

    def _next(self) -> Version | None:
        """Begins to unload what may leave, and gives the version to load next, as LOADING."""
        with self._changed:
            for versions in self._versions.values():
                for version in to_unload(list(versions.values())):
                    self._begin_unload(version)
            candidates = (to_load(list(versions.values())) for versions in self._versions.values())
            chosen = next((version for version in candidates if version is not None), None)
            if chosen is not None:
                chosen.state = State.LOADING
                self._changed.notify_all()
            return chosen

    def _load(self, version: Version) -> None:
        _log.info("loading %s from %s", version, version.path)
        servable, error = None, None
        try:
            servable = self._load_from(version.path)
        except Refusal as refusal:
            error = refusal
        except Exception as bug:
            _log.exception("%s", version)
            error = Refusal(grpc.StatusCode.UNKNOWN, f"{type(bug).__name__}: {bug}")
        with self._changed:
            version.servable, version.error = servable, error
            version.state = State.END if servable is None else State.AVAILABLE
            self._changed.notify_all()
        if error is None:
            _log.info("%s is available", version)
        else:
            _log.error("%s cannot be loaded: %s", version, error)

    def _begin_unload(self, version: Version) -> None:
        version.state = State.UNLOADING
        self._changed.notify_all()
        unloader = threading.Thread(target=self._unload, args=[version], name=f"unload {version}", daemon=True)
        self._unloaders = {known for known in self._unloaders if known.is_alive()} | {unloader}
        unloader.start()

    def _unload(self, version: Version) -> None:
        with self._changed:
            self._changed.wait_for(lambda: version.inside == 0)
            servable, version.servable = version.servable, None
        if servable is not None:
            servable.close()
        del servable  # with its graph: a version that has ended holds no memory
        with self._changed:
            version.state = State.END
            self._changed.notify_all()
        _log.info("%s is unloaded", version)
        self._wake.set()


def _said(error: Refusal | None) -> tuple[int, str]:
    return (OK, "") if error is None else (error.number, error.message)
