"""`fraudops run`: takes a transaction log through the training pipeline."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipelines import console
from pipelines.options import config_option
from pipelines.user import user

if TYPE_CHECKING:
    from rich.console import RenderableType

    from components.gate import Reason
    from pipelines.run import Outcome
    from schemas.acceptance import Acceptance

_WARNINGS = 10  # of a run that people see; the report has all


@click.command()
@click.option("--source", required=True, help="Name of the log's mapping, or the path of one (*.yaml).")
@click.option("--log", type=click.Path(path_type=Path), required=True, help="The transaction log, a file or a folder.")
@click.option("--until", metavar="STEP", help="Stop behind this step.")
@config_option
@click.option(
    "--accept",
    metavar="CHECK[:SUBJECT]=REASON",
    multiple=True,
    help="Go on although this check stops, about this subject or any; kept with who and why. May be given repeatedly.",
)
@click.option("--by", metavar="NAME", help="Who accepts.  [default: the user of this process]")
@console.workspace_option
@console.json_option
def command(
    source: str,
    log: Path,
    until: str | None,
    config: Path | None,
    accept: tuple[str, ...],
    by: str | None,
    workspace: Path,
) -> console.Reply:
    """Validate a log, train on it, and register the model if every gate lets it through."""
    if by is not None and not accept:
        raise click.UsageError("--by says who accepts; give --accept as well, or leave it out")
    outcome = train(source, log, until, config, workspace, _acceptances(accept, by))
    return console.Reply(outcome.fields(), human=table(outcome), passed=outcome.status == "passed")


def _acceptances(texts: tuple[str, ...], by: str | None) -> tuple[Acceptance, ...]:
    from schemas.acceptance import read

    return tuple(read(text, by if by is not None else user()) for text in texts)


def train(
    source: str,
    log: Path,
    until: str | None,
    config: Path | None,
    workspace: Path,
    acceptances: tuple[Acceptance, ...] = (),
) -> Outcome:
    """Runs the pipeline with a progress line per step; what fails before the imports fails at once.

    The acceptances come to those of the configuration.
    """
    from components.ingest import log_digest
    from pipelines.quiet import quiet
    from pipelines.services import Services
    from pipelines.workspace import Workspace
    from schemas import sources
    from schemas.features import specify

    mapping = sources.load(source)
    digest = log_digest(log)
    where = Workspace.at(workspace)
    if left_out := specify(mapping.provided).left_out:
        console.say(f"{mapping.source} lacks the columns for {len(left_out)} features: {', '.join(left_out)}")
    console.say("loading TensorFlow and TFX")
    with quiet():
        from pipelines import config as configuration
        from pipelines.run import execute, utc_now
        from pipelines.training import TrainingRun

        choices = configuration.load(config)
        choices = replace(choices, accept=(*choices.accept, *acceptances))
        run = TrainingRun(source, mapping, log.resolve(), digest, where, Services.embedded(where), choices)
        return execute(run, until, lambda step: console.say(f"  {utc_now():%H:%M:%S}  {step}"), utc_now)


def table(outcome: Outcome, accept: str = "add --accept {}=REASON") -> RenderableType:
    """What people see at the end: steps with rows and seconds, metrics, the version, and why a gate said no.

    Args:
        outcome: of the run.
        accept: see `told`.
    """
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    steps = Table("step", "", "seconds", "rows in", "rows out")
    flow = _flow(outcome.rows)
    for name, state in outcome.steps.items():
        rows_in, rows_out = flow.get(name, ("", ""))
        steps.add_row(name, state, f"{outcome.seconds[name]:.1f}", rows_in, rows_out)
    steps.add_row("total", "", f"{outcome.seconds['total']:.1f}", style="bold")
    parts: list[RenderableType] = [steps]
    if outcome.metrics:
        metrics = Table("metric", *outcome.metrics)
        for name in (
            "frauds",
            "prevalence",
            "average_precision",
            "roc_auc",
            "recall_at_fpr_0.01",
            "card_precision_100",
        ):
            metrics.add_row(
                name, *(f"{split[name]:.4g}" if name in split else "-" for split in outcome.metrics.values())
            )
        parts.append(metrics)
    parts += _reasons(outcome.reasons, accept)
    if outcome.unrecorded:
        parts.append(Text(f"warn: {outcome.unrecorded}", style="yellow"))
    verdict = (
        f"passed; model version {outcome.model_version}" if outcome.model_version else outcome.status.replace("_", " ")
    )
    parts.append(
        Text(f"{verdict}   peak memory {outcome.peak_rss_mib:,.0f} MiB\nreport  {outcome.report}", style="bold")
    )
    return Group(*parts)


def _reasons(reasons: Sequence[Reason], accept: str) -> list[RenderableType]:
    """Some warnings, and behind them all stops, because people look at the end."""
    from rich.text import Text

    stops = [reason for reason in reasons if reason.severity == "stop"]
    warnings = [reason for reason in reasons if reason.severity == "warn"]
    lines: list[RenderableType] = []
    if len(warnings) > _WARNINGS:
        lines.append(
            Text(f"{len(warnings)} warnings, all of them in the report; the first {_WARNINGS}:", style="yellow")
        )
    for reason in (*warnings[:_WARNINGS], *stops):
        style = "bold red" if reason.stops else "yellow"
        first, *more = told(reason, accept)
        lines.append(Text(first, style=style))
        # What is to be typed stays on one line.
        lines += [Text(line, style=style, no_wrap=True, overflow="ignore") for line in more]
    return lines


def told(reason: Reason, accept: str = "add --accept {}=REASON") -> list[str]:
    """A reason in lines for people; of a stop, who has accepted it, or what would let it pass.

    Args:
        reason: the one.
        accept: how a person accepts a stop; its name is filled in.
    """
    lines = [f"{reason.severity}: {reason.check}: {reason.message}"]
    if reason.accepted:
        lines.append(f"  accepted by {reason.accepted.by} at {reason.accepted.at}: {reason.accepted.reason}")
    elif reason.stops and not reason.acceptable:
        lines.append("  this cannot be accepted")
    elif reason.stops:
        # The first equals sign ends what is accepted, so that a subject with one cannot be named.
        name = reason.check if "=" in reason.subject else reason.name
        lines.append(f"  to go on all the same, {accept.format(shlex.quote(name))}")
    return lines


def _flow(rows: Mapping[str, int]) -> dict[str, tuple[str, str]]:
    """Rows in and out by step, as far as the run got."""
    if not rows:
        return {}
    good = rows["read"] - rows["dead"] - rows["duplicate"]
    flow = {"ingest": (f"{rows['read']:,}", f"{good:,} good, {rows['dead']:,} dead, {rows['duplicate']:,} duplicate")}
    if "train" in rows:
        train, validation, test = rows["train"], rows["validation"], rows["test"]
        flow["examples"] = (
            f"{good:,}",
            f"{rows['warm_up']:,} warm-up, {rows['immature']:,} immature, "
            f"{train:,} train, {validation:,} validation, {test:,} test",
        )
        flow["statistics"] = (f"{train + validation + test:,}", "")
        flow["transform"] = (f"{train:,}", "")
        flow["trainer"] = (f"{train:,} + {validation:,}", "")
        flow["evaluator"] = (f"{test:,}", "")
        flow["evidence"] = (f"{validation:,} + {test:,}", "")
    return flow
