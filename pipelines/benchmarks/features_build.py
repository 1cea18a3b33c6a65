"""The whole declaration from file to file: one copy of a log, and several at once, each in a process of its own."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from components.features import build_feature_table, compute_features
from components.features.table import BATCH_ROWS
from pipelines.benchmarks.comparison import Contest, Result, Timing
from pipelines.benchmarks.own_process import in_own_process, peak_mib
from schemas.errors import BenchmarkError
from schemas.features import KEYS, FeatureSpec, specify
from schemas.sources import SourceMapping

GOAL = "ten copies in at most 12 times the time of one; peak memory under 4 GiB, of ten copies under 8 GiB"
# What compiles the kernels, or reads them from their cache, before the clock runs.
_WARM_UP_ROWS = 100
# What is shuffled and the parts of the result lie on disk, too, though not all at once: seen are 1.2 times the result.
_DISK_PER_OUTPUT_BYTE = 2
_MIB = 1024**2


@dataclass(frozen=True)
class Build:
    """What one build took.

    Attributes:
        rows: of the log.
        seconds: from file to file.
        peak_mib: the largest resident set of its process.
        output_bytes: of the file of features.
    """

    rows: int
    seconds: float
    peak_mib: float
    output_bytes: int


def benchmark(
    transactions: pa.Table, mapping: SourceMapping, copies: int, folder: Path, say: Callable[[str], None]
) -> Result:
    """Builds the declared features of a log, and then of copies of it that share no card, merchant or device.

    Making the copies does not count, nor does compiling.  Reading and writing files does.  Copies of one transaction
    lie beside each other and have the same features, so that their result is smaller than another log's as long.

    Args:
        transactions: canonical, as ingest leaves them.
        mapping: of their log.
        copies: how many to build at once, 2 or more.
        folder: where the files go; they are removed when they are measured.
        say: is told what is being done.

    Raises:
        BenchmarkError: a build lost rows or its process was killed, or the disk is too small for the copies.
    """
    spec = specify(mapping.provided)
    say(f"building {len(spec.features)} features of {transactions.num_rows:,} transactions")
    one = _measure(transactions, 1, spec, folder)
    needed, free = copies * one.output_bytes * _DISK_PER_OUTPUT_BYTE, shutil.disk_usage(folder).free
    if needed > free:
        raise BenchmarkError(
            f"{copies} copies may take {needed / _MIB:,.0f} MiB in {folder}, where {free / _MIB:,.0f} are free; set "
            "TMPDIR to a larger disk, or take fewer rows or copies"
        )
    say(f"building those of {copies} copies")
    many = _measure(transactions, copies, spec, folder)
    return Result(
        "features-build",
        Contest(_timing(one), {}),
        GOAL,
        file_reading=True,
        further={"all_copies": Contest(_timing(many), {})},
        facts={
            "declared_features": len(spec.features),
            "copies": copies,
            "times_as_long": many.seconds / one.seconds,
            "peak_mib": one.peak_mib,
            "peak_mib_of_all_copies": many.peak_mib,
            "output_mib": one.output_bytes / _MIB,
            "output_mib_of_all_copies": many.output_bytes / _MIB,
        },
    )


def write_copies(transactions: pa.Table, copies: int, out: Path, row_group_rows: int = BATCH_ROWS) -> None:
    """Writes copies of a log as one, in order of (event_time, transaction_id), some row groups in memory at a time.

    Ids of transactions, cards, merchants and devices begin with the number of their copy, all alike long, so that what
    happened at one time is in order of copies, and within a copy in the log's own order.

    Args:
        transactions: canonical, by (event_time, transaction_id).
        copies: how many.
        out: the Parquet file to write.
        row_group_rows: of that file, about.
    """
    ids = {"transaction_id", *(column for key in KEYS.values() for column in key)} & set(transactions.column_names)
    times = transactions["event_time"].cast(pa.int64()).to_numpy()
    begin, size = 0, max(1, row_group_rows // copies)
    with pq.ParquetWriter(out, transactions.schema) as writer:
        while begin < times.size:
            # Transactions of one time stay together, because those of other copies come between them and the next.
            end = int(np.searchsorted(times, times[min(begin + size, times.size) - 1], side="right"))
            rows = transactions.slice(begin, end - begin)
            copied = [_renamed(rows, sorted(ids), f"{copy:0{len(str(copies - 1))}}:") for copy in range(copies)]
            order = np.argsort(np.tile(times[begin:end], copies), kind="stable")
            writer.write_table(pa.concat_tables(copied).take(pa.array(order)))
            begin = end


def _renamed(rows: pa.Table, columns: list[str], prefix: str) -> pa.Table:
    """The rows with a prefix before each text of some columns; null stays null."""
    for column in columns:
        renamed = pc.binary_join_element_wise(prefix, rows[column], "")
        rows = rows.set_column(rows.column_names.index(column), rows.schema.field(column), renamed)
    return rows


def _measure(transactions: pa.Table, copies: int, spec: FeatureSpec, folder: Path) -> Build:
    log, out = folder / "transactions.parquet", folder / "features.parquet"
    write_copies(transactions, copies, log)
    try:
        built = in_own_process(f"features of {copies} copies", _build, log, out, spec)
    finally:
        log.unlink()
    out.unlink()
    if built.rows != copies * transactions.num_rows:
        raise BenchmarkError(f"features of {built.rows:,} rows came out of {copies} times {transactions.num_rows:,}")
    return built


def _build(log: Path, out: Path, spec: FeatureSpec) -> Build:
    head = next(pq.ParquetFile(log).iter_batches(_WARM_UP_ROWS))
    compute_features(pa.Table.from_batches([head]), spec)
    began = time.perf_counter()
    rows = build_feature_table(log, out, spec)
    return Build(rows, time.perf_counter() - began, peak_mib(), out.stat().st_size)


def _timing(build: Build) -> Timing:
    return Timing(build.rows, build.seconds, (build.seconds,))
