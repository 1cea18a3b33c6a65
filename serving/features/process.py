"""A feature store in a process of its own, which shares no interpreter with its caller."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any

from schemas.errors import ArtifactError
from schemas.features import FeatureSpec
from serving.features.opening import StoreAddress
from serving.features.store import LATENESS_S, Features

_log = logging.getLogger(__name__)
_END_S = 10.0


class ProcessFeatureStore:
    """A `FeatureStore` that another process opens, with the guarantees of that store.

    A process that dies is followed by another one, which is asked again: a transaction that comes twice gets the same
    answer twice, and a label counts once.

    Args:
        address: where the store is.
        spec: what to compute.
        lateness_s: see `TableFeatureStore`.

    Raises:
        FraudOpsError: as opening it does.
    """

    def __init__(self, address: StoreAddress, spec: FeatureSpec, lateness_s: int = LATENESS_S) -> None:
        self._opening = (address, spec.to_json(), lateness_s)
        self._spec = spec
        # One question at a time.
        self._lock = threading.Lock()
        self._worker = _Worker(self._opening)

    @property
    def spec(self) -> FeatureSpec:
        """The inputs that it computes."""
        return self._spec

    @property
    def pid(self) -> int:
        """The process that works on the store at present."""
        return self._worker.process.pid

    def observe(self, transaction: Mapping[str, Any]) -> Features:
        """See `FeatureStore`."""
        [features] = self.observe_all([transaction])
        return features

    def observe_all(self, transactions: Sequence[Mapping[str, Any]]) -> list[Features]:
        """See `FeatureStore`."""
        features: list[Features] = self._ask("observe_all", transactions)
        return features

    def label(self, transaction: Mapping[str, Any], is_fraud: bool, label_time: int) -> None:
        """See `FeatureStore`."""
        self._ask("label", transaction, is_fraud, label_time)

    def close(self) -> None:
        """Ends the process, after what is under way."""
        with self._lock:
            self._worker.end()

    def _ask(self, method: str, *arguments: Any) -> Any:
        with self._lock:
            try:
                return self._worker.ask((method, arguments))
            except _Gone as gone:
                _log.warning("the feature store's process %d is gone; another one takes over", gone.pid)
            try:
                self._worker = _Worker(self._opening)
                return self._worker.ask((method, arguments))
            except _Gone as gone:
                raise ArtifactError(
                    f"feature store {self._opening[0]}: its process ended twice, at last with {gone.status}; "
                    "see what ends it, such as a lack of memory"
                ) from gone


class _Gone(Exception):
    """The process ended without an answer."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.pid = process.pid
        self.status = process.returncode
        super().__init__(self.pid, self.status)


class _Worker:
    """A process that has the store open, and the line to it."""

    def __init__(self, opening: tuple[StoreAddress, str, int]) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            # Without the working directory on its path, where files may have any name.
            command = [sys.executable, "-P", "-m", "serving.features.worker", str(theirs.fileno())]
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=[theirs.fileno()]
            )
        self._connection = Connection(ours.detach())
        try:
            self.ask(opening)
        except BaseException:
            self.end()
            raise

    def ask(self, message: tuple[Any, ...]) -> Any:
        """The result of what is asked for, or what it raises.

        Raises:
            _Gone: there is no answer, because the process ended.
        """
        try:
            self._connection.send(message)
            done, result = self._connection.recv()
        except (EOFError, OSError):
            self.end()
            raise _Gone(self.process) from None
        if done:
            return result
        raise result

    def end(self) -> None:
        """Hangs up, which ends the process."""
        self._connection.close()
        try:
            self.process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
