"""Reads a whole log: canonical transactions in one order, and a dead letter for each row that is none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.ingest import dead_letters
from components.ingest.canonical import Canonical, Tokenise, canonical_schema, canonicalise, tokeniser
from components.ingest.log import LogFile, log_files
from components.ingest.readers import Chunk, read
from components.ingest.report import IngestReport
from schemas.errors import ConfigurationError
from schemas.masking import mask
from schemas.sources import SourceMapping
from schemas.tokens import CardKey

_OUTPUT_ROWS = 1 << 20


@dataclass(frozen=True)
class IngestResult:
    """What a log came to.

    Attributes:
        transactions: the canonical columns that the source provides, sorted by (event_time, transaction_id);
            ids compare as UTF-8 bytes.
        dead_letters: `dead_letters.DEAD_LETTERS`, in reading order.
        report: the counts.
    """

    transactions: pa.Table
    dead_letters: pa.Table
    report: IngestReport


def ingest(path: Path, mapping: SourceMapping, key: CardKey | None, keep_card_numbers: bool = False) -> IngestResult:
    """Reads a log of one file, a folder of files, or a list of them.

    Args:
        path: the file or folder.
        mapping: what its columns mean.
        key: makes card tokens; needed only where the mapping says that the log holds card numbers.
        keep_card_numbers: leave the numbers of good rows as the log has them, for who sends transactions as a payment
            system would; the gateway tokenises what it gets.  Dead letters hold none all the same.

    Raises:
        LogError: the log, or a file of it, cannot be read at all.
        LogColumnsError: a file lacks columns that the mapping reads.
        ConfigurationError: the log holds card numbers and there is no key.
    """
    if mapping.card_id_is == "token":
        key = None
    elif key is None:
        raise ConfigurationError(f"source {mapping.source} holds card numbers (card_id_is: number); give the card key")
    tokenise: Tokenise | None = None
    if key is not None:
        tokenise = (lambda numbers: numbers) if keep_card_numbers else tokeniser(key)
    files = log_files(path)

    batches: list[pa.RecordBatch] = []
    places: list[tuple[int, np.ndarray]] = []
    letters: list[pa.Table] = []
    columns: set[str] = set()
    rows = 0
    for index, file in enumerate(files):
        for chunk, canonical in _canonicalised(read(file.path, mapping), mapping, tokenise):
            rows += len(chunk.positions) + len(chunk.malformed)
            columns |= chunk.names
            bad = np.flatnonzero(~canonical.good)
            letters.append(dead_letters.of_lines(file.name, chunk.malformed, mapping))
            letters.append(dead_letters.of_rows(file.name, chunk, bad, canonical.reasons, mapping, key))
            batches.append(canonical.transactions)
            places.append((index, chunk.positions[canonical.good]))

    transactions = pa.Table.from_batches(batches, canonical_schema(mapping))
    del batches
    repeats = _repeats(transactions["transaction_id"])
    if len(repeats.later):
        letters += _duplicates(repeats, places, files, mapping, key)
        keep = np.ones(len(transactions), bool)
        keep[repeats.later] = False
        transactions = transactions.filter(pa.array(keep))
    order = _time_order(transactions)
    if not (order[1:] > order[:-1]).all():
        transactions = _taken(transactions, order)
    dead = pa.concat_tables(letters)
    by_place = pc.sort_indices(dead.select(["file", "position"]), [("file", "ascending"), ("position", "ascending")])
    dead = _taken(dead, by_place.to_numpy())

    times = pc.min_max(transactions["event_time"]).as_py()
    report = IngestReport(
        files=tuple(file.name for file in files),
        read=rows,
        good=len(transactions),
        dead=len(dead) - len(repeats.later),
        duplicate=len(repeats.later),
        reasons=_counts(dead["reason"]),
        unread_columns=_unread(columns, mapping),
        first_event=times["min"],
        last_event=times["max"],
    )
    return IngestResult(transactions, dead, report)


def _canonicalised(
    chunks: Iterator[Chunk], mapping: SourceMapping, tokenise: Tokenise | None
) -> Iterator[tuple[Chunk, Canonical]]:
    """Each chunk with its rows, in their order; the next one is read while another thread canonicalises one."""
    with ThreadPoolExecutor(1, "canonicalise") as executor:
        before: tuple[Chunk, Future[Canonical]] | None = None
        for chunk in chunks:
            of_chunk = executor.submit(canonicalise, chunk, mapping, tokenise)
            if before is not None:
                yield before[0], before[1].result()
            before = chunk, of_chunk
        if before is not None:
            yield before[0], before[1].result()


@dataclass(frozen=True)
class _Repeats:
    """Rows (int64) whose transaction_id an earlier row has, and for each the first row that has it."""

    later: np.ndarray
    first: np.ndarray


def _repeats(ids: pa.ChunkedArray) -> _Repeats:
    # 32-bit offsets end at 2 GiB of text.
    ids = ids.cast(pa.large_string())
    if pc.count_distinct(ids).as_py() == len(ids):
        return _Repeats(np.empty(0, np.int64), np.empty(0, np.int64))
    codes = ids.combine_chunks().dictionary_encode()
    indices = codes.indices.to_numpy()
    first = np.empty(len(codes.dictionary), np.int64)
    # Written from the last row to the first, so that the first stays.
    first[indices[::-1]] = np.arange(len(indices))[::-1]
    later = np.flatnonzero(first[indices] != np.arange(len(indices)))
    return _Repeats(later, first[indices[later]])


def _duplicates(
    repeats: _Repeats,
    places: list[tuple[int, np.ndarray]],
    files: tuple[LogFile, ...],
    mapping: SourceMapping,
    key: CardKey | None,
) -> list[pa.Table]:
    """Dead letters of repeated rows; what they held is read again, since keeping it for all would double the memory."""
    file_of = np.repeat([index for index, _ in places], [len(positions) for _, positions in places])
    position_of = np.concatenate([positions for _, positions in places])
    letters = []
    for index in np.unique(file_of[repeats.later]):
        here = file_of[repeats.later] == index
        positions = position_of[repeats.later[here]]
        earlier = [f"{files[file_of[row]].name}, position {position_of[row]:,}" for row in repeats.first[here]]
        for chunk in read(files[index].path, mapping):
            rows = np.flatnonzero(np.isin(chunk.positions, positions, assume_unique=True))
            of_these = np.searchsorted(positions, chunk.positions[rows])
            letters.append(
                dead_letters.of_duplicates(
                    files[index].name, chunk, rows, [earlier[at] for at in of_these], mapping, key
                )
            )
    return letters


def _taken(table: pa.Table, order: np.ndarray) -> pa.Table:
    """The rows in the order of their numbers; text is taken with 64-bit offsets, so that no column is too large."""
    columns = {}
    for name, kind in zip(table.schema.names, table.schema.types, strict=True):
        column = table[name].cast(pa.large_string() if pa.types.is_string(kind) else kind).combine_chunks()
        slices = [
            column.take(pa.array(order[at : at + _OUTPUT_ROWS])).cast(kind) for at in range(0, len(order), _OUTPUT_ROWS)
        ]
        columns[name] = pa.chunked_array(slices, kind)
    return pa.table(columns)


def _time_order(transactions: pa.Table) -> np.ndarray:
    """Row numbers, int64, in the order of (event_time, transaction_id)."""
    time = transactions["event_time"].cast(pa.int64()).to_numpy()
    order = np.argsort(time, kind="stable")
    sorted_time = time[order]
    same = sorted_time[1:] == sorted_time[:-1]
    tied = np.flatnonzero(np.append(same, False) | np.append(False, same))
    if len(tied):
        rows = order[tied]
        ties = pa.table(
            {
                "event_time": time[rows],
                "transaction_id": transactions["transaction_id"].cast(pa.large_string()).take(pa.array(rows)),
            }
        )
        by_id = pc.sort_indices(ties, [("event_time", "ascending"), ("transaction_id", "ascending")])
        order[tied] = rows[by_id.to_numpy()]
    return order


def _counts(reasons: pa.ChunkedArray) -> dict[str, int]:
    counts = Counter(reasons.to_pylist())
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _unread(columns: set[str], mapping: SourceMapping) -> tuple[str, ...]:
    unread = columns - set(mapping.columns.values()) - set(mapping.unused)
    return tuple(sorted(mask(name) if mapping.card_id_is == "number" else name for name in unread))
