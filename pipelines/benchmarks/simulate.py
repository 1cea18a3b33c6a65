"""The simulator: how many transactions it makes per second, in memory."""

from __future__ import annotations

from components import simulator
from pipelines.benchmarks.comparison import Contest, Result, alone
from pipelines.benchmarks.logs import SEED, SPAN_DAYS, cards_for

GOAL = "100,000 transactions/s"


def benchmark(rows: int, runs: int) -> Result:
    """Times the simulation of about so many transactions; writing them to a file does not count."""
    cards = cards_for(rows)
    made = simulator.simulate(cards, SPAN_DAYS, SEED).num_rows
    ours = alone(made, lambda: simulator.simulate(cards, SPAN_DAYS, SEED), runs)
    return Result("simulate", Contest(ours, {}), GOAL, file_reading=False)
