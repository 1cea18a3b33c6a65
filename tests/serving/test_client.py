"""Both clients against a gateway that does as it is told."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import grpc
import numpy as np
import pytest

from schemas import scoring_pb2
from schemas.errors import ConfigurationError, ScoringError
from serving.client import AsyncClient, Client, outcome_message, transaction_message
from tests.serving.gateways import BOUND_S, TRANSACTION, Gateway, serving


@contextmanager
def nobody() -> Iterator[str]:
    """An address at which nobody listens, and which nobody else gets meanwhile."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{held.getsockname()[1]}"


def by_thread(target: str, method: str, *arguments: Any, timeout_s: float = BOUND_S, **named: Any) -> Any:
    with Client(target, timeout_s) as client:
        result = getattr(client, method)(*arguments, **named)
        return list(result) if isinstance(result, Iterator) else result


def by_asyncio(target: str, method: str, *arguments: Any, timeout_s: float = BOUND_S, **named: Any) -> Any:
    async def call() -> Any:
        async with AsyncClient(target, timeout_s) as client:
            result = getattr(client, method)(*arguments, **named)
            return [one async for one in result] if isinstance(result, AsyncIterator) else await result

    return asyncio.run(call())


both = pytest.mark.parametrize("call", [by_thread, by_asyncio])
Call = Callable[..., Any]


@both
def test_a_decision_comes_back(call: Call) -> None:
    gateway = Gateway()
    with serving(gateway) as target:
        decision = call(target, "score", TRANSACTION | {"city": None})
    assert (decision.transaction_id, decision.outcome) == ("t1", scoring_pb2.PASS)
    assert gateway.seen == [scoring_pb2.Transaction(**TRANSACTION)]


@both
def test_a_refusal_names_its_code_and_field(call: Call) -> None:
    with serving(Gateway()) as target, pytest.raises(ScoringError, match="amount_minor -1 is negative") as raised:
        call(target, "score", TRANSACTION | {"amount_minor": -1})
    assert (raised.value.code, raised.value.field) == ("INVALID_ARGUMENT", "amount_minor")
    assert target in str(raised.value)


@both
def test_an_unavailable_gateway_is_asked_again(call: Call) -> None:
    gateway = Gateway(grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAVAILABLE)
    with serving(gateway) as target:
        assert call(target, "score", TRANSACTION).outcome == scoring_pb2.PASS
    assert len(gateway.seen) == 3


@both
@pytest.mark.parametrize("code", [grpc.StatusCode.INTERNAL, grpc.StatusCode.RESOURCE_EXHAUSTED])
def test_other_failures_are_not_repeated(call: Call, code: grpc.StatusCode) -> None:
    gateway = Gateway(code)
    with serving(gateway) as target, pytest.raises(ScoringError, match="as told") as raised:
        call(target, "score", TRANSACTION)
    assert (raised.value.code, raised.value.field, len(gateway.seen)) == (code.name, "", 1)


@both
def test_a_gateway_that_starts_during_the_call_answers_it(call: Call) -> None:
    with nobody() as target, futures.ThreadPoolExecutor(1) as pool:
        answer = pool.submit(call, target, "score", TRANSACTION)
        with pytest.raises(ScoringError):
            call(target, "wait_until_ready", timeout_s=0.2)
        assert not answer.done()
        with serving(Gateway(), target):
            assert answer.result(BOUND_S).transaction_id == "t1"


@both
def test_a_call_that_was_lost_with_its_connection_is_sent_again(call: Call) -> None:
    asked, over = threading.Event(), threading.Event()

    class Dying(Gateway):
        def Score(self, request: scoring_pb2.Transaction, context: grpc.ServicerContext) -> scoring_pb2.Decision:
            context.add_callback(over.set)  # when the connection is gone
            asked.set()
            over.wait(BOUND_S)
            return super().Score(request, context)

    with futures.ThreadPoolExecutor(1) as pool:
        with serving(Dying()) as target:
            answer = pool.submit(call, target, "score", TRANSACTION)
            assert asked.wait(BOUND_S)
        with serving(Gateway(), target):
            assert answer.result(BOUND_S).transaction_id == "t1"


@both
def test_calls_end_with_their_time(call: Call) -> None:
    with nobody() as target:
        with pytest.raises(ScoringError) as raised:
            call(target, "score", TRANSACTION, timeout_s=0.2)
        assert raised.value.code == "DEADLINE_EXCEEDED"
        with pytest.raises(ScoringError, match=f"no gateway can be reached at {target} within 0.2 s") as raised:
            call(target, "wait_until_ready", timeout_s=0.2)
        assert raised.value.code == "UNAVAILABLE"


@both
def test_the_gateway_is_told_how_much_time_there_is(call: Call) -> None:
    gateway = Gateway()
    with serving(gateway) as target:
        call(target, "wait_until_ready")
        call(target, "score", TRANSACTION, timeout_s=30)
    assert 0 < gateway.remaining_s[0] <= 31  # gRPC rounds up


@both
def test_batches_come_back_with_a_result_for_each_transaction(call: Call) -> None:
    batches = [[TRANSACTION, TRANSACTION | {"amount_minor": -1}], [], [TRANSACTION | {"transaction_id": "t2"}]]
    with serving(Gateway()) as target:
        answers = call(target, "score_stream", iter(batches))
    assert [number for number, _ in answers] == [0, 1, 2]
    assert [[type(result).__name__ for result in results] for _, results in answers] == [
        ["Decision", "Refusal"], [], ["Decision"],
    ]  # fmt: skip
    assert answers[0][1][1].field == "amount_minor"
    assert answers[2][1][0].transaction_id == "t2"


def test_batches_may_come_asynchronously() -> None:
    async def batches() -> AsyncIterator[list[dict[str, Any]]]:
        yield [TRANSACTION]
        await asyncio.sleep(0)
        yield [TRANSACTION, TRANSACTION]

    with serving(Gateway()) as target:
        answers = by_asyncio(target, "score_stream", batches())
    assert [(number, len(results)) for number, results in answers] == [(0, 1), (1, 2)]


@both
def test_a_fault_in_a_batch_is_raised_behind_the_answers_before_it(call: Call) -> None:
    answered = []

    def batches() -> Iterator[list[dict[str, Any]]]:
        yield [TRANSACTION]
        yield [{"colour": "red"}]

    with serving(Gateway()) as target, pytest.raises(ConfigurationError, match="colour"):
        if call is by_thread:
            with Client(target, BOUND_S) as client:
                for number, _ in client.score_stream(batches()):
                    answered.append(number)
        else:

            async def collect() -> None:
                async with AsyncClient(target, BOUND_S) as client:
                    async for number, _ in client.score_stream(batches()):
                        answered.append(number)

            asyncio.run(collect())
    assert answered == [0]


@both
def test_a_stream_that_breaks_says_so(call: Call) -> None:
    gateway = Gateway(grpc.StatusCode.INTERNAL)
    with serving(gateway) as target, pytest.raises(ScoringError, match="INTERNAL: as told"):
        call(target, "score_stream", [[TRANSACTION]])


@both
def test_outcomes_are_reported_once(call: Call) -> None:
    gateway = Gateway()
    known = datetime(2024, 3, 1, 13, tzinfo=timezone(timedelta(hours=1)))
    with serving(gateway) as target:
        assert call(target, "report_outcome", "t1", True, known, "desk 4") is True
        assert call(target, "report_outcome", "t1", False) is False
    first, second = gateway.seen
    assert first == scoring_pb2.OutcomeReport(
        transaction_id="t1", is_fraud=True, label_time=1_709_294_400_000_000, reported_by="desk 4"
    )
    assert second == scoring_pb2.OutcomeReport(transaction_id="t1", is_fraud=False)


def test_values_become_those_of_their_fields() -> None:
    made = transaction_message(
        {
            "transaction_id": "t1",
            "event_time": datetime(2024, 3, 1, 12, 0, 0, 5, tzinfo=UTC),
            "amount_minor": np.int32(5),
            "latitude": 48,
            "longitude": np.float32(0.5),
            "ip": None,
            "city": "",
        }
    )
    assert made == scoring_pb2.Transaction(
        transaction_id="t1",
        event_time=1_709_294_400_000_005,
        amount_minor=5,
        latitude=48.0,
        longitude=0.5,
        city="",
    )
    assert not made.HasField("ip")


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("colour", "red", "no 'colour'; its columns are transaction_id, event_time"),
        ("is_fraud", True, "no 'is_fraud'"),
        ("card_id", 4556737586899855, "card_id is of type int; it must be text"),
        ("city", b"4556737586899855", "city is of type bytes"),
        ("city", "\ud83d4556737586899855", "city has half a surrogate pair"),
        ("amount_minor", 4556737586.99855, "amount_minor is of type float; it must be a whole number"),
        ("amount_minor", "4556737586899855", "amount_minor is of type str"),
        ("amount_minor", True, "amount_minor is of type bool"),
        ("amount_minor", 2**63, "amount_minor does not fit into 64 bits"),
        ("latitude", "4556737586899855", "latitude is of type str; it must be a number"),
        ("latitude", False, "latitude is of type bool"),
        ("event_time", "2024-03-01", "event_time is of type str; it must be a datetime or UTC microseconds"),
        ("event_time", datetime(2024, 3, 1), "event_time 2024-03-01T00:00:00 has no zone"),
    ],
)
def test_what_a_field_cannot_hold_is_refused_by_its_name_and_not_shown(field: str, value: Any, said: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        transaction_message(TRANSACTION | {field: value})
    assert said in str(raised.value)
    assert "4556737586" not in str(raised.value)


def test_an_outcome_is_fraud_or_not() -> None:
    wrong: Any = 1
    with pytest.raises(ConfigurationError, match="is_fraud is of type int"):
        outcome_message("t1", wrong, None, None)
    with pytest.raises(ConfigurationError, match="transaction_id is of type int"):
        outcome_message(wrong, True, None, None)


def test_the_client_needs_neither_tensorflow_nor_anything_else_that_is_heavy() -> None:
    heavy = ["tensorflow", "tensorflow_serving", "numpy", "pyarrow", "pandas", "components", "tfx", "mlflow"]
    code = f"import sys, serving.client; print([name for name in {heavy} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=BOUND_S)
    assert ran.stdout == "[]\n"
