"""The workspace: one folder that holds everything the embedded parts write."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from schemas.errors import ConfigurationError
from schemas.keys import MIN_KEY_BYTES
from schemas.tokens import CardKey, read_card_key

DEFAULT = Path("workspace")
_CARD_KEY_VERSION = 1


@dataclass(frozen=True)
class Workspace:
    """Where each part keeps its files below `root`, an absolute path."""

    root: Path

    @staticmethod
    def at(path: Path) -> Workspace:
        """The workspace at a path, made if it is not there yet.

        Raises:
            ConfigurationError: the path cannot be a folder of ours.
        """
        root = path.resolve()
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(
                f"workspace {path} cannot be made ({error.strerror}); name a folder that can be written"
            ) from error
        return Workspace(root)

    @property
    def metadata(self) -> Path:
        """ML Metadata's SQLite file."""
        return self.root / "metadata.sqlite"

    @property
    def reports(self) -> Path:
        return self.root / "reports"

    @property
    def tracking_uri(self) -> str:
        """MLflow's store."""
        folder = self.root / "mlflow"
        folder.mkdir(exist_ok=True)
        return f"sqlite:///{folder / 'mlflow.db'}"

    @property
    def artifact_root(self) -> str:
        """Where MLflow keeps files, as a URI."""
        return (self.root / "mlflow" / "artifacts").as_uri()

    def feature_store(self, source: str) -> Path:
        """The file of the embedded feature store of one source's transactions."""
        return self.root / "features" / f"{source}.sqlite"

    @property
    def served_models(self) -> Path:
        """Where the model server finds versions, as `<model>/<version>/`."""
        return self.root / "serving" / "models"

    @property
    def models_config(self) -> Path:
        """The ModelServerConfig, in text form, that a restarted model server starts from."""
        return self.served_models / "models.config"

    @property
    def rollout(self) -> Path:
        """The SQLite file of the rollout's state, history and routing; its folder is made."""
        return self._online("rollout.sqlite")

    @property
    def decisions(self) -> Path:
        """The SQLite file of the decision log; its folder is made."""
        return self._online("decisions.sqlite")

    @property
    def studies(self) -> str:
        """The database of `fraudops tune`, as SQLAlchemy takes its address."""
        return f"sqlite:///{self.root / 'tuning.sqlite'}"

    @property
    def stack(self) -> Path:
        """Where the supervised processes of `fraudops up` have their configuration and logs."""
        return self.root / "stack"

    def _online(self, name: str) -> Path:
        folder = self.root / "serving"
        folder.mkdir(exist_ok=True)
        return folder / name

    def pipeline_root(self, pipeline: str) -> Path:
        """Where the artifacts of one pipeline lie."""
        return self.root / "pipelines" / pipeline

    def run_record(self, pipeline: str, run_id: str) -> Path:
        """The record of a run that goes node by node; its folder is made."""
        folder = self.root / "runs" / pipeline
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{run_id}.json"

    def log_list(self, name: str) -> Path:
        """The list of files that is a log of several days; its folder is made."""
        folder = self.root / "logs"
        folder.mkdir(exist_ok=True)
        return folder / f"{name}.log.json"

    @property
    def card_key_file(self) -> Path:
        return self.root / "keys" / f"card-{_CARD_KEY_VERSION}.key"

    def card_key(self) -> CardKey:
        """The key that tokenises card numbers; made on first use, readable by its owner only.

        Raises:
            ConfigurationError: the key file is there, but open to others or too short.
        """
        folder = self.card_key_file.parent
        folder.mkdir(mode=0o700, exist_ok=True)
        # Written elsewhere first and linked: two processes that start at once end with one key, whole.
        if not self.card_key_file.exists():
            fresh = folder / f".{secrets.token_hex(8)}"
            with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(secrets.token_bytes(MIN_KEY_BYTES))
            try:
                os.link(fresh, self.card_key_file)
            except FileExistsError:
                pass
            finally:
                fresh.unlink()
        return read_card_key(self.card_key_file, _CARD_KEY_VERSION)

    @contextmanager
    def exclusive(self, wait: bool = False, work: Literal["run", "search"] = "run") -> Iterator[None]:
        """Holds the workspace for one piece of work of a kind; the lock goes with the process, however it ends.

        Args:
            wait: until nobody else holds it.
            work: a run of a pipeline, or a search for settings.

        Raises:
            ConfigurationError: another holds it.
        """
        with open(self.root / f"{work}.lock", "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConfigurationError(
                    f"another {work} is using workspace {self.root}; wait for it, or name another --workspace"
                ) from None
            yield
