"""The client of the scoring API, in one form for threads and one for asyncio; it needs gRPC and protobuf alone.

    with Client("127.0.0.1:8600") as client:
        decision = client.score({"transaction_id": "t1", "event_time": 1_700_000_000_000_000, "card_id": ..., ...})

A gateway that cannot be reached is tried again within the time of a call.  That is harmless: whoever sends a
transaction again gets the decision that stands.  A transaction is a mapping of names to values, those of
`schemas.transaction` without the label; None is a missing value, and an `event_time` may be a datetime with its zone.
"""

from __future__ import annotations

import asyncio
import json
import operator
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self, TypeAlias

import grpc
import grpc.aio
from google.protobuf.descriptor import FieldDescriptor

from schemas import scoring_pb2
from schemas.errors import ConfigurationError, ScoringError
from schemas.scoring_pb2_grpc import ScoringStub

TIMEOUT_S = 5.0

Transaction: TypeAlias = Mapping[str, Any]
Result: TypeAlias = scoring_pb2.Decision | scoring_pb2.Refusal

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIELDS = {field.name: field.type for field in scoring_pb2.Transaction.DESCRIPTOR.fields}
# gRPC waits for a connection as long as the call has time, and sends again what was lost with one; five attempts are
# its own limit.
_RETRIES = {
    "maxAttempts": 5,
    "initialBackoff": "0.05s",
    "maxBackoff": "1s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}
_METHODS = [{"name": [{"service": "fraudops.scoring.v1.Scoring"}], "waitForReady": True, "retryPolicy": _RETRIES}]
_OPTIONS: Sequence[tuple[str, Any]] = (
    ("grpc.service_config", json.dumps({"methodConfig": _METHODS})),
    # A gateway that was restarted is found again soon.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)


class Client:
    """Calls a gateway; several threads may share one.

    Args:
        target: the gateway's address, HOST:PORT.
        timeout_s: how long a call may take, all attempts together.
    """

    def __init__(self, target: str, timeout_s: float = TIMEOUT_S) -> None:
        self._target = target
        self._timeout_s = timeout_s
        self._channel = grpc.insecure_channel(target, _OPTIONS)
        self._stub = ScoringStub(self._channel)

    def wait_until_ready(self) -> None:
        """Returns when the gateway can be reached.

        Raises:
            ScoringError: it could not within the time of a call.
        """
        ready = grpc.channel_ready_future(self._channel)
        try:
            ready.result(self._timeout_s)
        except grpc.FutureTimeoutError:
            ready.cancel()
            raise _unreachable(self._target, self._timeout_s) from None

    def score(self, transaction: Transaction) -> scoring_pb2.Decision:
        """The decision on a transaction.

        Raises:
            ConfigurationError: a name is unknown, or a value is not of its field's type.
            ScoringError: the gateway refuses the transaction, naming the field, or did not answer in time.
        """
        message = transaction_message(transaction)
        try:
            decision: scoring_pb2.Decision = self._stub.Score(message, timeout=self._timeout_s)
        except grpc.RpcError as error:
            raise _failure(error, self._target) from None
        return decision

    def score_stream(
        self, batches: Iterable[Sequence[Transaction]], timeout_s: float | None = None
    ) -> Iterator[tuple[int, list[Result]]]:
        """Decisions on batches, as they come: the number of a batch, from 0, and a result for each of its transactions.

        A stream that breaks is not mended; batches without an answer may be sent again in another.

        Args:
            batches: may be endless; gRPC takes from it as the gateway takes from gRPC, in a thread of its own.
            timeout_s: of the whole stream; None is without end.

        Raises:
            ConfigurationError: as `score`, once what was sent before is answered.
            ScoringError: the stream broke.
        """
        faults: list[Exception] = []
        call = self._stub.ScoreStream(_requests(batches, faults), timeout=timeout_s)
        try:
            for answer in call:
                yield answer.batch_id, _results(answer)
        except grpc.RpcError as error:
            raise _failure(error, self._target) from None
        finally:
            call.cancel()
        for fault in faults:
            raise fault

    def report_outcome(
        self,
        transaction_id: str,
        is_fraud: bool,
        label_time: datetime | int | None = None,
        reported_by: str | None = None,
    ) -> bool:
        """Tells what a transaction turned out to be; false where the same had been reported before.

        Args:
            label_time: when it became known, a datetime with its zone or UTC microseconds; None is now.
            reported_by: who says so.

        Raises:
            ConfigurationError: as `score`.
            ScoringError: the gateway does not know the transaction, refuses the report, or did not answer in time.
        """
        message = outcome_message(transaction_id, is_fraud, label_time, reported_by)
        try:
            receipt: scoring_pb2.OutcomeReceipt = self._stub.ReportOutcome(message, timeout=self._timeout_s)
        except grpc.RpcError as error:
            raise _failure(error, self._target) from None
        return receipt.recorded

    def close(self) -> None:
        """Ends the calls under way."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class AsyncClient:
    """`Client` for asyncio: the same arguments, methods and errors; made and used within one event loop."""

    def __init__(self, target: str, timeout_s: float = TIMEOUT_S) -> None:
        self._target = target
        self._timeout_s = timeout_s
        self._channel = grpc.aio.insecure_channel(target, _OPTIONS)
        self._stub = ScoringStub(self._channel)

    async def wait_until_ready(self) -> None:
        """See `Client`."""
        try:
            await asyncio.wait_for(self._channel.channel_ready(), self._timeout_s)
        except TimeoutError:
            raise _unreachable(self._target, self._timeout_s) from None

    async def score(self, transaction: Transaction) -> scoring_pb2.Decision:
        """See `Client`."""
        message = transaction_message(transaction)
        try:
            decision: scoring_pb2.Decision = await self._stub.Score(message, timeout=self._timeout_s)
        except grpc.RpcError as error:
            raise _failure(error, self._target) from None
        return decision

    async def score_stream(
        self,
        batches: Iterable[Sequence[Transaction]] | AsyncIterable[Sequence[Transaction]],
        timeout_s: float | None = None,
    ) -> AsyncIterator[tuple[int, list[Result]]]:
        """See `Client`; what batches come from may be asynchronous."""
        faults: list[Exception] = []
        call = self._stub.ScoreStream(_async_requests(batches, faults), timeout=timeout_s)
        try:
            async for answer in call:
                yield answer.batch_id, _results(answer)
        except grpc.RpcError as error:
            raise _failure(error, self._target) from None
        finally:
            call.cancel()
        for fault in faults:
            raise fault

    async def report_outcome(
        self,
        transaction_id: str,
        is_fraud: bool,
        label_time: datetime | int | None = None,
        reported_by: str | None = None,
    ) -> bool:
        """See `Client`."""
        message = outcome_message(transaction_id, is_fraud, label_time, reported_by)
        try:
            receipt: scoring_pb2.OutcomeReceipt = await self._stub.ReportOutcome(message, timeout=self._timeout_s)
        except grpc.RpcError as error:
            raise _failure(error, self._target) from None
        return receipt.recorded

    async def close(self) -> None:
        """See `Client`."""
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


def transaction_message(transaction: Transaction) -> scoring_pb2.Transaction:
    """A transaction as the scoring API has it.

    Raises:
        ConfigurationError: a name is unknown, or a value is not of its field's type; the message shows no value.
    """
    fields: dict[str, Any] = {}
    for name, value in transaction.items():
        if name not in _FIELDS:
            raise ConfigurationError(f"a transaction has no {name!r}; its columns are {', '.join(_FIELDS)}")
        if value is not None:
            fields[name] = _microseconds(name, value) if name == "event_time" else _checked(name, value)
    return scoring_pb2.Transaction(**fields)


def outcome_message(
    transaction_id: str, is_fraud: bool, label_time: datetime | int | None, reported_by: str | None
) -> scoring_pb2.OutcomeReport:
    """An outcome as the scoring API has it.

    Raises:
        ConfigurationError: a value is not of its field's type.
    """
    if type(is_fraud) is not bool:
        raise _mistyped("is_fraud", is_fraud, "True or False")
    return scoring_pb2.OutcomeReport(
        transaction_id=_text("transaction_id", transaction_id),
        is_fraud=is_fraud,
        label_time=None if label_time is None else _microseconds("label_time", label_time),
        reported_by=None if reported_by is None else _text("reported_by", reported_by),
    )


def _checked(name: str, value: Any) -> Any:
    """A value as its field takes it."""
    kind = _FIELDS[name]
    if kind == FieldDescriptor.TYPE_STRING:
        return _text(name, value)
    if kind == FieldDescriptor.TYPE_INT64:
        return _int64(name, value, "a whole number")
    # Text that looks like a number is still text.
    if not isinstance(value, (bool, str, bytes)):
        try:
            return float(value)
        except (TypeError, ValueError, OverflowError):
            pass
    raise _mistyped(name, value, "a number")


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _mistyped(name, value, "text")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ConfigurationError(f"{name} has half a surrogate pair; decode it from its bytes again") from None
    return value


def _microseconds(name: str, value: Any) -> int:
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ConfigurationError(f"{name} {value.isoformat()} has no zone; give one, such as datetime.UTC")
        return (value - _EPOCH) // timedelta(microseconds=1)
    return _int64(name, value, "a datetime or UTC microseconds")


def _int64(name: str, value: Any, wanted: str) -> int:
    try:
        whole = operator.index(value)
    except TypeError:
        raise _mistyped(name, value, wanted) from None
    if isinstance(value, bool):
        raise _mistyped(name, value, wanted)
    if not -(2**63) <= whole < 2**63:
        raise ConfigurationError(f"{name} does not fit into 64 bits; check its unit")
    return whole


def _mistyped(name: str, value: Any, wanted: str) -> ConfigurationError:
    # Never the value: in a field of another type it may be a card number.
    return ConfigurationError(f"{name} is of type {type(value).__name__}; it must be {wanted}")


def _batch(number: int, transactions: Sequence[Transaction]) -> scoring_pb2.ScoreBatch:
    return scoring_pb2.ScoreBatch(batch_id=number, transactions=[transaction_message(one) for one in transactions])


def _requests(batches: Iterable[Sequence[Transaction]], faults: list[Exception]) -> Iterator[scoring_pb2.ScoreBatch]:
    """The messages of a stream, which ends before the first fault: gRPC would hide what its thread raises."""
    try:
        for number, transactions in enumerate(batches):
            yield _batch(number, transactions)
    except Exception as error:
        faults.append(error)


async def _async_requests(
    batches: Iterable[Sequence[Transaction]] | AsyncIterable[Sequence[Transaction]], faults: list[Exception]
) -> AsyncIterator[scoring_pb2.ScoreBatch]:
    """See `_requests`."""
    try:
        if isinstance(batches, AsyncIterable):
            number = 0
            async for transactions in batches:
                yield _batch(number, transactions)
                number += 1
        else:
            for number, transactions in enumerate(batches):
                yield _batch(number, transactions)
    except Exception as error:
        faults.append(error)


def _results(answer: scoring_pb2.ScoreBatchResult) -> list[Result]:
    return [one.refusal if one.HasField("refusal") else one.decision for one in answer.results]


def _failure(error: grpc.RpcError, target: str) -> ScoringError:
    code, details = error.code().name, error.details() or "no details"
    # Pairs in both forms of gRPC, which its types do not say.
    metadata: Any = error.trailing_metadata() or ()
    field = next((value for name, value in metadata if name == "field"), "")
    return ScoringError(f"gateway {target} answers {code}: {details}", code, field)


def _unreachable(target: str, timeout_s: float) -> ScoringError:
    code = grpc.StatusCode.UNAVAILABLE.name
    return ScoringError(f"no gateway can be reached at {target} within {timeout_s:g} s; is it running there?", code)
