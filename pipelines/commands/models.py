"""`fraudops models`: the versions in the model registry, all that is known of one, and what people decide about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipelines import console
from pipelines.console import Decorated
from pipelines.user import user
from pipelines.workspace import Workspace
from schemas import approval
from schemas.acceptance import from_tags
from schemas.errors import ApprovalError, RegistryError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from rich.console import RenderableType

    from schemas.versions import Version

_HEADLINE = "test/average_precision"


def _registry_options(decorated: Decorated) -> Decorated:
    """Adds `--tracking-uri`, and `--workspace`, whose registry it is where no other is named."""
    option = click.option("--tracking-uri", metavar="URI", help="The model registry.  [default: the workspace's]")
    return option(console.workspace_option(decorated))


@click.group()
def command() -> None:
    """Look at the versions in the model registry; approve, reject or revoke one."""


@command.command("list")
@_registry_options
@console.json_option
def list_command(workspace: Path, tracking_uri: str | None) -> console.Reply:
    """List all versions, newest first."""
    from components.registry.versions import list_versions

    versions = list_versions(_client(workspace, tracking_uri))
    where = tracking_uri or str(workspace)
    return console.Reply({"versions": [_fields(version) for version in versions]}, _table(versions, where))


@command.command("show")
@click.argument("version", type=click.IntRange(min=1), metavar="V")
@_registry_options
@console.json_option
def show_command(version: int, workspace: Path, tracking_uri: str | None) -> console.Reply:
    """Show version V: gate, approval, digests, lineage, metrics and description."""
    from components.registry.versions import show_version

    shown = show_version(_client(workspace, tracking_uri), version)
    return console.Reply(_fields(shown), _page(shown))


def _decision(verb: str, state: approval.State, help_line: str) -> Callable[..., console.Reply]:
    """The command that takes one kind of decision about a version."""

    @command.command(verb, help=help_line)
    @click.argument("version", type=click.IntRange(min=1), metavar="V")
    @click.option("--reason", required=True, help="Why, in one line; kept with the version.")
    @click.option("--by", metavar="NAME", help="Who decides.  [default: the user of this process]")
    @click.option(
        "--key-file",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Sign with the approvers' key in this file, which only its owner can read.",
    )
    @_registry_options
    @console.json_option
    def decide(
        version: int, reason: str, by: str | None, key_file: Path | None, workspace: Path, tracking_uri: str | None
    ) -> console.Reply:
        from pipelines.registry import MlflowRegistry

        key = approval.read_approvers_key(key_file) if key_file else None
        registry = MlflowRegistry(_registry_uri(workspace, tracking_uri))
        tags = registry.version(version).tags
        try:
            made = approval.decide(
                state, tags, version=version, by=by or user(), reason=reason, time=datetime.now(UTC), key=key
            )
        except ApprovalError as error:
            return console.Reply(
                {"version": version, "approval": tags.get(approval.STATE_TAG), "refused": str(error)},
                f"refused: {error}",
                passed=False,
            )
        changed = made != approval.read(tags)
        if changed:
            registry.record(version, made)
        return console.Reply(
            {"version": version, "approval": made.state, "changed": changed} | _decided(made),
            f"version {version} {'is' if changed else 'was already'} {made.state}, by {made.by}: {made.reason}",
        )

    return decide


approve_command = _decision("approve", approval.APPROVED, "Approve version V: let it be rolled out.")
reject_command = _decision("reject", approval.REJECTED, "Reject version V, which waits for approval.")
revoke_command = _decision("revoke", approval.REVOKED, "Take the approval of version V back.")


def _client(workspace: Path, tracking_uri: str | None) -> MlflowClient:
    from components.registry.client import connect

    return connect(_registry_uri(workspace, tracking_uri))


def _registry_uri(workspace: Path, tracking_uri: str | None) -> str:
    if tracking_uri is not None:
        return tracking_uri
    if not workspace.is_dir():  # a mistyped name must not become an empty registry
        raise RegistryError(
            f"there is no workspace {workspace}; name with --workspace the one that the model was made in"
        )
    return Workspace.at(workspace).tracking_uri


def _fields(version: Version) -> dict[str, object]:
    fields = asdict(version) | {"created": version.created.isoformat(timespec="seconds")}
    del fields["tags"]  # the other fields, those of the decision and what was accepted say all of them
    return fields | _decided(_standing(version)) | {"accepted": from_tags(version.tags)}


def _decided(made: approval.Approval) -> dict[str, object]:
    return {
        "approval_by": made.by,
        "approval_reason": made.reason,
        "approval_time": made.time,
        "approval_signature": made.signature,
    }


def _standing(version: Version) -> approval.Approval:
    """What stands about a version; of a tag that says nothing sensible, nothing is known here."""
    try:
        return approval.read(version.tags)
    except ApprovalError:
        return approval.Approval(approval.PENDING)


def _table(versions: tuple[Version, ...], where: str) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    if not versions:
        return Text(f"no model version is registered in {where}; `fraudops run` registers one")
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
    for accepted in from_tags(version.tags):
        facts.add_row("accepted", Text(f"{accepted.name}, by {accepted.by} at {accepted.at}: {accepted.reason}"))
    facts.add_row("approval", _coloured(version.approval))
    standing = _standing(version)
    for name, value in (("by", standing.by), ("reason", standing.reason), ("time", standing.time)):
        if value:
            facts.add_row(f"approval.{name}", Text(value))
    if standing.signature:
        facts.add_row("approval.signature", Text(f"under key {standing.signature.partition(':')[0]}"))
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
