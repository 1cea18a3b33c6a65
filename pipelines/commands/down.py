"""`fraudops down`: stops what `fraudops up` started."""

from __future__ import annotations

from pathlib import Path

import click

from pipelines import console


@click.command()
@console.workspace_option
@console.json_option
def command(workspace: Path) -> console.Reply:
    """Stop the stack of a workspace and wait until all of it has ended; nothing to stop is no fault."""
    from pipelines import supervision
    from pipelines.workspace import Workspace

    stack = Workspace.at(workspace).stack
    stack.mkdir(exist_ok=True)
    with supervision.alone(stack):
        stopped = supervision.stop(stack)
    return console.Reply({"stopped": stopped}, human=f"stopped {', '.join(stopped)}" if stopped else "nothing ran")
