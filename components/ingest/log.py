"""The files of a transaction log, in the order in which they are read, and the digest of their content."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from schemas.errors import LogError

PARQUET_ENDINGS = (".parquet", ".pq")
CSV_ENDINGS = (".csv", ".csv.gz")
JSON_LINES_ENDINGS = (".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz")
ENDINGS = PARQUET_ENDINGS + CSV_ENDINGS + JSON_LINES_ENDINGS

_CHUNK_BYTES = 1 << 20


def log_files(path: Path) -> tuple[Path, ...]:
    """The files of a log: the file itself, or all files below a folder, sorted by their relative names.

    Below a folder, names that begin with a dot or an underscore are skipped (`.crc`, `_SUCCESS`, `_temporary/`).

    Raises:
        LogError: the path is absent, the folder holds no log file, or a file is of no known format.
    """
    if not path.exists():
        raise LogError(f"transaction log {path} does not exist; give a file or a folder of files")
    files = _below(path) if path.is_dir() else [path]
    strangers = sorted(relative_name(path, file) for file in files if not file.name.lower().endswith(ENDINGS))
    if strangers:
        raise LogError(
            f"transaction log {path} has files of no known format: {', '.join(strangers)}; "
            f"remove them or rename them to one of {', '.join(ENDINGS)}"
        )
    if not files:
        raise LogError(f"transaction log {path} is a folder without files; put {', '.join(ENDINGS)} files into it")
    return tuple(sorted(files, key=lambda file: relative_name(path, file)))


def relative_name(path: Path, file: Path) -> str:
    """The name of one of a log's files as reports and dead letters show it: relative to the folder, with slashes."""
    name = file.name if file == path else file.relative_to(path).as_posix()
    return name.encode(errors="backslashreplace").decode()  # names on disk need not be UTF-8


def log_digest(path: Path) -> str:
    """SHA-256 over (relative name, NUL, size, NUL, content) of the log's files, in their order.

    Raises:
        LogError: as `log_files`, or a file cannot be read.
    """
    digest = hashlib.sha256()
    for file in log_files(path):
        try:
            with file.open("rb") as stream:
                digest.update(f"{relative_name(path, file)}\0{os.fstat(stream.fileno()).st_size}\0".encode())
                while chunk := stream.read(_CHUNK_BYTES):
                    digest.update(chunk)
        except OSError as error:
            raise unreadable(file, error) from error
    return digest.hexdigest()


def unreadable(file: Path, error: OSError) -> LogError:
    """What to raise when the operating system refuses a file."""
    return LogError(
        f"transaction log {file} cannot be read ({error.strerror or error}); check the file and its permissions"
    )


def _below(folder: Path) -> list[Path]:
    def fail(error: OSError) -> None:
        raise LogError(f"folder {error.filename} cannot be listed ({error.strerror}); check its permissions") from error

    files = []
    for root, folders, names in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith((".", "_"))]
        files += [Path(root, name) for name in names if not name.startswith((".", "_"))]
    return files
