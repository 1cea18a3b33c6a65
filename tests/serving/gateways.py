"""A gateway that does as it is told, for those who call one."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from typing import Any

import grpc

from schemas import scoring_pb2, scoring_pb2_grpc

BOUND_S = 60
TRANSACTION: dict[str, Any] = {
    "transaction_id": "t1",
    "event_time": 7,
    "card_id": "c1",
    "merchant_id": "m1",
    "amount_minor": 100,
}


class Gateway(scoring_pb2_grpc.ScoringServicer):
    """Passes everything; before that, it fails as often as `failures` says."""

    def __init__(self, *failures: grpc.StatusCode) -> None:
        self.failures = list(failures)
        self.seen: list[Any] = []
        self.remaining_s: list[float] = []

    def Score(self, request: scoring_pb2.Transaction, context: grpc.ServicerContext) -> scoring_pb2.Decision:
        self.seen.append(request)
        self.remaining_s.append(context.time_remaining())
        if self.failures:
            context.abort(self.failures.pop(0), "as told")
        if request.amount_minor < 0:
            context.set_trailing_metadata((("field", "amount_minor"),))
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "amount_minor -1 is negative")
        return scoring_pb2.Decision(transaction_id=request.transaction_id, outcome=scoring_pb2.PASS)

    def ScoreStream(
        self, requests: Iterator[scoring_pb2.ScoreBatch], context: grpc.ServicerContext
    ) -> Iterator[scoring_pb2.ScoreBatchResult]:
        for batch in requests:
            answer = scoring_pb2.ScoreBatchResult(batch_id=batch.batch_id)
            for transaction in batch.transactions:
                if transaction.amount_minor < 0:
                    answer.results.add().refusal.field = "amount_minor"
                else:
                    answer.results.add().decision.transaction_id = transaction.transaction_id
            yield answer
        if self.failures:
            context.abort(self.failures.pop(0), "as told")

    def ReportOutcome(
        self, request: scoring_pb2.OutcomeReport, context: grpc.ServicerContext
    ) -> scoring_pb2.OutcomeReceipt:
        self.seen.append(request)
        return scoring_pb2.OutcomeReceipt(recorded=len(self.seen) == 1)


@contextmanager
def serving(gateway: Gateway, address: str = "127.0.0.1:0") -> Iterator[str]:
    """Serves at an address, and gives it."""
    with futures.ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool)
        scoring_pb2_grpc.add_ScoringServicer_to_server(gateway, server)
        port = server.add_insecure_port(address)
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            server.stop(None).wait(BOUND_S)
