"""Reads a log file as a stream of chunks: the mapped columns as the format typed them, and where each row stands.

A position is what a person needs to find the row again: the row, from 1, in Parquet; the line, from 1 and counting a
header, in CSV and JSON lines.  There a record is one line: a damaged line costs itself and never its neighbours, and
what becomes of a line does not depend on them.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import difflib
import gzip
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from components.ingest.log import CSV_ENDINGS, PARQUET_ENDINGS, unreadable
from schemas.errors import LogColumnsError, LogError
from schemas.masking import mask
from schemas.sources import MAPPED_ALWAYS, SourceMapping

PARQUET_ROWS = 1 << 17
BLOCK_BYTES = 4 << 20
# A longer line is no record.  Not below BLOCK_BYTES.
LINE_BYTES = 4 << 20
_KEPT_OF_LONG_LINE = 1 << 10
_MARK = codecs.BOM_UTF8
# What an error shows of the columns that are there, and how many of them it takes for a hint.
_SHOWN_NAMES = 50
_SHOWN_CHARACTERS = 64
_HINTED_NAMES = 1_000

# Values of a column: an Arrow array of the type that the format gave, or a list where a JSON column mixes types.
Values: TypeAlias = pa.Array | list[Any]


@dataclass(frozen=True)
class Malformed:
    """A line that cannot be taken apart: its number, what is wrong with it, and its text."""

    position: int
    problem: str
    text: str


@dataclass(frozen=True)
class Chunk:
    """Some consecutive rows of one file.

    Attributes:
        positions: int64[rows], where each row stands in the file.
        columns: name in the log to its values, `rows` long each.
        malformed: the lines between these rows that could not be taken apart.
        names: the columns that the file is known to have, read or not.
    """

    positions: np.ndarray
    columns: dict[str, Values]
    malformed: tuple[Malformed, ...]
    names: frozenset[str]


def read(file: Path, mapping: SourceMapping) -> Iterator[Chunk]:
    """The chunks of one log file, with bounded memory.

    Raises:
        LogError: the file is empty, truncated, corrupt, or not of the format that its ending claims.
        LogColumnsError: columns that the mapping reads are not in it.
    """
    name = file.name.lower()
    reader = _parquet if name.endswith(PARQUET_ENDINGS) else _csv if name.endswith(CSV_ENDINGS) else _json_lines
    rows = 0
    try:
        for chunk in reader(file, mapping):
            rows += len(chunk.positions) + len(chunk.malformed)
            yield chunk
    except OSError as error:
        raise unreadable(file, error) from error
    if not rows:
        raise LogError(f"transaction log {file} holds no rows; write it again or remove it")


def _parquet(file: Path, mapping: SourceMapping) -> Iterator[Chunk]:
    if not file.stat().st_size:
        return
    try:
        with pq.ParquetFile(file, page_checksum_verification=True) as parquet:
            names = parquet.schema_arrow.names
            _check_columns(names, file, mapping)
            first = 1
            for batch in parquet.iter_batches(PARQUET_ROWS, columns=_needed(mapping)):
                batch.validate(full=True)
                columns = {name: batch.column(name) for name in batch.schema.names}
                yield Chunk(np.arange(first, first + len(batch)), columns, (), frozenset(names))
                first += len(batch)
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise LogError(f"transaction log {file} is truncated, corrupt or not Parquet; write it again") from error


def _csv(file: Path, mapping: SourceMapping) -> Iterator[Chunk]:
    header: list[str] = []
    for lines in _line_blocks(file):
        line, block = lines.first, lines.text
        if not header:
            head, _, block = block.partition(b"\n")
            header, line = _csv_header(head, file), line + 1
            _check_columns(header, file, mapping)
        if block or lines.too_long:
            yield _csv_chunk(block, line, header, _needed(mapping), lines.too_long)


def _csv_header(head: bytes, file: Path) -> list[str]:
    if b"\0" in head:
        raise _binary(file)
    try:
        with _fields_of_any_length():
            return next(csv.reader([head.decode()], strict=True), [""])
    except (UnicodeDecodeError, csv.Error):
        raise LogError(f"transaction log {file} does not begin with a CSV header in UTF-8; write it again") from None


def _csv_chunk(block: bytes, line: int, header: list[str], needed: list[str], too_long: tuple[Malformed, ...]) -> Chunk:
    if not block:
        return _csv_line_by_line(block, line, header, needed, too_long)
    text = np.frombuffer(block, np.uint8)
    ends = np.flatnonzero(text == ord("\n"))
    if not block.endswith(b"\n"):
        ends = np.append(ends, len(block))
    starts = np.concatenate(([0], ends[:-1] + 1))
    blank = (ends == starts) | ((ends == starts + 1) & (text[starts.clip(max=len(block) - 1)] == ord("\r")))

    # Arrow's parser lets a stray quote swallow the lines that follow, and takes one inside a field otherwise than
    # Python's.  Without lone carriage returns it makes at most one row of a line, so that as many rows as lines means
    # that none was swallowed; else each line is read alone.  A byte order mark it leaves out at the begin of any block.
    table: pa.Table | None = None
    bad: list[tuple[int, int, str]] = []
    lone_returns = block.count(b"\r") != block.count(b"\r\n")
    if not lone_returns and not block.startswith(_MARK) and _quotes_enclose(text) and _is_utf8(block):
        with contextlib.suppress(pa.ArrowInvalid):
            table, bad = _csv_table(block, header, needed)
    if table is None or len(table) + len(bad) != len(ends):
        return _csv_line_by_line(block, line, header, needed, too_long)

    well_formed = np.ones(len(ends), bool)
    well_formed[[number - 1 for number, _, _ in bad]] = False
    rows = ~blank[well_formed]
    columns = {name: table.column(name).combine_chunks() for name in table.column_names}
    if not rows.all():
        columns = {name: values.filter(pa.array(rows)) for name, values in columns.items()}
    malformed = tuple(
        Malformed(line + number - 1, _csv_problem(fields, header), text)
        for number, fields, text in bad
        if not blank[number - 1]
    )
    return Chunk(line + np.flatnonzero(well_formed)[rows], columns, malformed + too_long, frozenset(header))


def _quotes_enclose(text: np.ndarray) -> bool:
    """Whether the quotes of CSV text, uint8[bytes], stand around whole fields or, in pairs, inside those (RFC 4180)."""
    quotes = np.flatnonzero(text == ord('"'))
    if len(quotes) % 2:
        return False
    # A pair inside closes a field and opens it again.
    before = np.where(quotes[::2] > 0, text[quotes[::2] - 1], ord("\n"))
    after = np.where(quotes[1::2] + 1 < len(text), text[(quotes[1::2] + 1).clip(max=len(text) - 1)], ord("\n"))
    return bool(np.isin(before, list(b',\n"')).all() and np.isin(after, list(b',\r\n"')).all())


def _csv_table(block: bytes, header: list[str], needed: list[str]) -> tuple[pa.Table, list[tuple[int, int, str]]]:
    """All lines of a block as text columns, and (line from 1, number of fields, text) of those of another width."""
    bad: list[tuple[int, int, str]] = []

    def note(row: pyarrow.csv.InvalidRow) -> str:
        bad.append((row.number, row.actual_columns, row.text))
        return "skip"

    table = pyarrow.csv.read_csv(
        pa.BufferReader(block),
        # One thread and one block: only then does Arrow number the rows that it skips.
        read_options=pyarrow.csv.ReadOptions(column_names=header, use_threads=False, block_size=len(block) + 1),
        parse_options=pyarrow.csv.ParseOptions(
            newlines_in_values=True, ignore_empty_lines=False, invalid_row_handler=note
        ),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(needed, pa.string()),
            include_columns=needed,
            strings_can_be_null=True,
            null_values=[""],
        ),
    )
    return table, bad


def _csv_line_by_line(
    block: bytes, line: int, header: list[str], needed: list[str], too_long: tuple[Malformed, ...]
) -> Chunk:
    positions, rows, malformed = [], [], []
    with _fields_of_any_length():
        for number, raw in enumerate(block.removesuffix(b"\n").split(b"\n"), line):
            raw = raw.removesuffix(b"\r")
            if not raw:
                continue
            try:
                fields = next(csv.reader([raw.decode()], strict=True))
                problem = None if len(fields) == len(header) else _csv_problem(len(fields), header)
            except UnicodeDecodeError:
                problem = "is not UTF-8 text"
            except csv.Error:
                problem = "has a stray quote or control character, or a field without end"
            if problem:
                malformed.append(Malformed(number, problem, raw.decode(errors="backslashreplace")))
            else:
                positions.append(number)
                rows.append(fields)
    index = {name: header.index(name) for name in needed}
    columns: dict[str, Values] = {
        name: pa.array([row[at] or None for row in rows], pa.string()) for name, at in index.items()
    }
    return Chunk(np.array(positions, np.int64), columns, (*malformed, *too_long), frozenset(header))


@contextlib.contextmanager
def _fields_of_any_length() -> Iterator[None]:
    """Lifts the limit of 128 KiB that Python's parser has and Arrow's has not; a line is bounded anyway."""
    limit = csv.field_size_limit(LINE_BYTES)
    try:
        yield
    finally:
        csv.field_size_limit(limit)


def _is_utf8(block: bytes) -> bool:
    try:
        block.decode()
    except UnicodeDecodeError:
        return False
    return True


def _csv_problem(fields: int, header: list[str]) -> str:
    return f"has {fields} fields where the header has {len(header)}"


def _json_lines(file: Path, mapping: SourceMapping) -> Iterator[Chunk]:
    seen: set[str] = set()
    lines = 0
    required = {mapping.columns[name] for name in MAPPED_ALWAYS}
    needed = _needed(mapping)
    for block in _line_blocks(file):
        positions, rows, malformed = [], [], []
        for number, raw in enumerate(block.text.removesuffix(b"\n").split(b"\n"), block.first):
            if not raw.strip():
                continue
            try:
                row = orjson.loads(raw)
            except orjson.JSONDecodeError:
                row = None
            if type(row) is dict:
                positions.append(number)
                rows.append(row)
                if not row.keys() <= seen:
                    seen |= row.keys()
            else:
                malformed.append(Malformed(number, "is not a JSON object", raw.decode(errors="backslashreplace")))
        malformed += block.too_long
        lines += len(rows) + len(malformed)
        if not seen and b"\0" in block.text:
            raise _binary(file)
        # A key that no line has by the end of the first block is not late, it is misnamed, if every row must have it.
        if seen and not required <= seen:
            _check_columns(seen, file, mapping)
        columns = {name: _json_column([row.get(name) for row in rows]) for name in needed}
        yield Chunk(np.array(positions, np.int64), columns, tuple(malformed), frozenset(seen))
    if lines and not seen:
        raise LogError(
            f"transaction log {file} is not JSON lines: none of its {lines:,} lines is an object; write it again"
        )
    if lines:
        _check_columns(seen, file, mapping)


_ARROW_TYPES: tuple[set[type], ...] = ({str}, {int}, {float}, {int, float}, {bool}, set())


def _json_column(values: list[Any]) -> Values:
    if set(map(type, values)) - {type(None)} in _ARROW_TYPES:
        try:
            return pa.array(values)
        except (pa.ArrowException, OverflowError):
            return values  # an integer that neither int64 nor float64 holds
    return values


@dataclass(frozen=True)
class _Lines:
    """Whole lines, and the number of the first; or, instead of lines, one that is too long."""

    first: int
    text: bytes
    too_long: tuple[Malformed, ...] = ()


def _line_blocks(file: Path) -> Iterator[_Lines]:
    """The lines of a file in blocks; decompressed, without a byte order mark."""
    line, carry = 1, b""
    # The beginning of a line that is too long and still goes on; the rest of it is not kept.
    head: bytes | None = None
    try:
        with gzip.open(file) if file.name.lower().endswith(".gz") else file.open("rb") as stream:
            first = True
            while data := stream.read(BLOCK_BYTES):
                if first:
                    data, first = data.removeprefix(_MARK), False
                data = carry + data
                # A block is no longer than a line may be, so only the line that it begins with can be too long.
                end = data.find(b"\n")
                if head is None and (end if end >= 0 else len(data)) > LINE_BYTES:
                    head = data[:_KEPT_OF_LONG_LINE]
                if head is not None:
                    if end < 0:
                        carry = b""
                        continue
                    yield _too_long(line, head)
                    line, head, data = line + 1, None, data[end + 1 :]
                cut = data.rfind(b"\n") + 1
                if cut:
                    yield _Lines(line, data[:cut])
                    line += data.count(b"\n", 0, cut)
                carry = data[cut:]
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise LogError(f"transaction log {file} is truncated, corrupt or not gzip; write it again") from error
    if head is not None:
        yield _too_long(line, head)
    elif carry:
        yield _Lines(line, carry)


def _too_long(line: int, head: bytes) -> _Lines:
    problem = f"has more than {LINE_BYTES:,} bytes, of which the first are kept"
    return _Lines(line, b"", (Malformed(line, problem, head.decode(errors="backslashreplace")),))


def _binary(file: Path) -> LogError:
    return LogError(f"transaction log {file} is binary, not text in UTF-8; write it again or give it its proper ending")


def _needed(mapping: SourceMapping) -> list[str]:
    return list(dict.fromkeys(mapping.columns.values()))


def _check_columns(names: Iterable[str], file: Path, mapping: SourceMapping) -> None:
    # A file without its header line offers the first row's values as names.
    present = sorted(mask(name) if mapping.card_id_is == "number" else name for name in names)
    lost = [
        f"{column!r} (for {name}{_hint(column, present)})"
        for name, column in mapping.columns.items()
        if column not in present
    ]
    if lost:
        raise LogColumnsError(
            f"transaction log {file} lacks columns that source {mapping.source} maps: {', '.join(lost)}; "
            f"it has {_shown(present)}; rename them in the log or in the mapping"
        )
    twice = sorted({column for column in _needed(mapping) if present.count(column) > 1})
    if twice:
        raise LogError(f"transaction log {file} has more than one column named {', '.join(twice)}; keep one of each")


def _shown(names: list[str]) -> str:
    """The names, or as many as an error can hold: a damaged file may offer anything for them."""
    short = [name if len(name) <= _SHOWN_CHARACTERS else f"{name[:_SHOWN_CHARACTERS]}..." for name in names]
    more = f" and {len(names) - _SHOWN_NAMES:,} more" if len(names) > _SHOWN_NAMES else ""
    return ", ".join(short[:_SHOWN_NAMES]) + more


def _hint(column: str, present: list[str]) -> str:
    likely = [name for name in present[:_HINTED_NAMES] if len(name) <= _SHOWN_CHARACTERS]
    by_fold = {name.casefold(): name for name in likely}
    close = difflib.get_close_matches(column.casefold(), by_fold, n=1)
    return f", perhaps now {by_fold[close[0]]!r}" if close else ""
