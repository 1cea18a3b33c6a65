"""Digests: the bytes they stand for, what they refuse, what does not change them."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from schemas.digests import code_digest, directory_digest, file_digest, verify_directory
from schemas.errors import ArtifactError, ConfigurationError, DigestMismatchError


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A small directory whose files were not made in the order of their names."""
    root = tmp_path / "model"
    (root / "variables").mkdir(parents=True)
    (root / "variables" / "data").write_bytes(b"\x00\x01\x02")
    (root / "saved_model.pb").write_bytes(b"graph")
    (root / "assets.extra").mkdir()
    (root / "assets.extra" / "prüfung").write_bytes(b"")
    (root / "Z").write_bytes(b"upper case sorts first")
    return root


def test_the_digest_is_that_of_the_documented_bytes(model: Path) -> None:
    written_out = (
        b"Z\0" + b"\0\0\0\0\0\0\0\x16" + b"upper case sorts first"
        b"assets.extra/pr\xc3\xbcfung\0" + b"\0\0\0\0\0\0\0\0"
        b"saved_model.pb\0" + b"\0\0\0\0\0\0\0\x05" + b"graph"
        b"variables/data\0" + b"\0\0\0\0\0\0\0\x03" + b"\x00\x01\x02"
    )
    assert directory_digest(model) == hashlib.sha256(written_out).hexdigest()


def test_the_digest_of_known_bytes_never_changes(tmp_path: Path) -> None:
    # printf 'a\0\0\0\0\0\0\0\0\3abc' | sha256sum
    (tmp_path / "a").write_bytes(b"abc")
    assert directory_digest(tmp_path) == "9d6362789eebaa5d9bf1e0f2c0e5411c7d583d1df1ecb867360c9471e509a272"
    # printf abc | sha256sum
    assert file_digest(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_paths_sort_as_whole_strings_and_not_folder_by_folder(tmp_path: Path) -> None:
    # "a-b" < "a/b" as bytes, though the folder "a" < "a-b".
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_bytes(b"2")
    (tmp_path / "a-b").write_bytes(b"1")
    one = (1).to_bytes(8, "big")
    assert directory_digest(tmp_path) == hashlib.sha256(b"a-b\0" + one + b"1" + b"a/b\0" + one + b"2").hexdigest()


def test_a_copy_with_other_times_modes_and_empty_folders_has_the_same_digest(model: Path) -> None:
    before = directory_digest(model)
    os.utime(model / "Z", (0, 0))
    (model / "Z").chmod(0o600)
    (model / "assets").mkdir()
    assert directory_digest(model) == before


@pytest.mark.parametrize("change", ["content", "name", "added", "removed", "moved boundary"])
def test_any_change_of_a_file_changes_the_digest(model: Path, change: str) -> None:
    before = directory_digest(model)
    if change == "content":
        (model / "saved_model.pb").write_bytes(b"grapf")
    elif change == "name":
        (model / "Z").rename(model / "Y")
    elif change == "added":
        (model / ".hidden").write_bytes(b"")
    elif change == "removed":
        (model / "assets.extra" / "prüfung").unlink()
    else:  # one file that spells out the bytes of two
        (model / "Z").unlink()
        (model / "Z").write_bytes(b"upper case sorts firstassets.extra/pr\xc3\xbcfung\0" + b"\0" * 8)
        (model / "assets.extra" / "prüfung").unlink()
    assert directory_digest(model) != before


def test_a_link_is_refused_even_when_it_points_to_a_file_inside(model: Path) -> None:
    (model / "link").symlink_to(model / "Z")
    with pytest.raises(ArtifactError, match="link is neither a file nor a directory"):
        directory_digest(model)


def test_a_link_to_a_folder_is_refused_and_not_followed(model: Path) -> None:
    (model / "loop").symlink_to(model)
    with pytest.raises(ArtifactError, match="loop is neither"):
        directory_digest(model)


def test_a_named_pipe_is_refused_and_not_waited_for(model: Path) -> None:
    os.mkfifo(model / "pipe")
    with pytest.raises(ArtifactError, match="pipe is neither"):
        directory_digest(model)


def test_the_directory_itself_may_be_a_link(model: Path, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(model)
    assert directory_digest(tmp_path / "current") == directory_digest(model)


def test_a_name_that_is_not_utf8_is_refused(model: Path) -> None:
    with open(os.fsencode(model) + b"/\xff", "wb"):
        pass
    with pytest.raises(ArtifactError, match="not UTF-8"):
        directory_digest(model)


def test_absent_and_empty_directories_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="cannot be listed"):
        directory_digest(tmp_path / "absent")
    (tmp_path / "empty" / "below").mkdir(parents=True)
    with pytest.raises(ArtifactError, match="holds no file"):
        directory_digest(tmp_path / "empty")
    with pytest.raises(ArtifactError, match="cannot be read"):
        file_digest(tmp_path / "absent")


def test_verifying_passes_on_the_same_bytes_and_names_both_digests_otherwise(model: Path) -> None:
    digest = directory_digest(model)
    verify_directory(model, digest)
    (model / "Z").write_bytes(b"changed")
    with pytest.raises(DigestMismatchError, match=digest) as refusal:
        verify_directory(model, digest)
    assert directory_digest(model) in str(refusal.value)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package `heavy_steps` that must not be imported."""
    root = tmp_path / "site" / "heavy_steps"
    (root / "inner").mkdir(parents=True)
    (root / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (root / "train.py").write_text("EPOCHS = 3\n")
    (root / "inner" / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (root / "inner" / "loop.py").write_text("raise RuntimeError('imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return root


def test_code_is_digested_without_importing_it_or_its_parents(package: Path) -> None:
    assert len(code_digest("heavy_steps.inner.loop", "heavy_steps")) == 64
    assert not [name for name in sys.modules if name.startswith("heavy_steps")]


def test_only_the_module_that_was_edited_changes_its_digest(package: Path) -> None:
    train, loop, whole = (code_digest(name) for name in ("heavy_steps.train", "heavy_steps.inner.loop", "heavy_steps"))
    (package / "train.py").write_text("EPOCHS = 4\n")
    assert code_digest("heavy_steps.train") != train
    assert code_digest("heavy_steps.inner.loop") == loop
    assert code_digest("heavy_steps") != whole


def test_the_order_and_repetition_of_sources_do_not_matter(package: Path) -> None:
    once = code_digest("heavy_steps.train", "heavy_steps.inner")
    assert code_digest("heavy_steps.inner", "heavy_steps.inner.loop", "heavy_steps.train") == once


def test_code_keeps_its_digest_when_the_project_moves(package: Path, tmp_path: Path) -> None:
    before = code_digest("heavy_steps", package / "train.py")
    moved = tmp_path / "elsewhere"
    (tmp_path / "site").rename(moved)
    script = """
import sys
from pathlib import Path
from schemas.digests import code_digest
sys.path.insert(0, sys.argv[1])
print(code_digest("heavy_steps", Path(sys.argv[1]) / "heavy_steps" / "train.py"))
"""
    after = subprocess.run([sys.executable, "-c", script, str(moved)], check=True, capture_output=True, text=True)
    assert after.stdout.strip() == before


def test_data_files_count_when_their_folder_is_named(package: Path) -> None:
    (package / "suite.yaml").write_text("a: 1\n")
    by_module, by_path = code_digest("heavy_steps"), code_digest(package)
    (package / "suite.yaml").write_text("a: 2\n")
    assert code_digest("heavy_steps") == by_module
    assert code_digest(package) != by_path


@pytest.mark.parametrize(
    "name", ["no_such_module_at_all", "heavy_steps.absent", "heavy_steps.train.absent", "itertools"]
)
def test_a_module_without_source_is_refused(package: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        code_digest(name)
