"""`fraudops compile`: writes what a scheduler needs to run the pipeline of a definition."""

from __future__ import annotations

from pathlib import Path

import click

from pipelines import console
from pipelines.commands import scheduled


@click.group()
def command() -> None:
    """Write what a scheduler needs to run the pipeline of a definition."""


@command.command()
@scheduled.definition_option()
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The file to write (*.json)."
)
@console.json_option
def airflow(pipeline: Path, out: Path) -> console.Reply:
    """Write the manifest that Airflow's DAG file makes DAGs of; nodes look for the definition where it is now."""
    manifest = scheduled.compiled(pipeline)
    out.parent.mkdir(parents=True, exist_ok=True)
    # Airflow may read it at any moment.
    fresh = out.with_name(f".{out.name}.new")
    fresh.write_text(manifest.to_json(), encoding="utf-8")
    fresh.replace(out)
    fields = {"path": out, "name": manifest.name, "nodes": [node.id for node in manifest.nodes]}
    return console.Reply(fields, human=f"{len(manifest.nodes)} nodes of {manifest.name} in {out}")


@command.command()
@scheduled.definition_option()
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The file to write (*.yaml)."
)
@console.json_option
def kubeflow(pipeline: Path, out: Path) -> console.Reply:
    """Write a pipeline for Kubeflow Pipelines 2; nodes look for the definition where it is now."""
    manifest = scheduled.compiled(pipeline)
    from pipelines.kubeflow import write

    out.parent.mkdir(parents=True, exist_ok=True)
    write(manifest, out)
    fields = {"path": out, "name": manifest.name, "nodes": [node.id for node in manifest.nodes]}
    return console.Reply(fields, human=f"{len(manifest.nodes)} nodes of {manifest.name} in {out}")
