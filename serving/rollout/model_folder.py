"""The folder that model servers serve a model from, filled from the registry."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from schemas.errors import ArtifactError
from serving.registry import Registry
from serving.rollout.placement import place, remove


@dataclass(frozen=True)
class ModelFolder:
    """The versions in `path/VERSION/`; one process at a time may use it."""

    registry: Registry
    path: Path

    def versions(self) -> frozenset[int]:
        """Those that are there, whatever is in them.

        Raises:
            ArtifactError: the folder cannot be listed.
        """
        try:
            return frozenset(int(child.name) for child in self.path.iterdir() if child.name.isdecimal())
        except FileNotFoundError:
            return frozenset()
        except OSError as error:
            raise ArtifactError(f"{self.path} cannot be listed ({error}); see who may read it") from error

    def place(self, version: int, digest: str) -> Path:
        """See `placement.place`: the version's folder, its bytes verified just now."""
        return place(self.registry, version, digest, self.path)

    def remove(self, version: int) -> None:
        """See `placement.remove`."""
        remove(self.path, version)
