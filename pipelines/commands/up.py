"""`fraudops up`: the embedded stack of a workspace, started and watched over by supervisord."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipelines import console

if TYPE_CHECKING:
    from rich.table import Table

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command()
@click.option("--source", required=True, help="Name or path of the source mapping.")
@click.option("--policy", type=_FILE, help="The rollout policy, instead of the usual one.")
@click.option("--rules", type=_FILE, help="The rules, instead of those that ship.")
@click.option("--feature-store", metavar="redis://...", help="A Redis server, instead of the workspace's file.")
@click.option("--feature-store-password-file", type=_FILE, help="Holds the password of that server.")
@click.option("--free-ports", is_flag=True, help="At the first start, choose free ports instead of the usual ones.")
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(0),
    default=300.0,
    show_default=True,
    help="Seconds that all parts together may take until they serve.",
)
@console.workspace_option
@console.json_option
def command(
    source: str,
    policy: Path | None,
    rules: Path | None,
    feature_store: str | None,
    feature_store_password_file: Path | None,
    free_ports: bool,
    wait_s: float,
    workspace: Path,
) -> console.Reply:
    """Start MLflow, model server, controller and gateway; one that dies is started again.

    They go on when this command has ended: `fraudops down` stops them.  They keep their ports over restarts.
    """
    from pipelines import supervision
    from pipelines.stack import Settings, addresses, ports_of, prepare, programs
    from pipelines.workspace import Workspace
    from schemas import sources
    from schemas.errors import StackError

    sources.load(source)  # a mapping that cannot be read is said here, not in four logs
    place = Workspace.at(workspace)
    stack = place.stack
    stack.mkdir(exist_ok=True)
    with supervision.alone(stack):
        ports = ports_of(place, supervision.free_ports if free_ports else None)
        settings = Settings(source, policy, rules, feature_store, feature_store_password_file)
        parts = programs(place, settings, ports)
        fields = {"addresses": addresses(ports), "logs": str(stack / "logs")}
        if supervision.supervisor_of(stack) is not None:
            if supervision.configuration_file(stack).read_text("utf-8") != supervision.configuration(stack, parts):
                raise StackError(f"the stack in {place.root} runs with other options; `fraudops down` first")
            silent = [part.name for part in parts if not supervision.serves(part)]
            told = f"runs already, but {', '.join(silent)} does not answer" if silent else "runs already"
            console.say(f"the stack in {place.root} {told}")
            return console.Reply({**fields, "started": False, "silent": silent}, human=_table(addresses(ports)))
        if left := supervision.stop(stack):
            console.say(f"ended what an earlier stack left behind: {', '.join(left)}")
        prepare(place, ports)
        try:
            supervision.launch(stack, parts)
            for name in supervision.wait_until_serving(stack, parts, wait_s):
                console.say(f"{name} serves")
        except BaseException:
            supervision.stop(stack)
            raise
    return console.Reply({**fields, "started": True, "silent": []}, human=_table(addresses(ports)))


def _table(addresses: dict[str, str]) -> Table:
    from rich.table import Table

    table = Table("part", "address")
    for name, address in addresses.items():
        table.add_row(name.replace("_", " "), address)
    return table
