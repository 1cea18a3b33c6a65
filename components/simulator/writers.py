"""The files that a log is written to: Parquet, CSV or JSON lines, by their ending."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv, parquet

from schemas.errors import ConfigurationError

_ROWS_AT_ONCE = 100_000


def check_target(path: Path) -> None:
    """Refuses, before any work is done, a file that cannot be written.

    Raises:
        ConfigurationError: the ending is unknown, the folder is missing, or a folder is in the way.
    """
    if path.suffix not in _WRITERS:
        raise ConfigurationError(f"{path} ends in {path.suffix!r}; use one of {', '.join(_WRITERS)}")
    if not path.parent.is_dir():
        raise ConfigurationError(f"{path.parent}, the folder of {path.name}, does not exist; make it first")
    if path.is_dir():
        raise ConfigurationError(f"{path} is a folder; name a file")


def write(table: pa.Table, path: Path) -> None:
    """Writes a log as Parquet, CSV or JSON lines, by the ending; the file appears whole or not at all.

    Raises:
        ConfigurationError: as `check_target`.
    """
    check_target(path)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        _WRITERS[path.suffix](table, unfinished)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _write_json_lines(table: pa.Table, path: Path) -> None:
    with path.open("wb") as file:
        for batch in table.to_batches(_ROWS_AT_ONCE):
            pieces: list[pa.Array | str] = []
            for name, values in zip(batch.schema.names, batch.columns, strict=True):
                pieces += [f'{"," if pieces else "{"}"{name}":', _json_values(values)]
            lines = pc.binary_join_element_wise(*pieces, "}\n", "")
            _, _, text = lines.buffers()
            file.write(text)


def _json_values(values: pa.Array) -> pa.Array:
    """Each value as JSON text.  No text of a simulated log holds a character that JSON has to escape."""
    if pa.types.is_timestamp(values.type):
        values = pc.strftime(values, format="%Y-%m-%dT%H:%M:%SZ")
    if pa.types.is_string(values.type):
        values = pc.binary_join_element_wise('"', values, '"', "")
    return pc.fill_null(values.cast(pa.string()), "null")


_WRITERS: dict[str, Callable[[pa.Table, Path], None]] = {
    ".parquet": lambda table, path: parquet.write_table(table, path, compression="zstd"),
    ".csv": lambda table, path: csv.write_csv(table, path),
    ".jsonl": _write_json_lines,
}
