"""`fraudops models`: the versions in the model registry, and all that is known of one."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipelines import console
from pipelines.workspace import Workspace
from schemas.errors import RegistryError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from rich.console import RenderableType

    from components.registry import Version

_HEADLINE = "test/average_precision"


@click.group()
def command() -> None:
    """Look at the versions in the model registry."""


@command.command("list")
@console.workspace_option
@console.json_option
def list_command(workspace: Path) -> console.Reply:
    """List all versions, newest first."""
    from components import registry

    versions = registry.list_versions(_client(workspace))
    return console.Reply({"versions": [_fields(version) for version in versions]}, _table(versions, workspace))


@command.command("show")
@click.argument("version", type=click.IntRange(min=1), metavar="V")
@console.workspace_option
@console.json_option
def show_command(version: int, workspace: Path) -> console.Reply:
    """Show version V: gate, approval, digests, lineage, metrics and description."""
    from components import registry

    shown = registry.show_version(_client(workspace), version)
    return console.Reply(_fields(shown), _page(shown))


def _client(workspace: Path) -> MlflowClient:
    from components import registry

    if not workspace.is_dir():  # a mistyped name must not become an empty registry
        raise RegistryError(
            f"there is no workspace {workspace}; name with --workspace the one that the model was made in"
        )
    return registry.connect(Workspace.at(workspace).tracking_uri)


def _fields(version: Version) -> dict[str, object]:
    return asdict(version) | {"created": version.created.isoformat(timespec="seconds")}


def _table(versions: tuple[Version, ...], workspace: Path) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    if not versions:
        return Text(f"no model version is registered in {workspace}; `fraudops run` registers one")
    table = Table(
        "version", "created", "gate", "approval", "aliases", "test AP", "SavedModel", box=None, pad_edge=False
    )
    for version in versions:
        headline = version.metrics.get(_HEADLINE)
        table.add_row(
            str(version.version),
            f"{version.created:%Y-%m-%d %H:%M}",
            _coloured(version.gate),
            _coloured(version.approval),
            Text(", ".join(version.aliases) or "-"),
            "-" if headline is None else f"{headline:.3f}",
            Text(version.digests.get("saved_model", "-")[:12]),
        )
    return table


def _page(version: Version) -> RenderableType:
    from rich.console import Group
    from rich.markdown import Markdown
    from rich.table import Table
    from rich.text import Text

    facts = Table.grid(padding=(0, 2))
    facts.add_row("version", Text(f"{version.version} of model {version.model_name}", style="bold"))
    facts.add_row("created", f"{version.created:%Y-%m-%d %H:%M:%S} UTC")
    facts.add_row("gate", _coloured(version.gate))
    facts.add_row("approval", _coloured(version.approval))
    facts.add_row("aliases", Text(", ".join(version.aliases) or "-"))
    facts.add_row("run", Text(version.run_id or "-"))
    digests = {f"digest.{of}": digest for of, digest in version.digests.items()}
    for name, value in (digests | dict(version.lineage)).items():
        facts.add_row(name, Text(value))
    metrics = Table("metric", "value", box=None, pad_edge=False)
    for name, number in sorted(version.metrics.items()):
        metrics.add_row(Text(name), f"{number:.6g}")
    parts: list[RenderableType] = [facts]
    if version.metrics:
        parts += [Text(), metrics]
    if version.description:
        parts += [Text(), Markdown(version.description)]
    return Group(*parts)


def _coloured(state: str | None) -> RenderableType:
    from rich.text import Text

    styles = {"passed": "green", "approved": "green", "failed": "bold red", "rejected": "red", "revoked": "red"}
    return Text(state or "-", style=styles.get(state or "", ""))
