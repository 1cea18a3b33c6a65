"""The scoring API over grpc.aio: unpack, call, pack, and turn a refusal into a status."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable
from typing import Any, NoReturn, TypeVar

import grpc

from schemas import scoring_pb2, scoring_pb2_grpc
from serving.gateway.metrics import Metrics
from serving.gateway.outcomes import Outcomes
from serving.gateway.pipeline import Pipeline
from serving.gateway.refusal import Refusal, invalid, unavailable

NAME = "fraudops.scoring.v1.Scoring"
# Of a stream: so much is in work at once, and the client's own flow control holds back the rest.
_BATCHES_AT_ONCE = 8
_LARGEST_BATCH = 1_000
# Refusals of one transaction, beside which the others of its batch are decided.
_OF_ONE = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.ALREADY_EXISTS)

_log = logging.getLogger(__name__)
Response = TypeVar("Response")


class ScoringService(scoring_pb2_grpc.ScoringServicer):  # type: ignore[misc]  # untyped
    """`Score`, `ScoreStream` and `ReportOutcome`."""

    def __init__(self, pipeline: Pipeline, outcomes: Outcomes, metrics: Metrics) -> None:
        self._pipeline = pipeline
        self._outcomes = outcomes
        self._metrics = metrics
        self._stopping = asyncio.Event()

    async def Score(self, request: scoring_pb2.Transaction, context: Any) -> scoring_pb2.Decision:
        """Decides on one transaction."""
        return await self._answer("Score", context, self._pipeline.score(request, context.time_remaining()))

    async def ScoreStream(self, requests: AsyncIterator[scoring_pb2.ScoreBatch], context: Any) -> None:
        """Decides on batches, several at once; an answer goes as soon as its batch is decided."""
        await self._answer("ScoreStream", context, self._stream(requests, context))

    async def ReportOutcome(self, request: scoring_pb2.OutcomeReport, context: Any) -> scoring_pb2.OutcomeReceipt:
        """Takes what a transaction turned out to be."""
        recorded = await self._answer("ReportOutcome", context, self._outcomes.report(request))
        return scoring_pb2.OutcomeReceipt(recorded=recorded)

    def stop(self) -> None:
        """Lets streams take no more batches; they end when those in work are answered."""
        self._stopping.set()

    async def _stream(self, requests: AsyncIterator[scoring_pb2.ScoreBatch], context: Any) -> None:
        free = asyncio.Semaphore(_BATCHES_AT_ONCE)
        writing = asyncio.Lock()

        async def answer(batch: scoring_pb2.ScoreBatch) -> None:
            try:
                results = await asyncio.gather(*(self._result(one, context) for one in batch.transactions))
                async with writing:
                    await context.write(scoring_pb2.ScoreBatchResult(batch_id=batch.batch_id, results=results))
            finally:
                free.release()

        try:
            async with asyncio.TaskGroup() as group:
                while (batch := await self._next(requests)) is not None:
                    if len(batch.transactions) > _LARGEST_BATCH:
                        raise invalid(
                            "transactions",
                            f"batch {batch.batch_id} has {len(batch.transactions):,} transactions; send at most "
                            f"{_LARGEST_BATCH:,}",
                        )
                    await free.acquire()
                    group.create_task(answer(batch))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        if self._stopping.is_set():
            raise unavailable("the gateway stops; send the batches that have no answer again")

    async def _next(self, requests: AsyncIterator[scoring_pb2.ScoreBatch]) -> scoring_pb2.ScoreBatch | None:
        """The next batch; None at the stream's end and when the gateway stops."""
        coming = asyncio.ensure_future(anext(requests, None))
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({coming, stopping}, return_when=asyncio.FIRST_COMPLETED)
            return coming.result() if coming.done() else None
        finally:
            coming.cancel()
            stopping.cancel()

    async def _result(self, transaction: scoring_pb2.Transaction, context: Any) -> scoring_pb2.ScoreResult:
        await self._pipeline.room()
        try:
            decision = await self._pipeline.score(transaction, context.time_remaining())
        except Refusal as refusal:
            if refusal.code not in _OF_ONE:
                raise
            return scoring_pb2.ScoreResult(
                refusal=scoring_pb2.Refusal(
                    transaction_id=transaction.transaction_id, field=refusal.field, message=refusal.message
                )
            )
        return scoring_pb2.ScoreResult(decision=decision)

    async def _answer(self, method: str, context: Any, answer: Awaitable[Response]) -> Response:
        code = grpc.StatusCode.OK
        try:
            return await answer
        except Refusal as refusal:
            code = refusal.code
            await _abort(context, refusal)
        except asyncio.CancelledError:
            code = grpc.StatusCode.CANCELLED
            raise
        except Exception as bug:
            _log.exception("%s failed", method)
            code = grpc.StatusCode.INTERNAL
            await _abort(context, Refusal(code, f"{type(bug).__name__}: {bug}"))
        finally:
            self._metrics.calls.labels(method, code.name).inc()


async def _abort(context: Any, refusal: Refusal) -> NoReturn:
    metadata = (("field", refusal.field),) if refusal.field else ()
    await context.abort(refusal.code, refusal.message, metadata)
    raise AssertionError("abort raises")
