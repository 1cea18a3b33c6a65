"""The features of a whole log through Beam: a file of transactions in, a file in event-time order out; or tables."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.options.pipeline_options import PipelineOptions

from components.features.beam import ComputeFeatures, batch_name
from components.features.engine import event_order, needed_columns
from components.features.partitions import PARTITION_ROWS
from schemas.errors import LogError
from schemas.features import FeatureSpec

# Named in full because Beam would choose Prism, a process of its own, where it can.
IN_MEMORY = ("--runner=DirectRunner", "--direct_running_mode=in_memory")
# Pieces are as many as batches times partitions, and each has its price, so batches should not be small.
BATCH_ROWS = 262_144
# What is shuffled by value must fit a runner's buffers: Flink refuses a record that is larger than those it sorts in.
VALUE_ROWS = 4_096
# The first columns of every part, and what rows are in order of.
_ORDER = ["transaction_id", "event_time"]


def build_feature_table(
    transactions: Path,
    out: Path,
    spec: FeatureSpec,
    carry: Sequence[str] = (),
    beam_args: Sequence[str] = IN_MEMORY,
    partition_rows: int = PARTITION_ROWS,
    since_us: int | None = None,
) -> int:
    """Writes the features of a file of transactions, in event-time order, and returns how many rows there are.

    In this process memory is bounded however long the file is: what is shuffled, and parts of the result, wait in
    files beside `out`.

    Args:
        transactions: Parquet with canonical columns, by (event_time, transaction_id) as ingest leaves them.
        out: Parquet with the columns of `ComputeFeatures`; replaced in one step when it is complete.
        spec: what to compute.
        carry: columns of the transactions to keep behind the features.
        beam_args: options of the Beam pipeline; its workers must see both files' folders.
        partition_rows: as of `ComputeFeatures`.
        since_us: only transactions from then on, in UTC microseconds; None for all.

    Raises:
        LogError: the file has no rows (since then), or they are not in order.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
        whole = Path(folder) / "whole.parquet"
        batches = feature_batches(transactions, Path(folder), spec, carry, beam_args, partition_rows, since_us)
        rows = _write(batches, whole)
        os.replace(whole, out)
    return rows


def feature_batches(
    transactions: Path,
    scratch: Path,
    spec: FeatureSpec,
    carry: Sequence[str] = (),
    beam_args: Sequence[str] = IN_MEMORY,
    partition_rows: int = PARTITION_ROWS,
    since_us: int | None = None,
) -> Iterator[pa.RecordBatch]:
    """Computes as `build_feature_table` does, and gives the result in batches of up to `BATCH_ROWS` rows.

    They can be taken once, and only while the scratch folder is there.

    Args:
        scratch: a folder for what is shuffled and for parts of the result; whoever made it removes it.

    Raises:
        LogError: as `build_feature_table`, and before the first batch is taken.
    """
    columns = sorted(needed_columns(spec) | set(carry))
    check_order(transactions)
    row_groups = [(str(transactions), number) for number in range(pq.read_metadata(transactions).num_row_groups)]
    parts, spill = scratch / "parts", scratch / "spill"
    parts.mkdir()
    spill.mkdir()
    # Other runners share no folder, or run a bundle twice; this one would keep in memory what it shuffles.
    spill_to = str(spill) if set(IN_MEMORY) <= set(beam_args) else None
    compute = ComputeFeatures(spec, tuple(carry), partition_rows, spill_to, since_us)
    with beam.Pipeline(options=PipelineOptions(list(beam_args))) as pipeline:
        _ = (
            pipeline
            | "Row groups" >> beam.Create(row_groups)
            | "Spread" >> beam.Reshuffle()
            | "Read" >> beam.FlatMap(read_batches, columns, BATCH_ROWS if spill_to else VALUE_ROWS)
            | "Compute features" >> compute
            | "Write parts" >> beam.Map(write_part, str(parts))
        )
    written = list(parts.glob("*.arrow"))
    if since_us is not None and not written:
        since = np.datetime64(since_us, "us")
        raise LogError(f"{transactions} has no transactions from {since} on; give an earlier time")
    return _in_order(written)


def features_on_beam(
    transactions: pa.Table, spec: FeatureSpec, carry: Sequence[str] = (), beam_args: Sequence[str] = IN_MEMORY
) -> pa.Table:
    """The features of a table of transactions in any order, as a table in order of (event_time, transaction_id).

    Raises:
        LogError: the table has no rows.
    """
    order = event_order(transactions)
    in_order = bool((order[:-1] < order[1:]).all())
    with tempfile.TemporaryDirectory(prefix="features.") as folder:
        log, features = Path(folder) / "transactions.parquet", Path(folder) / "features.parquet"
        pq.write_table(transactions if in_order else transactions.take(pa.array(order)), log, row_group_size=BATCH_ROWS)
        build_feature_table(log, features, spec, carry, beam_args)
        return pq.read_table(features)


def check_order(transactions: Path) -> None:
    """Checks that a Parquet file has transactions and that they are in order of (event_time, transaction_id).

    Raises:
        LogError: there are none, or names the first that is out of order.
    """
    last: pa.Table | None = None
    for batch in pq.ParquetFile(transactions).iter_batches(columns=_ORDER):
        rows = pa.Table.from_batches([batch])
        table = rows if last is None else pa.concat_tables([last, rows])
        misplaced = np.flatnonzero(event_order(table) != np.arange(table.num_rows))
        if misplaced.size:
            found = table["transaction_id"][int(misplaced[0])]
            raise LogError(f"{transactions}: transaction {found} is out of order; sort by event_time, transaction_id")
        last = table.slice(table.num_rows - 1)
    if last is None:
        raise LogError(f"{transactions} has no transactions, so there is nothing to compute; give a log that has some")


def read_batches(row_group: tuple[str, int], columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
    """A row group in batches of up to so many rows that own their buffers and so travel without others' rows."""
    path, number = row_group
    for batch in pq.ParquetFile(path).iter_batches(rows, row_groups=[number], columns=columns):
        yield batch.take(pa.array(np.arange(batch.num_rows)))


def write_part(batch: pa.RecordBatch, folder: str) -> None:
    """Writes one batch in one step, under the name of its ids, so that a repeated attempt changes nothing."""
    name = batch_name(batch).hex()
    unfinished = Path(folder) / f"{name}.{os.getpid()}.unfinished"
    # Not Parquet, which would be encoded for nothing: the parts become one file.
    with pa.ipc.new_file(unfinished, batch.schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
        writer.write_batch(batch)
    os.replace(unfinished, Path(folder) / f"{name}.arrow")


def _in_order(parts: list[Path]) -> Iterator[pa.RecordBatch]:
    """Batches, each in order and none overlapping another, by their first rows; each part goes when it is taken."""

    def begin(part: Path) -> tuple[int, bytes]:
        first = _read_part(part, list(range(len(_ORDER))))
        return first["event_time"].cast(pa.int64())[0].as_py(), first["transaction_id"][0].as_py().encode()

    for part in sorted(parts, key=begin):
        yield _read_part(part)
        part.unlink()


def _write(batches: Iterator[pa.RecordBatch], whole: Path) -> int:
    """Writes batches as one file, one in memory at a time, and returns how many rows there were."""
    first = next(batches)
    # Dictionaries pay for repeated texts; for measured numbers they only cost time.
    texts = [field.name for field in first.schema if pa.types.is_string(field.type) and field.name != "transaction_id"]
    rows = 0
    with pq.ParquetWriter(whole, first.schema, use_dictionary=texts) as writer:
        for batch in chain([first], batches):
            writer.write_batch(batch)
            rows += batch.num_rows
    return rows


def _read_part(part: Path, columns: list[int] | None = None) -> pa.RecordBatch:
    """A part, or some of its columns by number."""
    with pa.OSFile(str(part)) as file:
        return pa.ipc.open_file(file, options=pa.ipc.IpcReadOptions(included_fields=columns)).get_batch(0)
