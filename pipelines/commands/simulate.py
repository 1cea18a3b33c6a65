"""`fraudops simulate`: write a simulated transaction log."""

import time
from datetime import UTC, datetime
from pathlib import Path

import click

from components import simulator
from pipelines import console


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="File to write: .parquet, .csv or .jsonl.")
@click.option("--cards", type=int, required=True, help="Cards; each pays about 1.8 times a day.")
@click.option("--days", type=int, required=True, help="Length of the log.")
@click.option("--seed", type=int, required=True, help="The same arguments give the same file.")
@click.option(
    "--start",
    type=click.DateTime(["%Y-%m-%d"]),
    default=f"{simulator.START:%Y-%m-%d}",
    show_default=True,
    help="First day, UTC; a later one goes on with the same cards and merchants.",
)
@console.json_option
def command(out: Path, cards: int, days: int, seed: int, start: datetime) -> console.Reply:
    """Write a simulated transaction log with six kinds of fraud in it."""
    began = time.perf_counter()
    simulator.check_target(out)
    console.say(f"simulating {cards:,} cards over {days:,} days")
    log = simulator.simulate(cards, days, seed, start.replace(tzinfo=UTC))
    console.say(f"writing {log.num_rows:,} transactions to {out}")
    simulator.write(log, out)
    frauds = simulator.frauds_by_kind(log)
    seconds = time.perf_counter() - began
    return console.Reply(
        {"rows": log.num_rows, "frauds": frauds, "seconds": round(seconds, 3)},
        human=f"{log.num_rows:,} transactions, {sum(frauds.values()):,} of them frauds, in {seconds:.1f} s: {out}",
    )
