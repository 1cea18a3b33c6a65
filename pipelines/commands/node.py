"""`fraudops node`: runs single nodes of a scheduled pipeline."""

from __future__ import annotations

from pathlib import Path

import click

from pipelines import console
from pipelines.commands import scheduled
from pipelines.commands.run import told


@click.group()
def command() -> None:
    """Run a scheduled pipeline node by node."""


@command.command()
@scheduled.run_options()
@click.option("--node", required=True, help="Which one.")
@click.option(
    "--result-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the object that --json prints there as well.",
)
@click.option(
    "--passed-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write there whether what stands under this node may run: true or false.",
)
@console.json_option
def run(
    pipeline: Path,
    run_id: str,
    span: str | None,
    source: str | None,
    log: str | None,
    node: str,
    result_file: Path | None,
    passed_file: Path | None,
) -> console.Reply:
    """Run one node of a run in this process.

    It ends with 0 when the node is done, whatever a gate says: that is in the result, for the scheduler to act on.
    """
    import time

    import orjson

    from pipelines.quiet import quiet

    with quiet():
        from pipelines.nodes import execute

        request = scheduled.request(pipeline, run_id, span, source, log)
        began = time.monotonic()
        result = execute(request, node)
    fields = result.fields() | {"seconds": round(time.monotonic() - began, 3)}
    if result_file is not None:
        _write(result_file, orjson.dumps(fields, default=str))
    if passed_file is not None:
        _write(passed_file, b"false" if result.passed is False else b"true")
    for line in (line for reason in result.reasons for line in told(reason, scheduled.ACCEPT)):
        console.say(line)
    said = "" if result.passed is None else ", the run may pass" if result.passed else ", the run must not pass"
    return console.Reply(fields, human=f"{node}: {result.state}{said}")


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
