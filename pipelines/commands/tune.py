"""`fraudops tune`: the settings that train the best model of what was known at a moment."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipelines import console
from pipelines.options import config_option

if TYPE_CHECKING:
    from rich.table import Table

    from pipelines.tuning import Tuning

# Trials that people are shown.
_SHOWN = 5


@click.command()
@click.option("--log", type=click.Path(path_type=Path), required=True, help="The transaction log, a file or a folder.")
@click.option("--source", required=True, help="Name of the log's mapping, or the path of one.")
@click.option(
    "--at",
    type=click.DateTime(),
    required=True,
    help="The moment, UTC: nothing that came later is looked at. It should lie before the days on which the model is "
    "going to be judged.",
)
@click.option("--trials", type=click.IntRange(min=1), required=True, help="How many, those of earlier calls included.")
@click.option("--timeout", metavar="DURATION", help="Begin no epoch behind that time, such as 90s, 15min or 2h.")
@config_option
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="Write the configuration, with the best `training`, to this file.",
)
@console.workspace_option
@console.json_option
def command(
    log: Path,
    source: str,
    at: datetime,
    trials: int,
    timeout: str | None,
    config: Path | None,
    out: Path,
    workspace: Path,
) -> console.Reply:
    """Search the settings of the training on what was known at a moment, and write the best as a configuration.

    The `training` of --config is tried first, and its `tuning` says what else.
    """
    from pipelines.quiet import quiet
    from pipelines.workspace import Workspace
    from schemas import sources
    from schemas.durations import seconds

    timeout_s = None if timeout is None else seconds(timeout)
    mapping = sources.load(source)
    with quiet():
        from pipelines import config as configuration
        from pipelines.tuning import tune

        chosen = configuration.load(config)
        keep = {} if config is None else configuration.sections(config, "configuration")
        found = tune(mapping, log, at.replace(tzinfo=UTC), chosen, trials, timeout_s, Workspace.at(workspace), keep,
                     out, time.monotonic, console.say)  # fmt: skip
    return console.Reply(found.fields(), human=_table(found))


def _table(found: Tuning) -> Table:
    """The best trials, one beside the other: their settings are many."""
    from rich.table import Table
    from rich.text import Text

    whole = sorted((trial for trial in found.trials if not trial.pruned), key=lambda trial: -max(trial.course))
    shown = whole[:_SHOWN]
    table = Table("trial", *(str(trial.number) for trial in shown), box=None, pad_edge=False)
    table.add_row("average precision", *(f"{trial.average_precision:.4f}" for trial in shown))
    table.add_row("epochs", *(str(len(trial.course)) for trial in shown))
    for name in found.searched:
        table.add_row(name, *(Text(_short(getattr(trial.settings, name))) for trial in shown))
    return table


def _short(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)
