"""`fraudops bench`: measures a part beside the usual ways of doing the same."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipelines import console

if TYPE_CHECKING:
    import pyarrow as pa
    from rich.console import RenderableType

    from pipelines.benchmarks.comparison import Result
    from pipelines.benchmarks.dataplane import Plane
    from pipelines.benchmarks.gateway import Load
    from pipelines.benchmarks.machine import Machine
    from pipelines.benchmarks.online_features import Pace
    from schemas.sources import SourceMapping

_runs_option = click.option(
    "--runs", type=click.IntRange(min=1), default=3, show_default=True, help="Runs of each side; the median counts."
)

_epochs_option = click.option(
    "--epochs",
    type=click.IntRange(min=1),
    show_default="as many as a training has",
    help="Passes over the training rows to time.",
)


def _log_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say which transactions to measure with; see `_transactions`."""
    for option in (
        click.option("--source", help="Name of the log's mapping, or the path of one (*.yaml)."),
        click.option(
            "--log", type=click.Path(path_type=Path), help="A transaction log; without one, rows are simulated."
        ),
        click.option("--rows", type=click.IntRange(min=1), help="Rows of the log to take, or to simulate (200,000)."),
    ):
        function = option(function)
    return function


def _transactions(rows: int | None, log: Path | None, source: str | None) -> tuple[pa.Table, SourceMapping]:
    from pipelines.benchmarks import logs

    if (log is None) != (source is None):
        raise click.UsageError("--log and --source belong together: give both, or neither to simulate")
    if log is None or source is None:
        return logs.simulated(rows or 200_000)
    console.say(f"reading {log}")
    return logs.read(log, source, rows)


@click.group(invoke_without_command=True)
@console.json_option
@click.pass_context
def command(context: click.Context) -> console.Reply | None:
    """Measure how fast a part is beside its peers, or list the benchmarks."""
    if context.invoked_subcommand is not None:
        return None
    lines = {name: benchmark.get_short_help_str(100) for name, benchmark in command.commands.items()}
    return console.Reply({"benchmarks": lines}, "\n".join(f"{name:16}{line}" for name, line in lines.items()))


@command.command()
@_log_options
@_runs_option
@console.json_option
def features(rows: int | None, log: Path | None, source: str | None, runs: int) -> console.Reply:
    """Window features in memory, beside pandas and Polars."""
    from pipelines.benchmarks import features
    from pipelines.benchmarks.machine import this_machine

    machine = this_machine()
    transactions, mapping = _transactions(rows, log, source)
    console.say(f"computing features of {transactions.num_rows:,} transactions, {runs + 1} times by each side")
    return _reply(features.benchmark(transactions, mapping, runs), machine)


@command.command("features-build")
@_log_options
@click.option(
    "--copies", type=click.IntRange(min=2), default=10, show_default=True, help="How many to build at once, after one."
)
@console.json_option
def features_build(rows: int | None, log: Path | None, source: str | None, copies: int) -> console.Reply:
    """All declared features, from file to file, of a log and copies."""
    from pipelines.benchmarks import features_build
    from pipelines.benchmarks.machine import this_machine

    machine = this_machine()
    transactions, mapping = _transactions(rows, log, source)
    with tempfile.TemporaryDirectory(prefix="fraudops-bench.") as folder:
        return _reply(features_build.benchmark(transactions, mapping, copies, Path(folder), console.say), machine)


@command.command()
@click.option("--rows", type=click.IntRange(min=1), default=200_000, show_default=True, help="Rows to simulate, about.")
@click.option("--ours-only", is_flag=True, help="Leave stock TFX out.")
@click.option(
    "--declaration/--no-declaration",
    default=True,
    show_default=True,
    help="Time the training pipeline up to its Transform, with all declared features, too.",
)
@console.json_option
def dataplane(rows: int, ours_only: bool, declaration: bool) -> console.Reply:
    """From a CSV file to a transform graph, beside stock TFX."""
    from pipelines.benchmarks import dataplane
    from pipelines.benchmarks.machine import this_machine

    machine = this_machine()
    with tempfile.TemporaryDirectory(prefix="fraudops-bench.") as folder:
        result = dataplane.benchmark(rows, not ours_only, declaration, Path(folder), console.say)
    return _reply(result, machine, _planes(result.planes))


def _planes(planes: Sequence[Plane]) -> RenderableType:
    from rich.table import Table

    table = Table("", "columns", "profiled rows", "peak MiB", "seconds by step", box=None)
    for plane in planes:
        steps = ", ".join(f"{name} {seconds:.1f}" for name, seconds in plane.steps.items())
        table.add_row(plane.side, f"{plane.columns}", f"{plane.profiled_rows:,}", f"{plane.peak_mib:,.0f}", steps)
    return table


@command.command("training-input")
@click.option("--rows", type=click.IntRange(min=1), default=200_000, show_default=True, help="Rows to simulate, about.")
@_epochs_option
@_runs_option
@console.json_option
def training_input(rows: int, epochs: int | None, runs: int) -> console.Reply:
    """The trainer's input beside stock TFX's gzipped records."""
    from pipelines.benchmarks.machine import this_machine
    from pipelines.quiet import quiet

    machine = this_machine()
    console.say("loading TensorFlow and TFX")
    with quiet(), tempfile.TemporaryDirectory(prefix="fraudops-bench.") as folder:
        from pipelines.benchmarks import logs, training_input
        from schemas.features import specify

        transactions, mapping = logs.simulated(rows)
        console.say(f"writing features of {transactions.num_rows:,} transactions both ways, then reading them")
        spec = specify(mapping.provided)
        return _reply(training_input.benchmark(transactions, spec, epochs, runs, Path(folder)), machine)


@command.command()
@_log_options
@_epochs_option
@_runs_option
@console.json_option
def training(rows: int | None, log: Path | None, source: str | None, epochs: int | None, runs: int) -> console.Reply:
    """Training, beside stock TFX's input with fit, and XGBoost."""
    from pipelines.benchmarks.machine import this_machine
    from pipelines.quiet import quiet

    machine = this_machine()
    transactions, mapping = _transactions(rows, log, source)
    console.say("loading TensorFlow and TFX")
    with quiet(), tempfile.TemporaryDirectory(prefix="fraudops-bench.") as folder:
        from pipelines.benchmarks import training

        console.say(f"writing features of {transactions.num_rows:,} transactions both ways, then training on them")
        return _reply(training.benchmark(transactions, mapping, epochs, runs, Path(folder)), machine)


@command.command("online-features")
@click.option(
    "--keys", type=click.IntRange(min=1), default=1_000_000, show_default=True, help="Keys that are present, about."
)
@click.option(
    "--transactions", type=click.IntRange(min=1), default=20_000, show_default=True, help="Transactions to observe."
)
@click.option("--redis", metavar="URL", help="A Redis server to measure with; without one, redis-server is started.")
@console.json_option
def online_features(keys: int, transactions: int, redis: str | None) -> console.Reply:
    """The feature store with many keys, embedded and in Redis."""
    from pipelines.benchmarks import online_features
    from pipelines.benchmarks.machine import this_machine

    machine = this_machine()
    with tempfile.TemporaryDirectory(prefix="fraudops-bench.") as folder:
        result = online_features.benchmark(keys, transactions, redis, Path(folder), console.say)
    return _reply(result, machine, _paces(result.paces))


def _paces(paces: Sequence[Pace]) -> RenderableType:
    from rich.table import Table

    table = Table("store", "p50 ms", "p99 ms", "p99.9 ms", "label p99 ms", "load s", "MiB", box=None)
    for pace in paces:
        times = [*pace.observe_ms.values(), pace.label_ms["p99"]]
        table.add_row(pace.store, *(f"{ms:.2f}" for ms in times), f"{pace.load_s:.0f}", f"{pace.bytes / 2**20:,.0f}")
    return table


@command.command()
@click.option(
    "--rows", type=click.IntRange(min=1), default=1_000_000, show_default=True, help="Rows to simulate, about."
)
@_runs_option
@console.json_option
def simulate(rows: int, runs: int) -> console.Reply:
    """The simulator alone, in memory."""
    from pipelines.benchmarks import simulate
    from pipelines.benchmarks.machine import this_machine

    machine = this_machine()
    console.say(f"simulating about {rows:,} transactions {runs + 1} times")
    return _reply(simulate.benchmark(rows, runs), machine)


@command.command()
@click.option(
    "--rate",
    "rates",
    type=click.FloatRange(0, min_open=True),
    multiple=True,
    default=(200, 500, 800),
    show_default=True,
    help="Transactions per second of an open loop; may be repeated.",
)
@click.option(
    "--seconds", type=click.FloatRange(0, min_open=True), default=20.0, show_default=True, help="Of each open loop."
)
@click.option(
    "--calls", type=click.IntRange(min=1), default=5_000, show_default=True, help="Of each closed loop and each peer."
)
@console.json_option
def gateway(rates: tuple[float, ...], seconds: float, calls: int) -> console.Reply:
    """Score calls through the gateway beside its model server alone."""
    from pipelines.benchmarks.machine import this_machine
    from pipelines.quiet import quiet

    machine = this_machine()
    console.say("loading TensorFlow and TFX")
    with quiet(), tempfile.TemporaryDirectory(prefix="fraudops-bench.") as folder:
        from pipelines.benchmarks import gateway

        result = gateway.benchmark(rates, seconds, calls, Path(folder), console.say)
        return _reply(result, machine, _loads(result.loads))


def _loads(loads: Sequence[Load]) -> RenderableType:
    from rich.table import Table

    columns = ("due/s", "in flight", "ended/s", "p50 ms", "p99 ms", "p99.9 ms", "calls", "errors", "degraded")
    table = Table(*columns, box=None)
    for load in loads:
        table.add_row(
            "-" if load.offered_per_s is None else f"{load.offered_per_s:,.0f}",
            f"{load.in_flight:,}",
            f"{load.rate_per_s:,.0f}",
            *(f"{value:.1f}" for value in (load.p50_ms, load.p99_ms, load.p999_ms)),
            *(f"{count:,}" for count in (load.calls, load.errors, load.degraded)),
        )
    return table


def _reply(result: Result, machine: Machine, more: RenderableType | None = None) -> console.Reply:
    from rich.console import Group

    human = Group(*([more] if more is not None else []), _table(result, machine))
    return console.Reply({**result.fields(), "machine": asdict(machine)}, human=human)


def _table(result: Result, machine: Machine) -> RenderableType:
    from rich.console import Group
    from rich.table import Table

    table = Table("", "", "seconds", "rows/s", "ours is", box=None)
    for what, contest in {result.benchmark: result.contest, **result.further}.items():
        rows = contest.ours.rows
        for name, timing in {"ours": contest.ours, **contest.peers}.items():
            ratio = contest.ratios.get(name)
            beside = "" if ratio is None else f"{ratio:.{1 if ratio >= 1 else 3}f} times as fast"
            first = what.replace("_", " ") if name == "ours" else ""
            table.add_row(first, name, f"{timing.seconds:.3f}", f"{rows / timing.seconds:,.0f}", beside)
    facts = [
        f"{result.contest.ours.rows:,} rows",
        *(f"{name.replace('_', ' ')} {value:,.4g}" for name, value in result.facts.items()),
        f"file reading {'counts' if result.file_reading else 'does not count'}",
    ]
    load = " ".join(f"{value:.2f}" for value in machine.load_average)
    return Group(
        table,
        ", ".join(facts),
        f"goal: {result.goal}",
        f"{machine.cores} cores, {machine.memory_gib} GiB, {machine.cpu}; load average before {load}",
    )
