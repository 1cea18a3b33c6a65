"""Placement: a version is below the model's folder whole and verified, or not at all, whenever a process dies."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from schemas.approval import Approval
from schemas.digests import directory_digest
from schemas.errors import ArtifactError, DigestMismatchError, RegistryError
from schemas.versions import Version
from serving.rollout import placement

WRONG = "0" * 64
BOUND_S = 60


class FolderRegistry:
    """Gives the versions below a folder, as they are."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.downloads = 0
        self.before_copying: Callable[[], None] = lambda: None

    def download(self, version: int, destination: Path) -> None:
        self.downloads += 1
        self.before_copying()
        destination.parent.mkdir(parents=True, exist_ok=True)
        if not (self.folder / str(version)).exists():
            raise RegistryError(f"there is no version {version}")
        shutil.copytree(self.folder / str(version), destination)

    def versions(self) -> tuple[Version, ...]:
        raise NotImplementedError

    def version(self, version: int) -> Version:
        raise NotImplementedError

    def record(self, version: int, approval: Approval) -> None:
        raise NotImplementedError

    def set_alias(self, alias: str, version: int) -> None:
        raise NotImplementedError

    def remove_alias(self, alias: str) -> None:
        raise NotImplementedError


@pytest.fixture
def registry(tmp_path: Path) -> FolderRegistry:
    """Holds version 4."""
    saved = tmp_path / "registry" / "4"
    (saved / "variables").mkdir(parents=True)
    (saved / "saved_model.pb").write_bytes(b"graph" * 1000)
    (saved / "variables" / "variables.data").write_bytes(b"weights" * 1000)
    return FolderRegistry(tmp_path / "registry")


@pytest.fixture
def digest(registry: FolderRegistry) -> str:
    return directory_digest(registry.folder / "4")


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "models" / "fraud"


def names(folder: Path) -> set[str]:
    return {child.name for child in folder.iterdir()}


def test_a_version_is_placed_under_its_number_and_kept_from_then_on(
    registry: FolderRegistry, digest: str, models: Path
) -> None:
    assert placement.place(registry, 4, digest, models) == models / "4"
    assert directory_digest(models / "4") == digest
    assert names(models) == {"4"}
    assert placement.place(registry, 4, digest, models) == models / "4"
    assert registry.downloads == 1


def test_a_changed_registry_is_refused_with_both_digests_and_nothing_is_placed(
    registry: FolderRegistry, digest: str, models: Path
) -> None:
    (registry.folder / "4" / "saved_model.pb").write_bytes(b"graph" * 999 + b"grapH")
    changed = directory_digest(registry.folder / "4")
    with pytest.raises(DigestMismatchError) as refused:
        placement.place(registry, 4, digest, models)
    assert digest in str(refused.value) and changed in str(refused.value)
    assert not (models / "4").exists()


def test_a_folder_with_another_digest_is_refused_and_not_replaced(
    registry: FolderRegistry, digest: str, models: Path
) -> None:
    placement.place(registry, 4, digest, models)
    (models / "4" / "saved_model.pb").write_bytes(b"other")
    other = directory_digest(models / "4")
    for check in (
        lambda: placement.place(registry, 4, digest, models),
        lambda: placement.verify(models, 4, digest),
    ):
        with pytest.raises(DigestMismatchError) as refused:
            check()
        assert digest in str(refused.value) and other in str(refused.value)
    assert (models / "4" / "saved_model.pb").read_bytes() == b"other"
    assert registry.downloads == 1


def test_verifying_what_is_right_says_nothing_and_what_is_absent_is_named(
    registry: FolderRegistry, digest: str, models: Path
) -> None:
    placement.place(registry, 4, digest, models)
    placement.verify(models, 4, digest)
    with pytest.raises(DigestMismatchError):
        placement.verify(models, 4, WRONG)
    with pytest.raises(ArtifactError, match="5"):
        placement.verify(models, 5, digest)


def test_a_registry_without_the_version_leaves_nothing(registry: FolderRegistry, digest: str, models: Path) -> None:
    with pytest.raises(RegistryError, match="no version 5"):
        placement.place(registry, 5, digest, models)
    assert not [name for name in names(models) if name.isdigit()]


def test_a_version_is_taken_away_whole_and_may_be_absent(registry: FolderRegistry, digest: str, models: Path) -> None:
    placement.place(registry, 4, digest, models)
    placement.remove(models, 4)
    assert names(models) == set()
    placement.remove(models, 4)
    placement.remove(models.with_name("absent"), 4)


def test_a_folder_that_cannot_be_written_is_named(registry: FolderRegistry, digest: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ArtifactError, match="file"):
        placement.place(registry, 4, digest, tmp_path / "file")


def die_at(call: int, work: Callable[[], object]) -> None:
    """Runs some work and kills this process at its n-th change of a name, of a file's durability, or removal."""
    left = call

    def counting(function: Callable[..., object]) -> Callable[..., object]:
        def counted(*args: object, **kwargs: object) -> object:
            nonlocal left
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
            return function(*args, **kwargs)

        return counted

    for name in ("mkdir", "rename", "fsync", "unlink", "rmdir"):
        setattr(os, name, counting(getattr(os, name)))
    work()


@pytest.mark.parametrize("removes", [False, True])
def test_death_at_any_moment_leaves_a_whole_version_or_none_and_the_next_try_goes_on(
    registry: FolderRegistry, digest: str, models: Path, removes: bool
) -> None:
    context = multiprocessing.get_context("fork")
    deaths = 0
    for call in range(200):
        shutil.rmtree(models, ignore_errors=True)
        if removes:
            placement.place(registry, 4, digest, models)

        def work() -> None:
            if removes:
                placement.remove(models, 4)
            else:
                placement.place(registry, 4, digest, models)

        process = context.Process(target=die_at, args=(call, work))
        process.start()
        try:
            process.join(BOUND_S)
        finally:
            process.kill()
            process.join()
        if models.exists() and "4" in names(models):
            placement.verify(models, 4, digest)
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
        deaths += 1
        work()
        assert names(models) == (set() if removes else {"4"})
        assert removes or directory_digest(models / "4") == digest
    assert process.exitcode == 0
    assert deaths > 5
