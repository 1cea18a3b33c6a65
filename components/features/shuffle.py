"""How tables cross a shuffle of Beam's: as the bytes of an Arrow stream, or as the name of a file that holds them."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass

import pyarrow as pa

# Half the bytes for little time: numbers repeat, and the names of cards and merchants more so.
_OPTIONS = pa.ipc.IpcWriteOptions(compression="lz4")


@dataclass(frozen=True)
class Shuffle:
    """Turns tables into what a runner shuffles, and back.

    Without a folder that is the table itself, written as a stream: pickling a slice would take the buffers behind it
    along.  With one, it is a claim check: the table lies in a file, and the runner, which may keep all that it shuffles
    in memory, sees the file's name.  A file is gone once it was taken, so that the disk holds only what is under way;
    hence a folder is for runners that run each bundle once, in processes that see the folder: the DirectRunner.

    Attributes:
        folder: where files go; None for streams.
    """

    folder: str | None = None

    def put(self, table: pa.Table) -> bytes:
        """A table as a value to shuffle."""
        if self.folder is None:
            return pack(table)
        descriptor, path = tempfile.mkstemp(dir=self.folder)
        with os.fdopen(descriptor, "wb") as file:
            _write(table, file)
        return os.fsencode(path)

    def take(self, value: bytes) -> pa.Table:
        """The table of a value, which with a folder can be taken once."""
        if self.folder is None:
            return unpack(value)
        with pa.OSFile(os.fsdecode(value)) as file:
            table = _read(file)
        os.unlink(value)
        return table


def pack(table: pa.Table) -> bytes:
    """A table as one Arrow IPC stream, which holds what a slice shows and nothing behind it."""
    sink = pa.BufferOutputStream()
    _write(table, sink)
    return sink.getvalue().to_pybytes()


def _write(table: pa.Table, sink: object) -> None:
    with pa.ipc.new_stream(sink, table.schema, options=_OPTIONS) as writer:
        writer.write_table(table)


def unpack(packed: bytes) -> pa.Table:
    """The table of `pack`."""
    return _read(pa.BufferReader(packed))


def _read(source: object) -> pa.Table:
    return pa.ipc.open_stream(source).read_all()
