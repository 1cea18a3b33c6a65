"""The port of the online side's registry, filled with MLflow."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from components.registry.client import connect, registry_errors
from components.registry.versions import download_saved_model, list_versions, show_version
from schemas.approval import Approval, read
from schemas.errors import RegistryError
from schemas.versions import MODEL_NAME, Version

if TYPE_CHECKING:
    from mlflow import MlflowClient


class MlflowRegistry:
    """`serving.registry.Registry` in MLflow, whose client is imported with the first object of this class."""

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
