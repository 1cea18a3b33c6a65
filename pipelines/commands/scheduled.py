"""What the verbs share that are about one run of a scheduled pipeline: its options, and the request they make."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from pipelines.manifest import Manifest
    from pipelines.nodes import Request

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

# How a person accepts a stop where nobody stands beside the run.
ACCEPT = "list {} under `accept` in the definition's config, and begin a new run"


def definition_option(required: bool = True) -> Callable[[Decorated], Decorated]:
    """Adds `--pipeline`, the file of a definition, as a Path."""
    return click.option(
        "--pipeline",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        required=required,
        help="The definition of the pipeline (*.yaml).",
    )


def run_options(required: bool = True) -> Callable[[Decorated], Decorated]:
    """Adds the options that say which run: pipeline, run_id, span, source, log."""

    def decorate(command: Decorated) -> Decorated:
        for option in (
            click.option("--log", metavar="PATTERN", help="The transaction log, instead of the definition's."),
            click.option("--source", help="Name or path of the log's mapping, instead of the definition's."),
            click.option("--span", metavar="YYYY-MM-DD", help="The day that {SPAN} in the log's name stands for."),
            click.option("--run-id", required=required, help="Of the run: the same for all its nodes and tries."),
            definition_option(required),
        ):
            command = option(command)
        return command

    return decorate


def request(pipeline: Path, run_id: str, span: str | None, source: str | None, log: str | None) -> Request:
    """The run that the options are about.

    Raises:
        ConfigurationError: the definition or an option is wrong.
    """
    from pipelines.definition import load, read_span
    from pipelines.nodes import Request

    return Request(load(pipeline), run_id, read_span(span) if span else None, source or None, log or None)


def compiled(pipeline: Path) -> Manifest:
    """The manifest of the pipeline in a definition's file, which nodes are to find under the same path.

    Raises:
        ConfigurationError: the definition is wrong.
    """
    from pipelines.quiet import quiet

    with quiet():
        from pipelines.definition import load
        from pipelines.manifest import manifest
        from pipelines.nodes import plan

        definition = load(pipeline)
        return manifest(definition, pipeline.resolve(), plan(definition))
