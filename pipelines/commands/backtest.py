"""`fraudops backtest`: what models that were trained at moments of the past say of what came after."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from pipelines import console
from pipelines.options import config_option

HANDBOOK, SPLIT = "handbook", "split"


@click.command()
@click.option(
    "--protocol",
    type=click.Choice([HANDBOOK, SPLIT]),
    required=True,
    help="The four folds of the Fraud Detection Handbook, or one moment.",
)
@click.option("--log", type=click.Path(path_type=Path), required=True, help="The transaction log, a file or a folder.")
@click.option("--source", help="Name of the log's mapping, or the path of one.  [default: handbook, for its protocol]")
@click.option("--at", type=click.DateTime(), help="The moment, UTC: learn what is known then, score what comes then.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the scores to this Parquet file.")
@config_option
@console.workspace_option
@console.json_option
def command(
    protocol: str,
    log: Path,
    source: str | None,
    at: datetime | None,
    out: Path | None,
    config: Path | None,
    workspace: Path,
) -> console.Reply:
    """Train a model at each moment of a protocol, and score what came after it."""
    if (at is None) == (protocol == SPLIT):
        raise click.UsageError("--at is the moment of --protocol split, which needs it and alone has one")
    if source is None and protocol == SPLIT:
        raise click.UsageError("--protocol split needs --source")

    from pipelines.quiet import quiet
    from pipelines.workspace import Workspace
    from schemas import sources

    mapping = sources.load(source or HANDBOOK)
    with quiet():
        from pipelines import config as configuration
        from pipelines.backtest import backtest

        moment = None if at is None else at.replace(tzinfo=UTC)
        found = backtest(mapping, log, moment, configuration.load(config), Workspace.at(workspace), out, console.say)
    fields = found.fields()
    return console.Reply(
        fields,
        human=f"average precision {fields['average_precision']:.4f}, ROC AUC {fields['roc_auc']:.4f}"
        if fields["average_precision"] is not None
        else "the scored rows have labels of one kind, or none",
    )
