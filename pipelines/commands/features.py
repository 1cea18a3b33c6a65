"""`fraudops features`: features in batch or as online, two results compared, a store warmed and given labels."""

import resource
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipelines import console
from pipelines.commands.consistency import consistency
from pipelines.options import microseconds, password_option, store_option
from schemas.transaction import SECOND_US

if TYPE_CHECKING:
    from rich.console import RenderableType

    from components.features.compare import Comparison


@click.group()
def command() -> None:
    """Compute the declared features of a log, compare two results, or warm a feature store and keep its labels up."""


command.add_command(consistency)


@command.command()
@click.option("--source", required=True, help="Name of the log's mapping, or the path of one (*.yaml).")
@click.option("--log", type=click.Path(path_type=Path), required=True, help="The transaction log, a file or a folder.")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The Parquet file to write."
)
@click.option(
    "--since",
    metavar="TIME",
    type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%SZ"]),
    help="Only transactions from 2024-03-01 or 2024-03-01T12:00:00Z on; earlier ones are their features' past.",
)
@click.option(
    "--beam-arg",
    "beam_args",
    multiple=True,
    help="An option of the Beam pipeline, such as --beam-arg=--runner=FlinkRunner; may be repeated.",
)
@console.workspace_option
@console.json_option
def build(
    source: str, log: Path, out: Path, since: datetime | None, beam_args: tuple[str, ...], workspace: Path
) -> console.Reply:
    """Write the features of every transaction of a log, or of the latest, in event-time order."""
    import pyarrow.parquet as pq

    from components.features import build_feature_table
    from components.features.reach import covers, history_begins_us
    from components.features.table import IN_MEMORY
    from components.ingest import excess, ingest
    from pipelines.workspace import Workspace
    from schemas import sources
    from schemas.errors import ConfigurationError
    from schemas.features import specify

    began = time.monotonic()
    mapping = sources.load(source)
    spec = specify(mapping.provided)
    key = Workspace.at(workspace).card_key() if mapping.card_id_is == "number" else None
    since_us = None if since is None else int(since.replace(tzinfo=UTC).timestamp()) * SECOND_US
    console.say(f"reading {log}")
    result = ingest(log, mapping, key)
    if reason := excess(result.report, mapping):
        return console.Reply({"rows": 0, "reason": reason}, human=reason, passed=False)
    history: dict[str, object] = {}
    if since_us is not None and result.transactions.num_rows:
        needed_us = history_begins_us(spec, since_us, mapping.label_delay_s)
        needed, whole = _utc(needed_us), covers(result.transactions, needed_us)
        history = {"history_from": needed, "history_whole": whole}
        console.say(f"the log has to be whole from {needed} on")
        if not whole:
            begins = _utc(result.transactions["event_time"][0].value)
            console.say(f"warning: it begins at {begins}; where transactions before that are left out, features differ")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
        transactions = Path(folder) / "transactions.parquet"
        pq.write_table(result.transactions, transactions)
        bad = result.report.read - result.transactions.num_rows
        del result
        console.say(f"computing {len(spec.features)} features")
        if spec.left_out:
            console.say(f"{mapping.source} lacks the columns for {len(spec.left_out)}: {', '.join(spec.left_out)}")
        try:
            rows = build_feature_table(transactions, out, spec, beam_args=beam_args or IN_MEMORY, since_us=since_us)
        except (RuntimeError, ValueError) as error:
            if not beam_args:
                raise
            # What a runner says of its options, its job server or its cluster; ours are errors of other kinds.
            raise ConfigurationError(f"Beam could not run with {' '.join(beam_args)}: {error}") from error
    fields = {
        "rows": rows,
        "features": len(spec.features),
        **history,
        "seconds": time.monotonic() - began,
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    return console.Reply(fields, human=f"{len(spec.features)} features of {rows:,} rows in {out} ({bad:,} bad rows)")


def _utc(micros: int) -> str:
    return datetime.fromtimestamp(micros // SECOND_US, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@command.command()
@click.option("--source", required=True, help="Name of the log's mapping, or the path of one (*.yaml).")
@click.option("--log", type=click.Path(path_type=Path), required=True, help="The transaction log, a file or a folder.")
@store_option
@password_option
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The Parquet file to write."
)
@click.option(
    "--limit", type=click.IntRange(min=1), help="Only the first transactions of the log, in event-time order."
)
@console.workspace_option
@console.json_option
def replay(
    source: str,
    log: Path,
    store: str,
    password_file: Path | None,
    out: Path,
    limit: int | None,
    workspace: Path,
) -> console.Reply:
    """Write the same features as `build`, through a new store of the gateway's kind, event by event."""
    from pipelines.replay import read_log, write_replay
    from pipelines.workspace import Workspace
    from serving.features import address_of

    began = time.monotonic()
    read = read_log(source, log, workspace)
    if read.refused:
        return console.Reply({"rows": 0, "reason": read.refused}, human=read.refused, passed=False)
    address = address_of(store, Workspace.at(workspace).feature_store(read.source), read.source, password_file)
    timing = write_replay(read.transactions.slice(0, limit), out, read.spec, address)
    fields = {
        "rows": timing.rows,
        "features": len(read.spec.features),
        "seconds": time.monotonic() - began,
        "observe_ms": {"p50": timing.p50_ms, "p99": timing.p99_ms},
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    human = f"{len(read.spec.features)} features of {timing.rows:,} rows in {out}; "
    human += f"one transaction took {timing.p50_ms:.2f} ms (median), {timing.p99_ms:.2f} ms (99 of 100 took no longer)"
    return console.Reply(fields, human=human)


@command.command()
@click.option("--source", required=True, help="Name of the log's mapping, or the path of one (*.yaml).")
@click.option("--log", type=click.Path(path_type=Path), required=True, help="The transaction log, a file or a folder.")
@store_option
@password_option
@console.workspace_option
@console.json_option
def load(source: str, log: Path, store: str, password_file: Path | None, workspace: Path) -> console.Reply:
    """Warm the source's feature store from a log; it must not be there yet."""
    from pipelines.replay import load_store, read_log
    from pipelines.workspace import Workspace
    from serving.features import EmbeddedStore, address_of

    began = time.monotonic()
    read = read_log(source, log, workspace)
    if read.refused:
        return console.Reply({"rows": 0, "reason": read.refused}, human=read.refused, passed=False)
    address = address_of(store, Workspace.at(workspace).feature_store(read.source), read.source, password_file)
    rows = load_store(read.transactions, address, read.spec)
    fields = {"rows": rows, "store": str(address), "seconds": time.monotonic() - began}
    if isinstance(address, EmbeddedStore):
        fields["bytes"] = address.path.stat().st_size
    return console.Reply(fields, human=f"{rows:,} transactions in {address}")


@command.command()
@click.option("--source", required=True, help="Name of the log's mapping, or the path of one (*.yaml).")
@click.option(
    "--log",
    type=click.Path(path_type=Path),
    required=True,
    help="A transaction log with the labels, a file or a folder; it has all that became known before its last one.",
)
@store_option
@password_option
@click.option(
    "--until",
    metavar="TIME",
    help="Only labels known by then, as ISO 8601, UTC without a zone; the time of the transactions that come next.  "
    "[default: now]",
)
@console.workspace_option
@console.json_option
def label(
    source: str, log: Path, store: str, password_file: Path | None, until: str | None, workspace: Path
) -> console.Reply:
    """Give the source's feature store the labels that became known since its load, or since the last time."""
    from dataclasses import asdict

    from pipelines.labelling import label_store
    from pipelines.replay import read_log
    from pipelines.workspace import Workspace
    from serving.features import address_of

    began = time.monotonic()
    until_us = None if until is None else microseconds(until, "--until")
    read = read_log(source, log, workspace)
    if read.refused:
        return console.Reply({"added": 0, "reason": read.refused}, human=read.refused, passed=False)
    place = Workspace.at(workspace)
    address = address_of(store, place.feature_store(read.source), read.source, password_file)
    found = label_store(
        read.transactions, address, read.spec, place.decisions, until_us, lambda: time.time_ns() // 1_000, time.sleep
    )
    fields = {**asdict(found), "store": str(address), "seconds": time.monotonic() - began}
    human = (
        f"{found.added:,} labels more in {address}; left out: {found.decided:,} of decided transactions, "
        f"{found.outdated:,} that no window reaches back to, {found.ahead:,} that become known later"
    )
    return console.Reply(fields, human=human)


@command.command()
@click.argument("first", type=click.Path(path_type=Path, dir_okay=False), metavar="A")
@click.argument("second", type=click.Path(path_type=Path, dir_okay=False), metavar="B")
@console.json_option
def compare(first: Path, second: Path) -> console.Reply:
    """Compare two feature files by transaction; exit 1 where they disagree or share no row."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from components.features.compare import compare as compare_tables
    from schemas.errors import ArtifactError

    def read(path: Path) -> pa.Table:
        try:
            return pq.read_table(path)
        except (OSError, pa.ArrowInvalid) as error:
            raise ArtifactError(f"{path} cannot be read as Parquet ({error}); give a file of features") from error

    found = compare_tables(read(first), read(second))
    fields = {
        "rows": found.rows,
        "only_in_first": found.only_first,
        "only_in_second": found.only_second,
        "columns_only_in_one": found.columns_only_in_one,
        "largest_difference": {name: feature.largest for name, feature in found.features.items()},
        "disagreements": {name: f.disagreements for name, f in found.features.items() if f.disagreements},
    }
    return console.Reply(fields, human=_rendered(found), passed=found.agree)


def _rendered(found: "Comparison") -> "RenderableType":
    from rich.console import Group
    from rich.table import Table

    lines = [f"{found.rows:,} rows in both, {found.only_first:,} only in A, {found.only_second:,} only in B"]
    lines += [f"only in one of them: {column}" for column in found.columns_only_in_one]
    apart = Table("feature", "largest difference", "rows that disagree", "such as", box=None)
    for name, feature in found.features.items():
        if feature.largest or feature.disagreements:
            apart.add_row(name, f"{feature.largest:g}", f"{feature.disagreements:,}", feature.example or "-")
    verdict = "they agree" if found.agree else "they disagree"
    return Group(*lines, *([apart] if apart.row_count else []), verdict)
