"""The model registry as the online side needs it: a port, and the same on MLflow."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from registry.client import connect, registry_errors
from registry.versions import MODEL_NAME, Version, download_saved_model, list_versions, show_version
from schemas.approval import Approval, read
from schemas.errors import RegistryError

if TYPE_CHECKING:
    from mlflow import MlflowClient


class Registry(Protocol):
    """The versions of one model: what is known of them, what people decided, and which of them the aliases name.

    Every call may raise a RegistryError.
    """

    def versions(self) -> tuple[Version, ...]:
        """Every version, newest first, without metrics."""
        ...

    def version(self, version: int) -> Version:
        """One version, without metrics."""
        ...

    def record(self, version: int, approval: Approval) -> None:
        """Writes a decision, and reads it back."""
        ...

    def set_alias(self, alias: str, version: int) -> None:
        """Lets an alias name a version, and no longer the one that it named before."""
        ...

    def remove_alias(self, alias: str) -> None:
        """Lets an alias name nothing; one that does not exist stays so."""
        ...

    def download(self, version: int, destination: Path) -> None:
        """Copies the SavedModel of a version to `destination`, which appears only when it is complete and verified.

        Raises:
            DigestMismatchError: the registry's files are not those that were registered.
            ArtifactError: `destination` exists already.
        """
        ...


class MlflowRegistry:
    """The registry in MLflow, whose client is imported with the first object of this class."""

    def __init__(self, tracking_uri: str, model_name: str = MODEL_NAME) -> None:
        self._client: MlflowClient = connect(tracking_uri)
        self._model_name = model_name

    def versions(self) -> tuple[Version, ...]:
        """See `Registry`."""
        return list_versions(self._client, self._model_name, with_metrics=False)

    def version(self, version: int) -> Version:
        """See `Registry`."""
        return show_version(self._client, version, self._model_name, with_metrics=False)

    def record(self, version: int, approval: Approval) -> None:
        """See `Registry`; MLflow writes one tag at a time, in the order that `Approval.writes` gives the reason for."""
        with registry_errors(f"recording that version {version} of model {self._model_name!r} is {approval.state}"):
            for tag, value in approval.writes():
                if value:
                    self._client.set_model_version_tag(self._model_name, str(version), tag, value)
                else:
                    self._client.delete_model_version_tag(self._model_name, str(version), tag)
        found = read(self.version(version).tags)
        if found != approval:
            raise RegistryError(
                f"version {version} of model {self._model_name!r} is {found.state} by {found.by or 'nobody'} after it "
                f"was set to {approval.state} by {approval.by}: somebody else decided at the same time, so look at it "
                "and decide again"
            )

    def set_alias(self, alias: str, version: int) -> None:
        """See `Registry`."""
        with registry_errors(f"setting alias {alias!r} of model {self._model_name!r} to version {version}"):
            self._client.set_registered_model_alias(self._model_name, alias, str(version))

    def remove_alias(self, alias: str) -> None:
        """See `Registry`."""
        with registry_errors(f"removing alias {alias!r} of model {self._model_name!r}"):
            self._client.delete_registered_model_alias(self._model_name, alias)

    def download(self, version: int, destination: Path) -> None:
        """See `Registry`."""
        download_saved_model(self._client, version, destination, self._model_name)
