"""SHA-256 digests by which files, directories and source code are recognised."""

from __future__ import annotations

import hashlib
import os
import stat
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from schemas.errors import ArtifactError, ConfigurationError, DigestMismatchError

if TYPE_CHECKING:
    from hashlib import _Hash

_CHUNK_BYTES = 1 << 20
_SIZE_BYTES = 8


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content, 64 lower-case hexadecimal digits.

    Raises:
        ArtifactError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read ({error.strerror}); its digest is needed") from error


def directory_digest(path: Path) -> str:
    """SHA-256 of a directory, 64 lower-case hexadecimal digits: of the bytes that its files give in turn.

    Each regular file at any depth, hidden ones included, gives four fields without anything between them:

        relative path   UTF-8, components joined by `/`, as the file system spells it
        NUL             one zero byte
        size            of the content in bytes, unsigned, 8 bytes, most significant first
        content         as it is

    Files come in the order of their relative paths' UTF-8 bytes.  A directory counts only through the files below it:
    an empty one adds nothing, because a registry's copy loses it.  Neither do modes, owners and times.  `path` itself
    may be a symbolic link; what lies below it may not, because what a link shows can change while the directory
    does not.

    Raises:
        ArtifactError: the directory is absent or holds no file; something below it is neither a regular file nor a
            directory, has a name that is not UTF-8, cannot be read, or changed while it was read.
    """
    files = _regular_files(path)
    if not files:
        raise ArtifactError(f"{path} holds no file; a directory without content has no digest")
    digest = hashlib.sha256()
    for relative, file in sorted(files.items()):
        digest.update(relative + b"\0")
        _add_content(digest, file)
    return digest.hexdigest()


def verify_directory(path: Path, digest: str) -> None:
    """Checks that `directory_digest(path)` is `digest`.

    Raises:
        DigestMismatchError: it is not.
        ArtifactError: the directory has no digest.
    """
    found = directory_digest(path)
    if found != digest:
        raise DigestMismatchError(
            f"{path} has the digest {found}, but {digest} was recorded; it was changed or cut short, so fetch it again"
        )


def code_digest(*sources: str | Path) -> str:
    """SHA-256 of source code: the key under which the result of a step may be reused.

    A `str` is the dotted name of a module, or of a package, which stands for every `.py` file below it.  A `Path` is a
    file, or a directory with every file below it.  Nothing is imported.  The order of `sources` changes nothing, nor
    does naming a file twice, nor moving the project to another folder: a file counts under its module's name, or under
    its path inside the directory that was given.

    Raises:
        ConfigurationError: no such module, or one without Python source.
        ArtifactError: a path is absent or cannot be read.
    """
    entries: set[tuple[str, str]] = set()
    for source in sources:
        files = _path_files(source) if isinstance(source, Path) else _module_files(source)
        entries |= {(label, file_digest(file)) for label, file in files}
    digest = hashlib.sha256()
    for label, content in sorted(entries):
        digest.update(f"{label}\0{content}\n".encode())
    return digest.hexdigest()


def _regular_files(root: Path) -> dict[bytes, Path]:
    """Every file below `root` by the UTF-8 bytes of its relative path."""
    files: dict[bytes, Path] = {}
    pending = [root]
    while pending:
        directory = pending.pop()
        try:
            with os.scandir(directory) as scan:
                entries = [(entry, entry.stat(follow_symlinks=False).st_mode) for entry in scan]
        except OSError as error:
            raise ArtifactError(f"{directory} cannot be listed ({error.strerror}); its digest is needed") from error
        for entry, mode in entries:
            found = Path(entry.path)
            if stat.S_ISDIR(mode):
                pending.append(found)
            elif stat.S_ISREG(mode):
                files[_utf8(found.relative_to(root).as_posix(), root)] = found
            else:
                raise ArtifactError(f"{found} is neither a file nor a directory; replace a link by what it points to")
    return files


def _utf8(name: str, root: Path) -> bytes:
    try:
        return name.encode()
    except UnicodeEncodeError:
        raise ArtifactError(f"{root} holds {name!r}, a name that is not UTF-8; rename it") from None


def _add_content(digest: _Hash, file: Path) -> None:
    try:
        with file.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            digest.update(size.to_bytes(_SIZE_BYTES, "big"))
            seen = 0
            while chunk := stream.read(_CHUNK_BYTES):
                digest.update(chunk)
                seen += len(chunk)
    except OSError as error:
        raise ArtifactError(f"{file} cannot be read ({error.strerror}); its digest is needed") from error
    if seen != size:
        raise ArtifactError(
            f"{file} had {size} bytes and then {seen}: it changed while it was read, so read it again later"
        )


def _path_files(path: Path) -> list[tuple[str, Path]]:
    if not path.is_dir():
        return [(path.name, path)]
    return [(f"{path.name}/{relative.decode()}", file) for relative, file in _regular_files(path).items()]


def _module_files(name: str) -> list[tuple[str, Path]]:
    spec = _find(name)
    inside = name.replace(".", "/")
    if spec.submodule_search_locations is not None:
        roots = [Path(location) for location in spec.submodule_search_locations]
        files = [
            (f"{inside}/{file.relative_to(root).as_posix()}", file) for root in roots for file in root.rglob("*.py")
        ]
        if files:
            return files
    elif spec.origin is not None and spec.origin.endswith(".py"):
        return [(f"{inside}.py", Path(spec.origin))]
    raise ConfigurationError(f"module {name!r} has no Python source ({spec.origin}); name one that has")


def _find(name: str) -> ModuleSpec:
    # Part by part, because find_spec("a.b") imports `a`, and that may take seconds.
    head, *rest = name.split(".")
    spec = find_spec(head)
    full = head
    for part in rest:
        if spec is None or spec.submodule_search_locations is None:
            break
        full = f"{full}.{part}"
        spec = PathFinder.find_spec(full, list(spec.submodule_search_locations))
    if spec is None or full != name:
        raise ConfigurationError(f"there is no module {name!r}; give a dotted name such as components.evidence")
    return spec
