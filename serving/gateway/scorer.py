"""The model, asked over TensorFlow Serving's API: what waits goes as one request of packed rows."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

import grpc
import numpy as np

from schemas.scoring_pb2 import Degraded
from schemas.tf_serving_pb2 import DT_FLOAT, DT_STRING, PredictRequest, PredictResponse, Tensor
from serving.features import Features
from serving.gateway.stage import Stage
from serving.inputs import Packer

_SIGNATURE = "score_packed"
_PREDICT = "/tensorflow.serving.PredictionService/Predict"

# A model server that comes back is found within a second.
_CHANNEL_OPTIONS = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
]
# What the server says of a label that it does not know, of a model that it does not have, and of one that is not ready.
_NO_SUCH_LABEL = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
)
_CAUSES = {
    grpc.StatusCode.UNAVAILABLE: Degraded.MODEL_UNAVAILABLE,
    # What a request on the wire gets when its server stops.
    grpc.StatusCode.CANCELLED: Degraded.MODEL_UNAVAILABLE,
    grpc.StatusCode.NOT_FOUND: Degraded.MODEL_UNAVAILABLE,
    grpc.StatusCode.FAILED_PRECONDITION: Degraded.MODEL_UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED: Degraded.MODEL_LATE,
}


class ModelFailure(Exception):
    """The model gave no score that can be used.

    Attributes:
        cause: as decisions tell it.
        detail: for people.
    """

    def __init__(self, cause: Degraded.Cause, detail: str) -> None:
        super().__init__(detail)
        self.cause = cause
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Question:
    """One transaction for a model.

    Attributes:
        features: as the store gave them.
        packer: picks the version's inputs.
        version: the one that is meant by the label.
    """

    features: Features
    packer: Packer
    version: int


@dataclass(frozen=True, slots=True)
class Scored:
    """An answer.

    Attributes:
        version: the one that answered, as it named itself.
        score: a probability, in [0, 1].
        took_us: the request's time, which all in it share.
    """

    version: int
    score: float
    took_us: int


def open_channel(target: str) -> grpc.aio.Channel:
    """A channel to a model server, which need not be there yet."""
    return grpc.aio.insecure_channel(target, options=_CHANNEL_OPTIONS)


class Scorer:
    """Asks for the version under one label.

    A label may be gone, or stand for another version already, while the routing that names it is still followed: the
    server is then asked for the version by its number, which both know until nobody follows that routing any more.

    Args:
        channel: to the model server.
        model: its name.
        label: of the version.
        deadline_s: after which the server need not answer any more.
        most: rows of one request.
        at_once: requests in work at a time.
        on_batch: told the size of each request.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        model: str,
        label: str,
        deadline_s: float,
        most: int,
        at_once: int,
        on_batch: Callable[[int], None] = lambda size: None,
    ) -> None:
        self._predict = predict_over(channel)
        self._model = model
        self._label = label
        self._deadline_s = deadline_s
        self._stage: Stage[Question, Scored] = Stage(self._ask_all, most, at_once, on_batch)

    async def ask(self, question: Question, within_s: float | None = None) -> Scored:
        """The version's score.

        Args:
            within_s: how long it may take, the time in the queue included; None leaves only the server's deadline.

        Raises:
            ModelFailure: there is none.
        """
        if within_s is not None and within_s <= 0:
            raise ModelFailure(Degraded.MODEL_LATE, "no time was left to ask the model")
        try:
            async with asyncio.timeout(within_s):
                return await self._stage.put(question)
        except TimeoutError:
            raise ModelFailure(
                Degraded.MODEL_LATE, f"no answer for label {self._label!r} within {(within_s or 0) * 1_000:.0f} ms"
            ) from None

    async def _ask_all(self, questions: list[Question]) -> Sequence[Scored | Exception]:
        """A request for each version that is meant: one, but for the moment in which the routing changes."""
        keys = [(id(question.packer), question.version) for question in questions]
        if all(key == keys[0] for key in keys):
            return await self._ask_one(questions)
        order = sorted(range(len(keys)), key=keys.__getitem__)
        groups = [list(group) for _, group in groupby(order, key=keys.__getitem__)]
        answers = await asyncio.gather(*(self._ask_one([questions[n] for n in group]) for group in groups))
        found: dict[int, Scored | Exception] = {}
        for group, of_group in zip(groups, answers, strict=True):
            found |= zip(group, of_group, strict=True)
        return [found[n] for n in range(len(questions))]

    async def _ask_one(self, questions: Sequence[Question]) -> Sequence[Scored | Exception]:
        """Questions for one version."""
        request = packed_request(self._model, _SIGNATURE, "score", questions)
        began = time.perf_counter()
        try:
            response = await self._call(request, questions[0].version)
        except grpc.aio.AioRpcError as error:
            return [failure_of(error)] * len(questions)
        took_us = round((time.perf_counter() - began) * 1e6)
        return _answers(response, len(questions), took_us)

    async def _call(self, request: PredictRequest, version: int) -> PredictResponse:
        request.model_spec.version_label = self._label
        try:
            return await self._predict(request, timeout=self._deadline_s)
        except grpc.aio.AioRpcError as error:
            if error.code() not in _NO_SUCH_LABEL:
                raise
        request.model_spec.version.value = version
        return await self._predict(request, timeout=self._deadline_s)


def predict_over(channel: grpc.aio.Channel) -> grpc.aio.UnaryUnaryMultiCallable[PredictRequest, PredictResponse]:
    """The method Predict of a model server."""
    return channel.unary_unary(
        _PREDICT,
        request_serializer=PredictRequest.SerializeToString,
        response_deserializer=PredictResponse.FromString,
    )


def failure_of(error: grpc.aio.AioRpcError) -> ModelFailure:
    """What a status of the model server means for decisions."""
    cause = _CAUSES.get(error.code(), Degraded.MODEL_FAILED)
    return ModelFailure(cause, f"the model server said {error.code().name}: {error.details()}")


def packed_request(model: str, signature: str, output: str, questions: Sequence[Question]) -> PredictRequest:
    """A request for one output of a signature with packed inputs.

    Args:
        questions: for one version, which the request does not name yet.
    """
    rows = [question.features for question in questions]
    packer = questions[0].packer
    request = PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    request.output_filter.append(output)
    widths = packer.widths
    for name, dtype, width in (
        ("numeric", DT_FLOAT, widths[0]),
        ("categorical", DT_STRING, widths[1]),
    ):
        tensor = request.inputs[name]
        tensor.dtype = dtype
        tensor.tensor_shape.dim.add().size = len(rows)
        tensor.tensor_shape.dim.add().size = width
    request.inputs["numeric"].tensor_content = packer.numeric(rows).tobytes()
    request.inputs["categorical"].string_val.extend(packer.categorical(rows))
    return request


def numbers_of(tensor: Tensor) -> list[float]:
    """The values of a float32 tensor; servers may answer in either form."""
    return np.frombuffer(tensor.tensor_content, "<f4").tolist() if tensor.tensor_content else list(tensor.float_val)


def _answers(response: PredictResponse, rows: int, took_us: int) -> Sequence[Scored | Exception]:
    """A score for each row, or what is wrong with it."""
    spec, scores = response.model_spec, numbers_of(response.outputs["score"])
    if len(scores) != rows:
        failure = ModelFailure(
            Degraded.MODEL_FAILED, f"version {spec.version.value} gave {len(scores)} scores for {rows} rows"
        )
        return [failure] * rows
    return [
        Scored(spec.version.value, score, took_us)
        if math.isfinite(score) and 0 <= score <= 1
        else ModelFailure(Degraded.MODEL_FAILED, f"version {spec.version.value} gave the score {score}")
        for score in scores
    ]
