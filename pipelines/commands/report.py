"""`fraudops report`: where the page of the last run lies."""

from pathlib import Path

import click

from pipelines import console
from schemas.errors import ArtifactError


@click.command()
@console.workspace_option
@console.json_option
def command(workspace: Path) -> console.Reply:
    """Say where the report of the last run is: one HTML page with its pictures inside."""
    # Names end in the time of the run; pipelines of different sources share the folder.
    pages = sorted((workspace / "reports").glob("*.html"), key=lambda page: page.stem.rpartition("-")[2])
    if not pages:
        raise ArtifactError(f"workspace {workspace} has no report; run the pipeline there first (fraudops run)")
    path = pages[-1].resolve()
    return console.Reply({"path": path}, human=str(path))
