"""A refusal with its gRPC code: the answers of the API itself, which are neither bugs nor errors of a command line."""

from __future__ import annotations

import grpc

OK = 0
_CODES = {code.value[0]: code for code in grpc.StatusCode}


class Refusal(Exception):
    """A request cannot be answered, or a version cannot be loaded: the status that TensorFlow Serving gives it."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    @property
    def number(self) -> int:
        """The code as gRPC and TensorFlow number it."""
        number: int = self.code.value[0]
        return number


def invalid(message: str) -> Refusal:
    """INVALID_ARGUMENT."""
    return Refusal(grpc.StatusCode.INVALID_ARGUMENT, message)


def not_found(message: str) -> Refusal:
    """NOT_FOUND."""
    return Refusal(grpc.StatusCode.NOT_FOUND, message)


def failed_precondition(message: str) -> Refusal:
    """FAILED_PRECONDITION."""
    return Refusal(grpc.StatusCode.FAILED_PRECONDITION, message)


def of_tensorflow(number: int, message: str) -> Refusal:
    """The refusal for an error that TensorFlow raised; the two number their codes alike."""
    return Refusal(_CODES.get(number, grpc.StatusCode.UNKNOWN), message)
