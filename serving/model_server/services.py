"""PredictionService and ModelService of TensorFlow Serving: unpack a request, call, pack the response."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any, NoReturn, TypeVar

import grpc
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from serving.model_server.config import parse_config
from serving.model_server.metrics import Metrics
from serving.model_server.servable import DEFAULT_SIGNATURE
from serving.model_server.status import Refusal, invalid, not_found
from serving.model_server.versions import Version, Versions

NAMES = ("tensorflow.serving.PredictionService", "tensorflow.serving.ModelService")
_SIGNATURE_DEF = "signature_def"
_LONGEST_MESSAGE = 1024  # of the stock server; a header has to hold it

_log = logging.getLogger(__name__)
Response = TypeVar("Response")


def _answering(method: Callable[[Any, Any, Any], Response]) -> Callable[[Any, Any, Any], Response]:
    """Turns a Refusal into the status of the call."""

    @wraps(method)
    def answer(self: Any, request: Any, context: Any) -> Response:
        try:
            return method(self, request, context)
        except Refusal as refusal:
            _abort(context, refusal)

    return answer


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):  # type: ignore[misc]  # untyped
    """Predict and GetModelMetadata; the other methods answer UNIMPLEMENTED."""

    def __init__(self, versions: Versions, metrics: Metrics, clock: Callable[[], float]) -> None:
        self._versions = versions
        self._metrics = metrics
        self._clock = clock

    def Predict(self, request: predict_pb2.PredictRequest, context: Any) -> predict_pb2.PredictResponse:
        """Runs a signature of a version; the response names the version that ran."""
        began = self._clock()
        labels = ("", "", "")
        try:
            _check_deadline(context)
            spec = _spec(request)
            with self._versions.use(*_choice(spec)) as version:
                servable = _servable(version)
                signature = spec.signature_name or DEFAULT_SIGNATURE
                labels = (version.model, str(version.number), signature if signature in servable.signature_defs else "")
                response = predict_pb2.PredictResponse()
                servable.predict(request, response)
            response.model_spec.name = version.model
            response.model_spec.version.value = version.number
            response.model_spec.signature_name = signature
            return response
        except Refusal as refusal:
            self._metrics.errors.labels(*labels, refusal.code.name).inc()
            _abort(context, refusal)
        except Exception as bug:
            _log.exception("Predict failed")
            self._metrics.errors.labels(*labels, grpc.StatusCode.INTERNAL.name).inc()
            _abort(context, Refusal(grpc.StatusCode.INTERNAL, f"{type(bug).__name__}: {bug}"))
        finally:
            self._metrics.requests.labels(*labels).inc()
            self._metrics.latency.labels(*labels).observe(self._clock() - began)

    @_answering
    def GetModelMetadata(self, request: Any, context: Any) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """The signatures of a version."""
        spec = _spec(request)
        if not request.metadata_field:
            raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
        for metadata in request.metadata_field:
            if metadata != _SIGNATURE_DEF:
                raise invalid(f"Metadata field {metadata} is not supported")
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        signatures = get_model_metadata_pb2.SignatureDefMap()
        with self._versions.use(*_choice(spec)) as version:
            for name, definition in _servable(version).signature_defs.items():
                signatures.signature_def[name].CopyFrom(definition)
        response.model_spec.name = version.model
        response.model_spec.version.value = version.number
        response.metadata[_SIGNATURE_DEF].Pack(signatures)
        return response


class ModelService(model_service_pb2_grpc.ModelServiceServicer):  # type: ignore[misc]  # untyped
    """GetModelStatus and HandleReloadConfigRequest."""

    def __init__(self, versions: Versions) -> None:
        self._versions = versions

    @_answering
    def GetModelStatus(self, request: Any, context: Any) -> get_model_status_pb2.GetModelStatusResponse:
        """The states of one version, or of all that the model has had; a label is not looked at."""
        spec = _spec(request)
        statuses = self._versions.statuses(spec.name)
        if spec.HasField("version"):
            statuses = [status for status in statuses if status.version == spec.version.value]
            if not statuses:
                raise not_found(f"Could not find version {spec.version.value} of model {spec.name}")
        if not statuses:
            raise not_found(f"Could not find any versions of model {spec.name}")
        response = get_model_status_pb2.GetModelStatusResponse()
        for status in statuses:
            one = response.model_version_status.add(version=status.version, state=status.state.value)
            one.status.error_code = status.code
            one.status.error_message = status.message
        return response

    @_answering
    def HandleReloadConfigRequest(self, request: Any, context: Any) -> model_management_pb2.ReloadConfigResponse:
        """Replaces the configuration, labels included, and waits for models that are new to have a version."""
        new = self._versions.configure(parse_config(request.config))
        self._versions.wait(new, context.time_remaining())
        response = model_management_pb2.ReloadConfigResponse()
        response.status.SetInParent()
        return response


def _spec(request: Any) -> Any:
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
    return request.model_spec


def _choice(spec: Any) -> tuple[str, int | None, str | None]:
    """Name, number and label; the two exclude each other already in the message."""
    choice = spec.WhichOneof("version_choice")
    return (
        spec.name,
        spec.version.value if choice == "version" else None,
        spec.version_label if choice == "version_label" else None,
    )


def _servable(version: Version) -> Any:
    assert version.servable is not None, "a version in use is loaded"
    return version.servable


def _check_deadline(context: Any) -> None:
    """Refuses what has waited for a thread too long: nobody reads the answer, and the model has others to score."""
    remaining = context.time_remaining()
    if remaining is not None and remaining <= 0:
        raise Refusal(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline exceeded before the request could be run")


def _abort(context: Any, refusal: Refusal) -> NoReturn:
    message = refusal.message
    if len(message) > _LONGEST_MESSAGE:
        message = message[:_LONGEST_MESSAGE] + "...TRUNCATED"
    context.abort(refusal.code, message)
    raise AssertionError("abort raises")
