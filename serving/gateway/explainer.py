"""The model's own reasons: what weighed in a score that asks for REVIEW or BLOCK."""

from __future__ import annotations

import asyncio
import math

import grpc

from schemas.reasons import strongest
from schemas.scoring_pb2 import Degraded
from serving.gateway.scorer import ModelFailure, Question, failure_of, numbers_of, packed_request, predict_over

_SIGNATURE, _OUTPUT = "explain", "attributions"


class Explainer:
    """Asks the version that scored, by its number; lives on one event loop.

    Explanations take a model server several times as long as scores.  So there are few at once, and none waits for
    another: when a bad model blocks everything, scores still come in time.

    Args:
        channel: to the model server.
        model: its name.
        deadline_s: how long one may take.
        at_once: so many; of more, the rest go without.
    """

    def __init__(self, channel: grpc.aio.Channel, model: str, deadline_s: float, at_once: int) -> None:
        self._predict = predict_over(channel)
        self._model = model
        self._deadline_s = deadline_s
        self._free = at_once

    async def ask(self, question: Question, left_s: float) -> tuple[str, ...]:
        """The codes that spoke most for fraud, the weightiest first.

        Args:
            question: its version is the one that scored.
            left_s: how much time there is.

        Raises:
            ModelFailure: there are none to be had.
        """
        within_s = min(self._deadline_s, left_s)
        if within_s <= 0:
            raise ModelFailure(Degraded.MODEL_LATE, "no time was left to ask for reasons")
        if not self._free:
            raise ModelFailure(Degraded.MODEL_LATE, "too many others were asked for reasons")
        self._free -= 1
        try:
            async with asyncio.timeout(within_s):
                return await self._ask(question, within_s)
        except TimeoutError:
            raise ModelFailure(Degraded.MODEL_LATE, f"no reasons within {within_s * 1_000:.0f} ms") from None
        finally:
            self._free += 1

    async def _ask(self, question: Question, within_s: float) -> tuple[str, ...]:
        request = packed_request(self._model, _SIGNATURE, _OUTPUT, [question])
        request.model_spec.version.value = question.version
        try:
            response = await self._predict(request, timeout=within_s)
        except grpc.aio.AioRpcError as error:
            raise failure_of(error) from error
        attributions, codes = numbers_of(response.outputs[_OUTPUT]), question.packer.reasons
        finite = sum(map(math.isfinite, attributions))
        if not finite == len(attributions) == len(codes):
            raise ModelFailure(
                Degraded.MODEL_FAILED,
                f"version {question.version} gave {len(attributions)} attributions, {finite} of them finite, for "
                f"{len(codes)} columns of inputs",
            )
        return strongest(attributions, codes)
