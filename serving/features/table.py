"""The port below the feature store: an ordered table of bytes, read and written in transactions."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol, TypeVar

from schemas.errors import FeatureStoreError

Row = tuple[bytes, bytes]
KeyRange = tuple[bytes, bytes]
Result = TypeVar("Result")

_TRIES = 100


class Range(NamedTuple):
    """Rows to read: those with `begin <= key < end`, in order.

    Attributes:
        begin: the first key.
        end: the key behind the last one.
        limit: no more than so many; None is all.
        last: from the end on, last first.
    """

    begin: bytes
    end: bytes
    limit: int | None = None
    last: bool = False


def one(key: bytes) -> Range:
    """The row of a key."""
    return Range(key, key + b"\0", 1)


# What reads a table says which ranges it needs next and is given their rows, so that many can read in one go.
Plan = Generator[Sequence[Range], list[list[Row]], Result]


class Conflict(Exception):
    """What a transaction has read was changed by another before it could write; nothing of it was written."""


class Table(Protocol):
    """Rows of (key, value) in order of their keys' bytes.

    Everything but `close` is called inside `transaction()`.

    Attributes:
        runs_out: whether rows that nobody writes for long vanish by themselves.
    """

    runs_out: bool

    def transaction(self) -> AbstractContextManager[None]:
        """All or nothing: what is written inside is seen by nobody before the end, and not at all after an error.

        Transactions of all threads and processes follow one another.

        Raises:
            Conflict: two of them came together, and this one has to begin again; a table that makes the others wait
                never raises it.
        """

    def read(self, ranges: Sequence[Range]) -> list[list[Row]]:
        """The rows of each range."""

    def write(self, rows: Iterable[Row], deleted: Iterable[KeyRange]) -> None:
        """Deletes the ranges `begin <= key < end`, then puts rows in the place of those with their keys."""

    def close(self) -> None:
        """Lets go of what the table holds open."""


def transact(table: Table, work: Callable[[], Result]) -> Result:
    """The result of some work as one transaction, begun again where others came between.

    Raises:
        FeatureStoreError: others always did.
    """
    for _ in range(_TRIES):
        try:
            with table.transaction():
                return work()
        except Conflict:
            continue
    raise FeatureStoreError(
        f"the feature store was changed by others in each of {_TRIES} tries; see how many write to it at once"
    )


def drive(table: Table, plan: Plan[Result]) -> Result:
    """Reads for a plan whatever it asks for."""
    try:
        wanted = next(plan)
        while True:
            wanted = plan.send(table.read(wanted))
    except StopIteration as done:
        result: Result = done.value
        return result


def together(plans: Sequence[Plan[Any]]) -> Plan[list[Any]]:
    """Several plans as one, which asks for what all of them need next; their results in order."""
    results: list[Any] = [None] * len(plans)
    waiting: list[tuple[int, Plan[Any], Sequence[Range]]] = []
    for place, plan in enumerate(plans):
        try:
            waiting.append((place, plan, next(plan)))
        except StopIteration as done:
            results[place] = done.value
    while waiting:
        rows = yield [range_ for _, _, wanted in waiting for range_ in wanted]
        still: list[tuple[int, Plan[Any], Sequence[Range]]] = []
        at = 0
        for place, plan, wanted in waiting:
            end = at + len(wanted)
            try:
                still.append((place, plan, plan.send(rows[at:end])))
            except StopIteration as done:
                results[place] = done.value
            at = end
        waiting = still
    return results
