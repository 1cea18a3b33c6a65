"""What a pipeline keeps its records in: ML Metadata's store and MLflow, beside a workspace or as servers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from pipelines.workspace import Workspace
from schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from ml_metadata.proto.metadata_store_pb2 import ConnectionConfig

_PORTS = {"postgresql": 5432, "mysql": 3306}


@dataclass(frozen=True)
class MetadataAddress:
    """Where ML Metadata's store is.

    Attributes:
        url: `sqlite:///PATH`, `postgresql://USER@HOST[:PORT]/DATABASE` or `mysql://USER@HOST[:PORT]/DATABASE`.
        password_file: holds the password, so that it is in no argument, environment, log or compiled pipeline.

    Raises:
        ConfigurationError: the URL is of another form, or holds a password.
    """

    url: str
    password_file: Path | None = None

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.password is not None:
            # Named without it, because messages end up in logs.
            raise ConfigurationError(
                f"the metadata address of {parts.scheme}://{parts.hostname} holds a password; put it into a file and "
                "name that as metadata_password_file"
            )
        if parts.scheme == "sqlite" and parts.path.startswith("/") and not parts.netloc:
            return
        if parts.scheme in _PORTS and parts.username and parts.hostname and len(parts.path) > 1:
            return
        raise ConfigurationError(
            f"metadata address {self.url!r} is none; use sqlite:///PATH, postgresql://USER@HOST:PORT/DATABASE or "
            "mysql://USER@HOST:PORT/DATABASE"
        )

    @property
    def is_file(self) -> bool:
        """Whether it is a SQLite file, which takes one writer at a time."""
        return self.url.startswith("sqlite:")

    def connection(self) -> ConnectionConfig:
        """How ML Metadata connects; with the password, so show it to nobody.

        Raises:
            ConfigurationError: the password file cannot be read.
        """
        from ml_metadata.proto.metadata_store_pb2 import ConnectionConfig

        config = ConnectionConfig()
        parts = urlsplit(self.url)
        if self.is_file:
            config.sqlite.filename_uri = unquote(parts.path)
            return config
        host, user, database = parts.hostname or "", unquote(parts.username or ""), unquote(parts.path[1:])
        port = parts.port or _PORTS[parts.scheme]
        if parts.scheme == "mysql":
            mysql = config.mysql
            mysql.host, mysql.port, mysql.user, mysql.database = host, port, user, database
            mysql.password = self._password()
        else:
            postgresql = config.postgresql
            postgresql.host, postgresql.port, postgresql.user, postgresql.dbname = host, str(port), user, database
            postgresql.password = self._password()
        return config

    def _password(self) -> str:
        if self.password_file is None:
            return ""
        try:
            return self.password_file.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"metadata_password_file {self.password_file} cannot be read: {error}") from error


@dataclass(frozen=True)
class Services:
    """Where the records of a pipeline go.

    Attributes:
        metadata: ML Metadata's store.
        tracking_uri: MLflow's, a server's or that of its database.
        artifact_root: where MLflow keeps files, as a URI; None leaves that to its server.
    """

    metadata: MetadataAddress
    tracking_uri: str
    artifact_root: str | None

    @staticmethod
    def embedded(workspace: Workspace) -> Services:
        """Files in the workspace."""
        return Services(
            MetadataAddress(f"sqlite://{quote(str(workspace.metadata))}"),
            workspace.tracking_uri,
            workspace.artifact_root,
        )
