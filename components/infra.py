"""Infra validation: a model server loads the model, answers recorded requests, and gives the scores of training.

TFX's own InfraValidator needs Docker or Kubernetes, and looks whether there is an answer, not what it is.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
)

from components.export import EXPLAIN, SCORE_PACKED, SIGNATURES, packed_request
from components.gate import Reason
from components.model_server import serving
from schemas.bundle import ASSETS_EXTRA, RECORDED_FILE, WARM_UP_FILE
from schemas.errors import ConfigurationError, ModelServerError
from schemas.features import FeatureSpec
from schemas.versions import MODEL_NAME

CHECK = "infra"
# Rows of the recorded ones whose explanations are looked at.
_EXPLAINED_ROWS = 64
# Attributions sum to the log-odds of a score less one number for all rows, within this share of the largest sum.
_COMPLETENESS = 0.05
_SURE = 1e-4
_PAUSE_S = 0.1
_States = get_model_status_pb2.ModelVersionStatus


@dataclass(frozen=True)
class InfraConfig:
    """How the exported model is tried in a model server.

    Attributes:
        model_server: a `tensorflow_model_server` program; None takes this project's own server.
        tolerance: by how much an answered score may differ from that of training.
        start_s: how long the server may take to load the model, in seconds.
        answer_s: how long a request may take, in seconds.
    """

    model_server: Path | None = None
    tolerance: float = 1e-5
    start_s: float = 300.0
    answer_s: float = 30.0

    def __post_init__(self) -> None:
        for name in ("tolerance", "start_s", "answer_s"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigurationError(f"infra {name} is {getattr(self, name)}; it must be above 0 and finite")


def validate(
    saved_model: Path, spec: FeatureSpec, rows: Mapping[str, np.ndarray], config: InfraConfig, scratch: Path
) -> tuple[Reason, ...]:
    """Why the model must not be registered; nothing where a server serves it as training left it.

    Args:
        saved_model: as exported.
        spec: its inputs.
        rows: raw features of the validation split by name, its first rows in their order; at least the recorded ones.
        config: how.
        scratch: an empty folder.

    Raises:
        StackError: no server can be started.
        ModelServerError: the server does not say whether it has the model.
    """
    with serving(saved_model, config.model_server, scratch, config.start_s) as channel:
        return tuple(examine(channel, saved_model, spec, rows, config))


def examine(
    channel: grpc.Channel, saved_model: Path, spec: FeatureSpec, rows: Mapping[str, np.ndarray], config: InfraConfig
) -> Iterator[Reason]:
    """The same, of a server that runs."""
    recorded = _recorded(saved_model)
    if recorded is None:
        yield _stop(RECORDED_FILE, f"the model has no {ASSETS_EXTRA}/{RECORDED_FILE}; export it with this version")
        return
    asked = _Asked(channel, config)
    if fault := asked.loading_fault():
        yield _stop("loading", f"the model server does not load the model: {fault}")
        return
    yield from _unwarmed(saved_model / ASSETS_EXTRA / WARM_UP_FILE)
    if absent := sorted(set(SIGNATURES) - asked.signatures()):
        yield from (_stop(name, f"the model has no signature {name!r}") for name in absent)
        return
    first = {name: values[: len(recorded)] for name, values in rows.items()}
    yield from _scores_differ(asked, spec, first, recorded)
    yield from _unexplained(asked, spec, first, recorded)


class _Asked:
    """The server's answers, in this project's terms."""

    def __init__(self, channel: grpc.Channel, config: InfraConfig) -> None:
        self.tolerance = config.tolerance
        self._start_s, self._answer_s = config.start_s, config.answer_s
        self._models = model_service_pb2_grpc.ModelServiceStub(channel)
        self._prediction = prediction_service_pb2_grpc.PredictionServiceStub(channel)

    def loading_fault(self) -> str:
        """What is wrong with the model; empty once it is available.

        Raises:
            ModelServerError: neither is said in time.
        """
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = MODEL_NAME
        deadline = time.monotonic() + self._start_s
        while time.monotonic() < deadline:
            try:
                response = self._models.GetModelStatus(request, timeout=self._answer_s)
            except grpc.RpcError as error:
                raise ModelServerError(f"the model server says nothing of the model: {_said(error)}") from error
            [version] = response.model_version_status
            if version.state == _States.AVAILABLE:
                return ""
            if version.status.error_code:
                return str(version.status.error_message)
            time.sleep(_PAUSE_S)
        raise ModelServerError(f"the model is not available after {self._start_s:g} s; raise infra start_s")

    def signatures(self) -> set[str]:
        """Names of those that the server has."""
        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        request.model_spec.name = MODEL_NAME
        response = self._prediction.GetModelMetadata(request, timeout=self._answer_s)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)
        return set(signatures.signature_def)

    def answer(self, request: predict_pb2.PredictRequest) -> dict[str, np.ndarray] | str:
        """The outputs of a request by name, or what the server refuses it with."""
        try:
            response = self._prediction.Predict(request, timeout=self._answer_s)
        except grpc.RpcError as error:
            return _said(error)
        return {name: tf.make_ndarray(tensor) for name, tensor in response.outputs.items()}


def _scores_differ(
    asked: _Asked, spec: FeatureSpec, rows: Mapping[str, np.ndarray], recorded: np.ndarray
) -> Iterator[Reason]:
    """All recorded rows in one request, and one of them alone."""
    for size in dict.fromkeys((len(recorded), 1)):
        some = {name: values[:size] for name, values in rows.items()}
        answer = asked.answer(packed_request(SCORE_PACKED, some, spec))
        if isinstance(answer, str):
            yield _stop(SCORE_PACKED, f"a request of {size} recorded rows is refused: {answer}")
            continue
        scores = answer.get("score", np.empty(0))
        if fault := _shape_fault("score", scores, (size,)):
            yield _stop(SCORE_PACKED, fault)
            continue
        distances = np.abs(scores.astype(np.float64) - recorded[:size])
        # Not the largest of them: a NaN is larger than nothing.
        within = distances <= asked.tolerance
        if not within.all():
            worst = int(np.argmax(np.where(np.isnan(distances), np.inf, distances)))
            yield Reason(
                CHECK,
                "stop",
                SCORE_PACKED,
                f"in a request of {size}, {np.count_nonzero(~within)} scores are not those of training: row {worst} of "
                f"validation has {scores[worst]:.7g}, and training gave it {recorded[worst]:.7g}",
                float(distances[worst]),
                asked.tolerance,
                acceptable=False,
            )


def _unexplained(
    asked: _Asked, spec: FeatureSpec, rows: Mapping[str, np.ndarray], recorded: np.ndarray
) -> Iterator[Reason]:
    some = {name: values[:_EXPLAINED_ROWS] for name, values in rows.items()}
    size = min(_EXPLAINED_ROWS, len(recorded))
    answer = asked.answer(packed_request(EXPLAIN, some, spec))
    if isinstance(answer, str):
        yield _stop(EXPLAIN, f"a request of {size} recorded rows is refused: {answer}")
        return
    scores, attributions = (answer.get(name, np.empty(0)) for name in ("score", "attributions"))
    width = spec.numeric_width + spec.categorical_width
    faults = [_shape_fault("score", scores, (size,)), _shape_fault("attributions", attributions, (size, width))]
    if any(faults):
        yield from (_stop(EXPLAIN, fault) for fault in faults if fault)
        return
    if not np.allclose(scores, recorded[:size], rtol=0, atol=asked.tolerance):
        yield _stop(EXPLAIN, "the scores that are explained are not those of training")
    if not np.isfinite(attributions).all():
        yield _stop(EXPLAIN, f"{np.count_nonzero(~np.isfinite(attributions))} attributions are not finite")
        return
    # Next to 0 and 1 float32 has too few digits for log-odds.
    telling = (scores > _SURE) & (scores < 1 - _SURE)
    odds, sums = scores[telling].astype(np.float64), attributions[telling].sum(axis=1, dtype=np.float64)
    rests = np.log(odds) - np.log1p(-odds) - sums
    limit = _COMPLETENESS * max(float(np.abs(sums).max(initial=0)), 1.0)
    if len(rests) and np.ptp(rests) > limit:
        yield Reason(
            CHECK,
            "stop",
            EXPLAIN,
            "the attributions do not sum to the log-odds of the scores less those of one reference",
            float(np.ptp(rests)),
            limit,
            acceptable=False,
        )


def _unwarmed(file: Path) -> Iterator[Reason]:
    """Signatures without a warm-up request: the first real one would wait for what TensorFlow does once."""
    warmed = set()
    if file.is_file():
        for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator():
            warmed.add(
                prediction_log_pb2.PredictionLog.FromString(record).predict_log.request.model_spec.signature_name
            )
    for name in (SCORE_PACKED, EXPLAIN):
        if name not in warmed:
            yield _stop(
                WARM_UP_FILE, f"{ASSETS_EXTRA}/{WARM_UP_FILE} has no request for {name!r}; export the model again"
            )


def _recorded(saved_model: Path) -> np.ndarray | None:
    file = saved_model / ASSETS_EXTRA / RECORDED_FILE
    return np.array(json.loads(file.read_text(encoding="utf-8")), np.float64) if file.is_file() else None


def _shape_fault(name: str, found: np.ndarray, shape: tuple[int, ...]) -> str:
    return "" if found.shape == shape else f"output {name!r} has the shape {found.shape}, and {shape} was asked for"


def _stop(subject: str, message: str) -> Reason:
    return Reason(CHECK, "stop", subject, message, acceptable=False)


def _said(error: Any) -> str:
    return f"{error.code().name}: {error.details()}"
