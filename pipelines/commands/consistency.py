"""`fraudops features consistency`: compares what decisions were made on with what batch computes."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipelines import console
from pipelines.options import microseconds, password_option, store_option

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
    help="What the store was loaded from, a file or a folder, with the labels that it was given since; several times, "
    "or never where it began empty.",
)
@store_option
@password_option
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
    store: str,
    password_file: Path | None,
    since: str | None,
    until: str | None,
    alarm: float,
    metrics_file: Path | None,
    workspace: Path,
) -> console.Reply:
    """Compare the features that decisions were made on with a batch recomputation; exit 1 above the alarm."""
    from pipelines.consistency import compare_decisions, write_metrics
    from pipelines.labelling import runs_of
    from pipelines.replay import read_log
    from pipelines.workspace import Workspace
    from schemas import sources
    from schemas.features import specify
    from serving.features import address_of

    began, now_s = time.monotonic(), time.time()
    since_us = 0 if since is None else microseconds(since, "--since")
    until_us = int(now_s * 1e6) if until is None else microseconds(until, "--until")
    mapping = sources.load(source)
    history = []
    for log in logs:
        read = read_log(source, log, workspace)
        if read.refused:
            return console.Reply({"decisions": 0, "reason": read.refused}, human=read.refused, passed=False)
        history.append(read.transactions)
    spec = specify(mapping.provided)
    place = Workspace.at(workspace)
    address = address_of(store, place.feature_store(mapping.source), mapping.source, password_file)
    # Without history there is nothing that a run could have labelled.
    runs = runs_of(address, spec) if history else []
    found = compare_decisions(place.decisions, history, spec, since_us, until_us, runs)
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


def _rendered(found: "Findings", alarm: float) -> "RenderableType":
    from rich.text import Text

    from components.features.timeline import Cause

    lines = [
        f"{found.compared:,} of {found.decisions:,} decisions compared ({found.unanswered:,} were made without "
        f"features), after {found.history:,} loaded transactions, with {found.labels:,} labels"
    ]
    lines += [
        f"{name}: {feature.strict.rate:.4%} of {feature.strict.rows:,} ({feature.strict.mismatched:,} mismatched, "
        f"{feature.strict.missing:,} missing, {feature.strict.extra:,} extra), such as {feature.example}"
        for name, feature in found.features.items()
        if feature.strict.disagreements
    ]
    for cause in Cause:
        counts = [feature.apart[cause] for feature in found.features.values() if cause in feature.apart]
        if counts:
            lines.append(
                f"{cause.name.lower()}, need not agree: up to {max(one.rows for one in counts):,} decisions, of "
                f"which up to {max(one.disagreements for one in counts):,} do not"
            )
    if not found.compared:
        lines.append("there is nothing to compare")
    elif above := found.above(alarm):
        lines.append(f"{len(above)} of {len(found.features)} features are above the alarm, {alarm:.4%}")
    else:
        lines.append(f"no feature is above the alarm, {alarm:.4%}")
    # Ids are anybody's, so nothing in them is markup.
    return Text("\n".join(lines))
