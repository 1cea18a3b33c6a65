"""Timing several ways of computing one thing: in turns, in one process, and only when their results agree."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from schemas.errors import BenchmarkError

Columns = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Side:
    """One way of computing a thing.

    Attributes:
        run: does all that is timed and returns what it computed.
        columns: what `run` returned as numbers by name, in an order that all sides share; not timed.
    """

    run: Callable[[], Any]
    columns: Callable[[Any], Columns]


@dataclass(frozen=True)
class Timing:
    """How long one side took.

    Attributes:
        rows: what one run takes in.
        first_s: seconds of the first run, which compiles and fills caches and counts for nothing else.
        runs_s: seconds of the runs that count.
    """

    rows: int
    first_s: float
    runs_s: tuple[float, ...]

    @property
    def seconds(self) -> float:
        return statistics.median(self.runs_s)

    def fields(self) -> dict[str, object]:
        """Seconds (the median), rows per second, and the seconds of every run."""
        return {"seconds": self.seconds, "rows_per_s": self.rows / self.seconds, "runs": self.runs_s}


@dataclass(frozen=True)
class Contest:
    """Our side and its peers by name (none where nothing comparable exists), timed over the same rows.

    The first of the peers is the one that the benchmark is about.
    """

    ours: Timing
    peers: Mapping[str, Timing]

    @property
    def ratios(self) -> dict[str, float]:
        """How many times as fast as each peer our side is."""
        return {name: peer.seconds / self.ours.seconds for name, peer in self.peers.items()}

    def fields(self) -> dict[str, object]:
        return {
            "ours": self.ours.fields(),
            "peers": {name: peer.fields() for name, peer in self.peers.items()},
            "ratio": next(iter(self.ratios.values()), None),
            "ratios": self.ratios,
        }


@dataclass(frozen=True)
class Result:
    """What a benchmark found.

    Attributes:
        benchmark: its name.
        contest: the figures.
        goal: what our side ought to reach.
        file_reading: whether the time of reading files counts.
        further: figures of related work by name.
        facts: numbers by name that the figures depend on.
    """

    benchmark: str
    contest: Contest
    goal: str
    file_reading: bool
    further: Mapping[str, Contest] = field(default_factory=dict)
    facts: Mapping[str, float] = field(default_factory=dict)

    def fields(self) -> dict[str, object]:
        return {
            "benchmark": self.benchmark,
            "rows": self.contest.ours.rows,
            **self.contest.fields(),
            "goal": self.goal,
            "file_reading": self.file_reading,
            **{name: contest.fields() for name, contest in self.further.items()},
            **self.facts,
        }


def take_turns(
    rows: int,
    ours: Side,
    peers: Mapping[str, Side],
    runs: int,
    tolerance: float = 1e-9,
    clock: Callable[[], float] = time.perf_counter,
) -> Contest:
    """Runs every side once, compares the results, then times the sides in turns, so that noise hits all alike.

    Args:
        rows: what one run of each side takes in.
        ours: what each peer is compared with.
        peers: by name.
        runs: runs of each side that count, 1 or more.
        tolerance: by how much numbers may differ, relative or (a thousandth of it) absolute; NaN equals NaN only.
        clock: seconds.

    Raises:
        BenchmarkError: two sides computed different things.
    """
    our_first, result = _clocked(ours.run, clock)
    expected, firsts = ours.columns(result), {}
    for name, peer in peers.items():
        firsts[name], result = _clocked(peer.run, clock)
        check_agreement(name, peer.columns(result), expected, tolerance)
    del result, expected
    our_runs: list[float] = []
    peer_runs: dict[str, list[float]] = {name: [] for name in peers}
    for _ in range(runs):
        our_runs.append(_clocked(ours.run, clock)[0])
        for name, peer in peers.items():
            peer_runs[name].append(_clocked(peer.run, clock)[0])
    return Contest(
        Timing(rows, our_first, tuple(our_runs)),
        {name: Timing(rows, firsts[name], tuple(peer_runs[name])) for name in peers},
    )


def alone(rows: int, run: Callable[[], object], runs: int, clock: Callable[[], float] = time.perf_counter) -> Timing:
    """Times what has no peers: one run that only warms up, then those that count."""
    first = _clocked(run, clock)[0]
    return Timing(rows, first, tuple(_clocked(run, clock)[0] for _ in range(runs)))


def _clocked(run: Callable[[], Any], clock: Callable[[], float]) -> tuple[float, Any]:
    """Seconds of one run and what it returned, which is thus not freed while the clock runs."""
    began = clock()
    result = run()
    return clock() - began, result


def check_agreement(side: str, found: Columns, expected: Columns, tolerance: float) -> None:
    """Checks that a side computed the columns that are expected.

    Raises:
        BenchmarkError: it did not; names the first column and row that differ.
    """
    if found.keys() != expected.keys():
        raise BenchmarkError(
            f"{side} computed {sorted(found)} where {sorted(expected)} is expected; times of different work "
            "cannot be compared"
        )
    for name, values in expected.items():
        if found[name].shape != values.shape:
            raise BenchmarkError(f"{side} computed {found[name].shape} values of {name}; expected are {values.shape}")
        same = np.isclose(found[name], values, rtol=tolerance, atol=tolerance / 1_000, equal_nan=True)
        if not same.all():
            row = int(np.argmin(same))
            raise BenchmarkError(
                f"{side} disagrees on {name} in {np.count_nonzero(~same):,} of {same.size:,} rows, first in row {row}: "
                f"{found[name][row]} where {values[row]} is expected; one of the two is wrong, so no time is given"
            )
