"""The model registry as the online side needs it: a port, which `pipelines.registry` fills with MLflow."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from schemas.approval import Approval
from schemas.versions import Version


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
