"""`fraudops features consistency`: compares what decisions were made on with what batch computes."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipelines import console

if TYPE_CHECKING:
    from rich.console import RenderableType

    from pipelines.consistency import Findings


@click.command()
@click.option("--source", required=True, help="Name of the log's mapping, or the path of one (*.yaml).")
@click.option(
    "--log",
    "logs",
    type=click.Path(path_type=Path),
    multiple=True,
    help="What the store was loaded from, a file or a folder; several times, or never where it began empty.",
)
@click.option(
    "--since", metavar="TIME", help="Decisions from then on, as ISO 8601, UTC without a zone.  [default: all]"
)
@click.option("--until", metavar="TIME", help="Decisions before then.  [default: now]")
@click.option(
    "--alarm",
    type=click.FloatRange(0, 1),
    default=0.001,
    show_default=True,
    help="Exit 1 where a larger share of a feature's values disagrees.",
)
@click.option(
    "--metrics-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the rates for node_exporter's textfile collector, as *.prom.",
)
@console.workspace_option
@console.json_option
def consistency(
    source: str,
    logs: tuple[Path, ...],
    since: str | None,
    until: str | None,
    alarm: float,
    metrics_file: Path | None,
    workspace: Path,
) -> console.Reply:
    """Compare the features that decisions were made on with a batch recomputation; exit 1 above the alarm."""
    from pipelines.consistency import compare_decisions, write_metrics
    from pipelines.replay import read_log
    from pipelines.workspace import Workspace
    from schemas import sources
    from schemas.features import specify

    began, now_s = time.monotonic(), time.time()
    since_us = 0 if since is None else _microseconds(since, "--since")
    until_us = int(now_s * 1e6) if until is None else _microseconds(until, "--until")
    mapping = sources.load(source)
    history = []
    for log in logs:
        read = read_log(source, log, workspace)
        if read.refused:
            return console.Reply({"decisions": 0, "reason": read.refused}, human=read.refused, passed=False)
        history.append(read.transactions)
    spec = specify(mapping.provided)
    found = compare_decisions(Workspace.at(workspace).decisions, history, spec, since_us, until_us)
    if metrics_file is not None:
        write_metrics(found, mapping.source, now_s, metrics_file)
    above = found.above(alarm)
    fields = {
        "decisions": found.decisions,
        "compared": found.compared,
        "unanswered": found.unanswered,
        "history": found.history,
        "labels": found.labels,
        "labels_ahead": found.labels_ahead,
        "features": {
            name: {
                "rows": feature.strict.rows,
                "mismatched": feature.strict.mismatched,
                "missing": feature.strict.missing,
                "extra": feature.strict.extra,
                "rate": feature.strict.rate,
                "example": feature.example,
                "apart": {
                    cause.name.lower(): {"rows": counts.rows, "disagreements": counts.disagreements}
                    for cause, counts in feature.apart.items()
                },
            }
            for name, feature in found.features.items()
        },
        "alarm": alarm,
        "above_alarm": above,
        "seconds": time.monotonic() - began,
    }
    return console.Reply(fields, human=_rendered(found, alarm), passed=bool(found.compared) and not above)


def _microseconds(text: str, option: str) -> int:
    from datetime import UTC, datetime

    from schemas.errors import ConfigurationError

    try:
        time_ = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(f"{option} {text!r} is not ISO 8601; write such as 2026-03-01T12:00:00Z") from None
    return int((time_ if time_.tzinfo else time_.replace(tzinfo=UTC)).timestamp() * 1_000_000)


def _rendered(found: "Findings", alarm: float) -> "RenderableType":
    from rich.console import Group
    from rich.table import Table

    lines = [
        f"{found.compared:,} of {found.decisions:,} decisions compared ({found.unanswered:,} were made without "
        f"features), after {found.history:,} loaded transactions, with {found.labels:,} labels"
    ]
    wrong = Table("feature", "rows", "mismatched", "missing", "extra", "rate", "such as", box=None)
    apart = Table("feature", "need not agree", "rows", "do not", box=None)
    for name, feature in found.features.items():
        strict = feature.strict
        if strict.disagreements:
            counts = (strict.rows, strict.mismatched, strict.missing, strict.extra)
            wrong.add_row(name, *(f"{count:,}" for count in counts), f"{strict.rate:.4%}", feature.example)
        for cause, counts_apart in feature.apart.items():
            if counts_apart.disagreements:
                told = cause.name.lower(), f"{counts_apart.rows:,}", f"{counts_apart.disagreements:,}"
                apart.add_row(name, *told)
    if not found.compared:
        verdict = "there is nothing to compare"
    elif above := found.above(alarm):
        verdict = f"{len(above)} of {len(found.features)} features are above the alarm, {alarm:.4%}"
    else:
        verdict = f"no feature is above the alarm, {alarm:.4%}"
    return Group(*lines, *(table for table in (wrong, apart) if table.row_count), verdict)
