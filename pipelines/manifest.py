"""The manifest of a scheduled pipeline: what a scheduler needs to know of it, and nothing that needs TFX to be read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from pipelines.definition import Definition, Resources, Schedule, Secret, Volume
from schemas.errors import ArtifactError, ConfigurationError

if TYPE_CHECKING:
    from pipelines.runner import PlannedNode

FORMAT = 1


@dataclass(frozen=True)
class Node:
    """A node of the pipeline.

    Attributes:
        id: its name.
        upstream: of the nodes right before it, gates included.
        under: of the gates that must let the run pass for it to run, outermost first.
        is_gate: whether its verdict decides on other nodes.
        retries: how often it is tried again.
        retry_delay_s: how long after.
        timeout_s: after which a try is ended.
        resources: of each try.
    """

    id: str
    upstream: tuple[str, ...]
    under: tuple[str, ...]
    is_gate: bool
    retries: int
    retry_delay_s: int
    timeout_s: int
    resources: Resources


@dataclass(frozen=True)
class Manifest:
    """A scheduled pipeline.

    Attributes:
        format: of this document.
        name: of the pipeline.
        definition: path of its definition, as its nodes see it.
        source: name of the log's mapping, or the path of one.
        log: the transaction log, with `{SPAN}` where the day stands.
        workspace: the folder that all nodes see.
        tracking_uri: of an MLflow server; None is a database in the workspace.
        schedule: when.
        nodes: in an order in which they can run.
        image: in which they run as containers; None runs them as processes of the scheduler.
        volume: what containers share.
        namespace: of their cluster; None is the scheduler's own.
        secret: what containers see besides.
    """

    format: int
    name: str
    definition: str
    source: str
    log: str
    workspace: str
    tracking_uri: str | None
    schedule: Schedule
    nodes: tuple[Node, ...]
    image: str | None = None
    volume: Volume | None = None
    namespace: str | None = None
    secret: Secret | None = None

    def to_json(self) -> str:
        """The document."""
        return TypeAdapter(Manifest).dump_json(self, indent=2).decode() + "\n"

    @staticmethod
    def from_json(text: str) -> Manifest:
        """Reads back `to_json`.

        Raises:
            ArtifactError: the text is no manifest of this version.
        """
        try:
            found = TypeAdapter(Manifest).validate_json(text)
        except (ValidationError, ConfigurationError) as error:
            raise ArtifactError(f"not a manifest of this version: {error}; compile it again") from error
        if found.format != FORMAT:
            raise ArtifactError(f"manifest of format {found.format}, and this version reads {FORMAT}; compile it again")
        return found


def manifest(definition: Definition, path: Path, nodes: Iterable[PlannedNode]) -> Manifest:
    """The manifest of a definition.

    Args:
        definition: of the pipeline.
        path: where nodes find it.
        nodes: of the compiled pipeline.

    Raises:
        ConfigurationError: the definition names a node that there is not.
    """
    nodes = tuple(nodes)
    known = [node.name for node in nodes]
    if strangers := sorted(definition.nodes.keys() - set(known)):
        raise ConfigurationError(
            f"definition {path} names nodes that there are not: {', '.join(strangers)}; nodes are {', '.join(known)}"
        )
    cluster = definition.cluster
    return Manifest(
        FORMAT,
        definition.name,
        str(path),
        definition.source,
        definition.log,
        str(definition.workspace),
        definition.tracking_uri,
        definition.schedule,
        tuple(_node(definition, node) for node in nodes),
        cluster.image if cluster else None,
        cluster.volume if cluster else None,
        cluster.namespace if cluster else None,
        cluster.secret if cluster else None,
    )


def _node(definition: Definition, node: PlannedNode) -> Node:
    limits = definition.limits_of(node.name)
    return Node(
        node.name,
        node.upstream,
        node.under,
        node.is_gate,
        limits.retries,
        limits.retry_delay_s,
        limits.timeout_s,
        limits.resources,
    )
