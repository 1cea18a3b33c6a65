"""A process that gives labels of a log to a store, and stops amid it until somebody ends it.

python -m tests.pipelines.labeller LOG UNTIL_US CALLS FILE
python -m tests.pipelines.labeller LOG UNTIL_US CALLS URL NAME

LOG is a Parquet file of canonical columns; FILE is an embedded store, URL a server that has one of that name.  The
process says when it asks for the time as often as CALLS tells, and goes no further.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pyarrow.parquet as pq

from pipelines.labelling import label_store
from serving.features import EmbeddedStore, RedisStore, StoreAddress
from tests.pipelines.decided import SPEC


class StoppingClock:
    """The time, so many times."""

    def __init__(self, calls: int) -> None:
        self._left = calls

    def __call__(self) -> int:
        self._left -= 1
        if self._left == 0:
            print("stopped", flush=True)
            sys.stdin.read()
        return time.time_ns() // 1_000


def main(log: str, until_us: str, calls: str, place: str, name: str | None = None) -> None:
    """Labels until the clock stops, or to the end."""
    address: StoreAddress = EmbeddedStore(Path(place)) if name is None else RedisStore(place, name)
    clock = StoppingClock(int(calls))
    label_store(pq.read_table(log), address, SPEC, Path("-"), int(until_us), clock, lambda _: None)


if __name__ == "__main__":
    main(*sys.argv[1:])
