"""`fraudops report`: where the page of the last run lies, or the report of a run that went node by node."""

from __future__ import annotations

from pathlib import Path

import click

from pipelines import console
from pipelines.commands import scheduled
from schemas.errors import ArtifactError


@click.command()
@scheduled.run_options(required=False)
@console.workspace_option
@console.json_option
def command(
    pipeline: Path | None, run_id: str | None, span: str | None, source: str | None, log: str | None, workspace: Path
) -> console.Reply:
    """Say where the report of the last run is: one HTML page with its pictures inside.

    With --pipeline and --run-id, write that of a run whose nodes have run one by one.
    """
    if (pipeline is None) != (run_id is None):
        raise click.UsageError("give --pipeline and --run-id together")
    if pipeline is not None and run_id is not None:
        return _write(pipeline, run_id, span, source, log)
    # Names end in the time of the run; pipelines of different sources share the folder.
    pages = sorted((workspace / "reports").glob("*.html"), key=lambda page: page.stem.rpartition("-")[2])
    if not pages:
        raise ArtifactError(f"workspace {workspace} has no report; run the pipeline there first (fraudops run)")
    path = pages[-1].resolve()
    return console.Reply({"path": path}, human=str(path))


def _write(pipeline: Path, run_id: str, span: str | None, source: str | None, log: str | None) -> console.Reply:
    from pipelines.commands.run import table
    from pipelines.quiet import quiet

    with quiet():
        from pipelines import nodes
        from pipelines.run import utc_now

        outcome = nodes.report(scheduled.request(pipeline, run_id, span, source, log), utc_now())
    # The report is written, whatever it says; who scheduled the run has heard of it from the gates.
    return console.Reply(outcome.fields() | {"path": outcome.report}, human=table(outcome, scheduled.ACCEPT))
