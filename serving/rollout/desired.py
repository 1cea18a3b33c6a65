"""What the model servers should serve, and what they say of a version: the words between controller and servers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

AVAILABLE = "AVAILABLE"
END = "END"
UNKNOWN = "UNKNOWN"


@dataclass(frozen=True)
class Desired:
    """What every model server should serve.

    Attributes:
        versions: that are loaded; no others are.
        labels: to the version that each names, one of `versions`; no other label names anything.
    """

    versions: frozenset[int] = frozenset()
    labels: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for label, version in self.labels.items():
            if version not in self.versions:
                raise ValueError(f"label {label!r} names version {version}, which is none of {sorted(self.versions)}")


@dataclass(frozen=True)
class VersionState:
    """What one server says of a version.

    Attributes:
        state: START, LOADING, AVAILABLE, UNLOADING or END, as TensorFlow Serving names them; UNKNOWN where the server
            never heard of it.
        error: why it cannot be loaded; empty where nothing went wrong.
    """

    state: str
    error: str = ""

    @property
    def failed(self) -> bool:
        """Whether the server tried to load it and could not."""
        return self.state == END and bool(self.error)


class Servers(Protocol):
    """All model servers of one model; what they serve is asked of them each time, because a restarted one forgets.

    Every call may raise a ModelServerError.
    """

    def apply(self, desired: Desired) -> None:
        """Goes as far towards `desired` as each server can now; to be called again until nothing is `missing`."""
        ...

    def missing(self, desired: Desired) -> tuple[str, ...]:
        """What is not yet as desired, as sentences; none when all servers serve exactly that."""
        ...

    def states(self, version: int) -> Mapping[str, VersionState]:
        """Address to what that server says of a version."""
        ...
