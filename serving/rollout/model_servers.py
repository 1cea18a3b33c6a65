"""The model servers, told what to serve through TensorFlow Serving's API and a configuration file.

A server is told in two ways: at once, by a reload, and for its next start, by the file.  It forgets the one when it
dies, so nothing is remembered here either: what a server serves is asked of it each time.

TensorFlow Serving gives a label only to a version that is AVAILABLE, and refuses the whole configuration otherwise.  So
a label moves with the first reload behind its version's loading, and names what it named until then.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc
from google.protobuf import text_format

from schemas.errors import ArtifactError, ModelServerError
from schemas.tf_serving_pb2 import (
    GetModelMetadataRequest,
    GetModelMetadataResponse,
    GetModelStatusRequest,
    GetModelStatusResponse,
    ModelServerConfig,
    ModelVersionStatus,
    ReloadConfigRequest,
    ReloadConfigResponse,
)
from serving.rollout.desired import AVAILABLE, END, UNKNOWN, Desired, VersionState
from serving.rollout.routing import CANARY_LABEL, STABLE_LABEL

PLATFORM = "tensorflow"
_LABELS = (STABLE_LABEL, CANARY_LABEL)
_CHANNEL = [
    # A server that comes back is to be found soon.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
]


def config(desired: Desired, model_name: str, base_path: Path) -> ModelServerConfig:
    """What to serve, as TensorFlow Serving reads it; without any version, no model at all.

    Args:
        base_path: the folder that holds the versions, absolute, as the servers see it.
    """
    message = ModelServerConfig()
    message.model_config_list.SetInParent()
    if desired.versions:
        model = message.model_config_list.config.add(name=model_name, base_path=str(base_path), model_platform=PLATFORM)
        model.model_version_policy.specific.versions.extend(sorted(desired.versions))
        for label, version in desired.labels.items():
            model.version_labels[label] = version
    return message


def write_config(path: Path, message: ModelServerConfig) -> None:
    """Writes a configuration in text form for a server's next start, whole or not at all; unchanged, it is left alone.

    A server that starts with labels in it needs the flag --allow_version_labels_for_unavailable_models.

    Raises:
        ArtifactError: the file cannot be written.
    """
    text = text_format.MessageToString(message).encode()
    beside = path.with_name(f".{path.name}.coming")
    try:
        if path.exists() and path.read_bytes() == text:
            return
        with open(beside, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        raise ArtifactError(f"{path} cannot be written ({error}); see whether its disk is full") from error


def ensure_config(path: Path) -> None:
    """Writes a configuration that serves nothing where there is none: for servers that start before the first rollout.

    Raises:
        ArtifactError: the file cannot be written.
    """
    if not path.exists():
        write_config(path, config(Desired(), "", path.parent))


class ModelServers:
    """`Servers` behind gRPC addresses."""

    def __init__(
        self, addresses: tuple[str, ...], model_name: str, base_path: Path, config_file: Path, timeout_s: float
    ) -> None:
        """Connects to nobody yet.

        Args:
            addresses: host:port of each server.
            base_path: as for `config`.
            config_file: that the servers start from.
            timeout_s: for one answer of one server.
        """
        self._model_name = model_name
        self._base_path = base_path
        self._config_file = config_file
        self._servers = {address: _Server(address, model_name, base_path, timeout_s) for address in addresses}

    def apply(self, desired: Desired) -> None:
        """See `Servers`; a server that cannot be told does not keep the others from it."""
        write_config(self._config_file, config(desired, self._model_name, self._base_path))
        failures = []
        for server in self._servers.values():
            try:
                now = _within_reach(desired, server.states(), server.label)
                server.reload(config(now, self._model_name, self._base_path))
            except ModelServerError as error:
                failures.append(str(error))
        if failures:
            raise ModelServerError("; ".join(failures))

    def missing(self, desired: Desired) -> tuple[str, ...]:
        """See `Servers`; a label of anybody else's is not looked for."""
        return tuple(
            f"model server {address}: {what}"
            for address, server in self._servers.items()
            for what in _differences(desired, server.states(), server.label)
        )

    def states(self, version: int) -> dict[str, VersionState]:
        """See `Servers`."""
        return {
            address: server.states().get(version, VersionState(UNKNOWN)) for address, server in self._servers.items()
        }

    def close(self) -> None:
        """Closes the connections."""
        for server in self._servers.values():
            server.close()

    def __enter__(self) -> ModelServers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _within_reach(
    desired: Desired, states: Mapping[int, VersionState], label_now: Callable[[str], int | None]
) -> Desired:
    """What a server can be told now: of the labels those whose version serves, and the others as they are.

    Args:
        states: of the versions that the server knows.
        label_now: the version that a label names on that server.
    """

    def serves(version: int) -> bool:
        return version in states and states[version].state == AVAILABLE

    labels: dict[str, int] = {}
    for label, version in desired.labels.items():
        chosen = version if serves(version) else label_now(label)
        if chosen is not None and serves(chosen):
            labels[label] = chosen
    return Desired(desired.versions | frozenset(labels.values()), labels)


def _differences(
    desired: Desired, states: Mapping[int, VersionState], label_now: Callable[[str], int | None]
) -> list[str]:
    """What is not as desired on one server."""
    found = []
    for version in sorted(desired.versions):
        state = states.get(version, VersionState(UNKNOWN))
        if state.state != AVAILABLE:
            error = f" ({state.error})" if state.error else ""
            found.append(f"version {version} is {state.state}{error} and should be {AVAILABLE}")
    for version in sorted(states.keys() - desired.versions):
        if states[version].state != END:
            found.append(f"version {version} is {states[version].state} and should be unloaded")
    for label in sorted({*_LABELS, *desired.labels}):
        now, wanted = label_now(label), desired.labels.get(label)
        if now != wanted:
            found.append(f"label {label} names {_version(now)} and should name {_version(wanted)}")
    return found


def _version(number: int | None) -> str:
    return "nothing" if number is None else f"version {number}"


class _Server:
    """One server."""

    def __init__(self, address: str, model_name: str, base_path: Path, timeout_s: float) -> None:
        self._address = address
        self._model_name = model_name
        self._base_path = base_path
        self._timeout_s = timeout_s
        self._channel = grpc.insecure_channel(address, options=_CHANNEL)
        self._get_status = self._channel.unary_unary(
            "/tensorflow.serving.ModelService/GetModelStatus",
            GetModelStatusRequest.SerializeToString,
            GetModelStatusResponse.FromString,
        )
        self._get_metadata = self._channel.unary_unary(
            "/tensorflow.serving.PredictionService/GetModelMetadata",
            GetModelMetadataRequest.SerializeToString,
            GetModelMetadataResponse.FromString,
        )
        self._reload_config = self._channel.unary_unary(
            "/tensorflow.serving.ModelService/HandleReloadConfigRequest",
            ReloadConfigRequest.SerializeToString,
            ReloadConfigResponse.FromString,
        )

    def states(self) -> dict[int, VersionState]:
        """Every version that the server has heard of since it started."""
        request = GetModelStatusRequest()
        request.model_spec.name = self._model_name
        response = self._ask(self._get_status, request, {grpc.StatusCode.NOT_FOUND})
        if response is None:
            return {}
        name = ModelVersionStatus.State.Name
        return {
            one.version: VersionState(name(one.state), one.status.error_message)
            for one in response.model_version_status
        }

    def label(self, label: str) -> int | None:
        """The version that a label names; None where it names none that serves."""
        # GetModelStatus does not look at labels.
        request = GetModelMetadataRequest(metadata_field=["signature_def"])
        request.model_spec.name = self._model_name
        request.model_spec.version_label = label
        # Neither a label that nobody knows nor a model without versions is a fault here.
        absent = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND}
        response = self._ask(self._get_metadata, request, absent)
        return None if response is None else int(response.model_spec.version.value)

    def reload(self, message: ModelServerConfig) -> None:
        """Tells the server what to serve from now on."""
        request = ReloadConfigRequest(config=message)
        # A reload that names a model for the first time answers when that has loaded (or UNKNOWN, when it could not):
        # what became of the versions is asked for anyway.
        response = self._ask(
            self._reload_config,
            request,
            {grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNKNOWN},
        )
        if response is not None and response.status.error_code:
            raise self._refused(response.status.error_message)

    def close(self) -> None:
        self._channel.close()

    def _ask(self, method: Callable[..., Any], request: Any, expected: set[grpc.StatusCode]) -> Any:
        """The response, or None where the server answers with one of the expected codes."""
        try:
            return method(request, timeout=self._timeout_s)
        except grpc.RpcError as error:
            code = error.code()
            if code in expected:
                return None
            if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED):
                raise ModelServerError(
                    f"model server {self._address} does not answer within {self._timeout_s:g} s ({code.name}: "
                    f"{error.details()}); see whether it runs, and correct --model-server if it is elsewhere"
                ) from error
            raise self._refused(f"{code.name}: {error.details()}") from error

    def _refused(self, why: str) -> ModelServerError:
        return ModelServerError(
            f"model server {self._address} refuses what it is told about model {self._model_name!r} ({why}); see its "
            f"log, and that it finds the versions in {self._base_path}"
        )
