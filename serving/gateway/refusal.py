"""A refusal with its gRPC code: what a caller is told instead of a decision."""

from __future__ import annotations

import grpc

from schemas.errors import RefusedTransaction
from schemas.masking import mask


class Refusal(Exception):
    """A call is not answered, or a transaction not decided.

    Attributes:
        code: the status of the call.
        message: what is wrong, where, and what to do.
        field: of the request, the field that is wrong; empty where none is.
    """

    def __init__(self, code: grpc.StatusCode, message: str, field: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.field = field


def at_the_door(refused: RefusedTransaction) -> Refusal:
    """INVALID_ARGUMENT: a field cannot be admitted."""
    return invalid(refused.field, str(refused))


def invalid(field: str, message: str) -> Refusal:
    """INVALID_ARGUMENT, naming the field."""
    return Refusal(grpc.StatusCode.INVALID_ARGUMENT, message, field)


def decided_otherwise(transaction_id: str) -> Refusal:
    """ALREADY_EXISTS: the id belongs to another transaction."""
    return Refusal(
        grpc.StatusCode.ALREADY_EXISTS,
        f"transaction_id {mask(transaction_id)!r} was decided with other content; send each transaction under an id of "
        "its own, and the same one again unchanged",
        "transaction_id",
    )


def unknown(transaction_id: str) -> Refusal:
    """NOT_FOUND: nothing was decided under the id."""
    return Refusal(
        grpc.StatusCode.NOT_FOUND,
        f"transaction_id {mask(transaction_id)!r} was never decided here; report outcomes of scored transactions",
        "transaction_id",
    )


def overloaded(waiting: int) -> Refusal:
    """RESOURCE_EXHAUSTED: too much is in work."""
    return Refusal(
        grpc.StatusCode.RESOURCE_EXHAUSTED, f"{waiting} transactions are in work already; try again a little later"
    )


def expired() -> Refusal:
    """DEADLINE_EXCEEDED: nobody waits for the answer any more."""
    return Refusal(
        grpc.StatusCode.DEADLINE_EXCEEDED, "the deadline passed while the transaction waited; it was not decided"
    )


def unavailable(message: str) -> Refusal:
    """UNAVAILABLE: a part that is needed for any answer does not work; another try may succeed."""
    return Refusal(grpc.StatusCode.UNAVAILABLE, message)
