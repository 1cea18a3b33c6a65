"""The definition of a scheduled pipeline: a YAML file that every node's process reads, wherever it runs."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from pipelines.config import RunConfig, read
from pipelines.services import MetadataAddress, Services
from pipelines.workspace import Workspace
from schemas.errors import ConfigurationError

SPAN = "{SPAN}"
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")


@dataclass(frozen=True)
class Schedule:
    """When runs are made, and of which days.

    Attributes:
        cron: five fields, UTC; None leaves runs to people.
        start: the first day that a run may be about.
        catchup: whether days that passed unseen are made up for.
    """

    cron: str | None = "0 3 * * *"
    start: date = date(2026, 1, 1)
    catchup: bool = False


@dataclass(frozen=True)
class Resources:
    """What a node asks of a cluster, in Kubernetes' units; None leaves it to the cluster."""

    cpu: str | None = None
    memory: str | None = None
    gpus: int = 0


@dataclass(frozen=True)
class Limits:
    """How a node is tried.

    Attributes:
        retries: how often it is tried again.
        retry_delay_s: how long after.
        timeout_s: after which a try is ended.
        resources: of each try.
    """

    retries: int = 2
    retry_delay_s: int = 300
    timeout_s: int = 6 * 3_600
    resources: Resources = field(default_factory=Resources)

    def __post_init__(self) -> None:
        for name in ("retries", "retry_delay_s"):
            if getattr(self, name) < 0:
                raise ConfigurationError(f"{name} is {getattr(self, name)}; it must be 0 or more")
        if self.timeout_s < 1:
            raise ConfigurationError(f"timeout_s is {self.timeout_s}; it must be 1 or more")


@dataclass(frozen=True)
class Volume:
    """A persistent volume claim, and where containers see it; it holds what `workspace` and `log` name."""

    claim: str
    mount_path: str


@dataclass(frozen=True)
class Secret:
    """A secret of Kubernetes, and the folder in which containers see its keys as files."""

    name: str
    mount_path: str


@dataclass(frozen=True)
class Cluster:
    """Where nodes run as containers.

    Attributes:
        image: of the pipeline.
        volume: what they share.
        namespace: of Kubernetes; None is the scheduler's own.
        secret: holds what `metadata_password_file` names; None where that is not needed.
    """

    image: str
    volume: Volume
    namespace: str | None = None
    secret: Secret | None = None


@dataclass(frozen=True)
class Definition:
    """A scheduled pipeline.  Paths in its file are relative to the file's folder.

    Attributes:
        name: begins the names of what schedulers make of it: lower-case letters, digits and hyphens.
        source: name of the log's mapping, or the path of one.
        log: the transaction log; `{SPAN}` in it stands for a day as YYYY-MM-DD.
        rolling_days: how many days' logs a run reads, the last being its span's.
        workspace: a folder, or a mounted volume, that all nodes see.
        metadata: of ML Metadata, see `MetadataAddress`; None is a file in the workspace.
        metadata_password_file: see `MetadataAddress`.
        tracking_uri: of an MLflow server; None is a database in the workspace.
        config: the choices of a run.
        schedule: when.
        limits: how nodes are tried, ...
        nodes: ... and those of single nodes, by id, instead.
        cluster: where they run as containers; None runs them as processes of the scheduler.

    Raises:
        ConfigurationError: a value is wrong.
    """

    name: str
    source: str
    log: str
    workspace: Path
    rolling_days: int = 1
    metadata: str | None = None
    metadata_password_file: Path | None = None
    tracking_uri: str | None = None
    config: RunConfig = field(default_factory=RunConfig)
    schedule: Schedule = field(default_factory=Schedule)
    limits: Limits = field(default_factory=Limits)
    nodes: dict[str, Limits] = field(default_factory=dict)
    cluster: Cluster | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ConfigurationError(f"name {self.name!r} is none; use lower-case letters, digits and hyphens")
        if self.rolling_days < 1:
            raise ConfigurationError(f"rolling_days is {self.rolling_days}; it must be 1 or more")
        if self.rolling_days > 1 and SPAN not in self.log:
            raise ConfigurationError(f"rolling_days is {self.rolling_days}, and log {self.log!r} has no {SPAN}")
        if self.metadata_password_file is not None and self.metadata is None:
            raise ConfigurationError("metadata_password_file is given without metadata, whose password it would hold")
        if self.tracking_uri is not None and urlsplit(self.tracking_uri).password is not None:
            raise ConfigurationError(
                f"tracking_uri of {urlsplit(self.tracking_uri).hostname} holds a password; MLflow reads that from "
                "MLFLOW_TRACKING_PASSWORD or ~/.mlflow/credentials"
            )
        if self.metadata is not None:
            MetadataAddress(self.metadata, self.metadata_password_file)

    def services(self, workspace: Workspace) -> Services:
        """Where the records go."""
        embedded = Services.embedded(workspace)
        if self.metadata is not None:
            embedded = replace(embedded, metadata=MetadataAddress(self.metadata, self.metadata_password_file))
        if self.tracking_uri is not None:
            embedded = replace(embedded, tracking_uri=self.tracking_uri, artifact_root=None)
        return embedded

    def limits_of(self, node: str) -> Limits:
        """How a node is tried."""
        return self.nodes.get(node, self.limits)


def load(path: Path) -> Definition:
    """The definition in a YAML file.

    Raises:
        ConfigurationError: the file is absent or not YAML, or a key or value in it is wrong.
    """
    return _below(read(Definition, path, "pipeline definition"), path.resolve().parent)


def _below(definition: Definition, folder: Path) -> Definition:
    """Relative paths, from the folder of the file on."""
    config, password = definition.config, definition.metadata_password_file
    server = config.infra.model_server
    source = definition.source
    return replace(
        definition,
        source=str(folder / source) if source.endswith((".yaml", ".yml")) else source,
        log=str(folder / definition.log),
        workspace=folder / definition.workspace,
        metadata_password_file=folder / password if password else None,
        config=replace(
            config,
            rules=folder / config.rules if config.rules else None,
            infra=replace(config.infra, model_server=folder / server if server else None),
        ),
    )


def days(span: date, rolling_days: int) -> list[date]:
    """The days that a run of a span reads, the earliest first."""
    return [span - timedelta(days=before) for before in reversed(range(rolling_days))]


def read_span(text: str) -> date:
    """A day as it is written in file names.

    Raises:
        ConfigurationError: the text is none.
    """
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise ConfigurationError(f"span {text!r} is no day; write it as YYYY-MM-DD") from error
