"""Puts a version where model servers look, whole or not at all, and takes it away again.

Model servers serve the folders below the model's whose names are numbers.  A version is made in a folder of another
name and renamed when all of it is on the disk, so that no server ever sees a part of one.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from schemas.digests import verify_directory
from schemas.errors import ArtifactError
from serving.registry import Registry

# Below the model's folder, because a rename stays within a file system.  What lies here is of no use after a death.
_COMING = ".coming"
_GOING = ".going"


def place(registry: Registry, version: int, digest: str, model_folder: Path) -> Path:
    """Brings a version to `model_folder/VERSION`; one that is there already with the right digest is kept.

    One process at a time may place and remove below a model folder.

    Args:
        digest: of the SavedModel, as it was registered.

    Returns:
        The version's folder.

    Raises:
        DigestMismatchError: the registry's copy, or the folder that is there, has another digest.
        ArtifactError: the folder cannot be written, or what is there has no digest.
        RegistryError: the registry does not give the version.
    """
    placed = model_folder / str(version)
    coming = model_folder / _COMING / str(version)
    try:
        model_folder.mkdir(parents=True, exist_ok=True)
        _clear(model_folder)
        if not placed.exists():
            registry.download(version, coming)
            verify_directory(coming, digest)
            _sync(coming)
            coming.rename(placed)
            _sync_folder(model_folder)
            _clear(model_folder)
    except OSError as error:
        raise ArtifactError(
            f"version {version} cannot be placed in {model_folder} ({error}); see whether its disk is full and who may "
            "write there"
        ) from error
    verify_directory(placed, digest)
    return placed


def verify(model_folder: Path, version: int, digest: str) -> None:
    """Checks the folder that servers load a version from.

    Raises:
        DigestMismatchError: it is not what was registered.
        ArtifactError: it is absent, or has no digest.
    """
    verify_directory(model_folder / str(version), digest)


def remove(model_folder: Path, version: int) -> None:
    """Takes a version away, whole; one that is not there stays so.

    Raises:
        ArtifactError: the folder cannot be written.
    """
    placed, going = model_folder / str(version), model_folder / _GOING
    try:
        _clear(model_folder)
        if placed.exists():
            going.mkdir()
            placed.rename(going / str(version))
            _sync_folder(model_folder)
            _clear(model_folder)
    except OSError as error:
        raise ArtifactError(
            f"version {version} cannot be removed from {model_folder} ({error}); see who may write there"
        ) from error


def _clear(model_folder: Path) -> None:
    """Removes what a death has left half way in or out."""
    for name in (_COMING, _GOING):
        if (model_folder / name).exists():
            shutil.rmtree(model_folder / name)


def _sync(directory: Path) -> None:
    """Waits until everything below a directory, and itself, is on the disk."""
    for folder, _, files in os.walk(directory):
        for file in files:
            with open(Path(folder) / file, "rb") as stream:
                os.fsync(stream.fileno())
        _sync_folder(Path(folder))


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
