"""The files of a transaction log, in the order in which they are read, and the digest of their content."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import LogError

PARQUET_ENDINGS = (".parquet", ".pq")
CSV_ENDINGS = (".csv", ".csv.gz")
JSON_LINES_ENDINGS = (".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz")
LIST_ENDING = ".log.json"
ENDINGS = PARQUET_ENDINGS + CSV_ENDINGS + JSON_LINES_ENDINGS

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class LogFile:
    """One file of a log.

    Attributes:
        name: as reports and dead letters show it: relative to the log's folder, with slashes.
        path: where it is.
    """

    name: str
    path: Path


def log_files(path: Path) -> tuple[LogFile, ...]:
    """The files of a log: the file itself, all files below a folder, or those of a list, sorted by their names.

    Below a folder, names that begin with a dot or an underscore are skipped (`.crc`, `_SUCCESS`, `_temporary/`).

    Args:
        path: of the file, of the folder, or of what `write_list` wrote.

    Raises:
        LogError: the path, or a file of the list, is absent, the folder holds no log file, or a file is of no known
            format.
    """
    if not path.exists():
        raise LogError(f"transaction log {path} does not exist; give a file or a folder of files")
    files = _files(path)
    strangers = [file.name for file in files if not file.path.name.lower().endswith(ENDINGS)]
    if strangers:
        raise LogError(
            f"transaction log {path} has files of no known format: {', '.join(strangers)}; "
            f"remove them or rename them to one of {', '.join(ENDINGS)}"
        )
    if not files:
        raise LogError(f"transaction log {path} is a folder without files; put {', '.join(ENDINGS)} files into it")
    return files


def write_list(path: Path, folder: Path, files: Iterable[Path]) -> None:
    """Writes a log that consists of files below a folder which holds others as well.

    Args:
        path: of the list, ending in `LIST_ENDING`; it appears whole or not at all.
        folder: which all of them lie below.
        files: of known formats.
    """
    listed = {"folder": str(folder), "files": [file.relative_to(folder).as_posix() for file in files]}
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(json.dumps(listed, indent=1), encoding="utf-8")
    fresh.replace(path)


def log_digest(path: Path) -> str:
    """SHA-256 over (relative name, NUL, size, NUL, content) of the log's files, in their order.

    Raises:
        LogError: as `log_files`, or a file cannot be read.
    """
    digest = hashlib.sha256()
    for file in log_files(path):
        try:
            with file.path.open("rb") as stream:
                digest.update(f"{file.name}\0{os.fstat(stream.fileno()).st_size}\0".encode())
                while chunk := stream.read(_CHUNK_BYTES):
                    digest.update(chunk)
        except OSError as error:
            raise unreadable(file.path, error) from error
    return digest.hexdigest()


def unreadable(file: Path, error: OSError) -> LogError:
    """What to raise when the operating system refuses a file."""
    return LogError(
        f"transaction log {file} cannot be read ({error.strerror or error}); check the file and its permissions"
    )


def _files(path: Path) -> tuple[LogFile, ...]:
    if path.is_dir():
        found = [LogFile(_shown(file.relative_to(path)), file) for file in _below(path)]
    elif path.name.endswith(LIST_ENDING):
        found = _listed(path)
    else:
        found = [LogFile(_shown(Path(path.name)), path)]
    return tuple(sorted(found, key=lambda file: file.name))


def _listed(path: Path) -> list[LogFile]:
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
        folder, names = Path(listed["folder"]), listed["files"]
        files = [LogFile(_shown(Path(name)), folder / name) for name in names]
    except OSError as error:
        raise unreadable(path, error) from error
    except (ValueError, KeyError, TypeError) as error:
        raise LogError(f"transaction log {path} is no list of files ({error}); make it again") from error
    if absent := [str(file.path) for file in files if not file.path.is_file()]:
        raise LogError(f"transaction log {path} lists files that are not there: {', '.join(absent)}")
    return files


def _shown(name: Path) -> str:
    return name.as_posix().encode(errors="backslashreplace").decode()  # names on disk need not be UTF-8


def _below(folder: Path) -> list[Path]:
    def fail(error: OSError) -> None:
        raise LogError(f"folder {error.filename} cannot be listed ({error.strerror}); check its permissions") from error

    files = []
    for root, folders, names in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith((".", "_"))]
        files += [Path(root, name) for name in names if not name.startswith((".", "_"))]
    return files
