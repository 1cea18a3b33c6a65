"""A log through the feature store: into a table of features, or into a store that is warm afterwards."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.progress import track

from components.features.engine import needed_columns
from components.ingest import excess, ingest
from pipelines import console
from pipelines.workspace import Workspace
from schemas import sources
from schemas.errors import LogError
from schemas.features import FeatureSpec, specify
from serving.features import Features, FeatureStore, StoreAddress
from serving.features.loading import load
from serving.features.replay import replay

_BATCH_ROWS = 8_192


@dataclass(frozen=True)
class Log:
    """A log that was read.

    Attributes:
        source: the name of its mapping.
        spec: what can be computed from it.
        transactions: canonical columns, by (event_time, transaction_id).
        refused: why too many of its rows are bad, None where they are not.
    """

    source: str
    spec: FeatureSpec
    transactions: pa.Table
    refused: str | None


@dataclass(frozen=True)
class Timing:
    """How many transactions were observed, and how long one took, in milliseconds."""

    rows: int
    p50_ms: float
    p99_ms: float


def read_log(source: str, log: Path, workspace: Path) -> Log:
    """Ingests a log under the mapping of a name or path, with the workspace's card key where it needs one."""
    mapping = sources.load(source)
    key = Workspace.at(workspace).card_key() if mapping.card_id_is == "number" else None
    console.say(f"reading {log}")
    result = ingest(log, mapping, key)
    return Log(mapping.source, specify(mapping.provided), result.transactions, excess(result.report, mapping))


def write_replay(transactions: pa.Table, out: Path, spec: FeatureSpec, address: StoreAddress) -> Timing:
    """Feeds transactions through a new store and writes their features as `build_feature_table` does.

    Args:
        address: of a store beside which the new one is made; it is left as it is.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
        whole = Path(folder) / "whole.parquet"
        with address.scratch(spec) as scratch:
            store = _Timed(scratch)
            found = replay(store, events(transactions, spec, "replaying"))
            with pq.ParquetWriter(whole, _schema(transactions, spec)) as writer:
                for begin in range(0, transactions.num_rows, _BATCH_ROWS):
                    batch = transactions.slice(begin, _BATCH_ROWS)
                    writer.write_table(_table(batch, list(islice(found, batch.num_rows)), spec))
        os.replace(whole, out)
    took = np.array(store.took_s) * 1_000
    return Timing(took.size, *(float(np.percentile(took, share)) if took.size else 0.0 for share in (50, 99)))


def load_store(transactions: pa.Table, address: StoreAddress, spec: FeatureSpec) -> int:
    """Makes the store that a log leaves behind, and returns how many of its transactions went in.

    Those stay out that are too old to matter to any that may yet come, and whose labels are.

    Raises:
        LogError: the log has no transactions.
        ConfigurationError: a store is there already; what it holds would count twice.
    """
    if not transactions.num_rows:
        raise LogError("the log has no transactions, so there is nothing to load; give one that has some")
    with address.make(spec) as store:
        log = _needed(transactions, spec)
        since_us = log["event_time"][-1].as_py() - store.reach_us
        recent = [
            pc.greater_equal(log[name], since_us) for name in ("event_time", "label_time") if name in log.column_names
        ]
        log = log.filter(reduce(pc.or_kleene, recent))
        console.say(f"loading {log.num_rows:,} transactions that still matter")
        load(store, {name: _values(log[name]) for name in log.column_names})
    return log.num_rows


class _Timed:
    """A store with a watch, as far as a replay asks it."""

    def __init__(self, store: FeatureStore) -> None:
        self.took_s: list[float] = []
        self._store = store

    def observe(self, transaction: Mapping[str, Any]) -> Features:
        began = time.perf_counter()
        features = self._store.observe(transaction)
        self.took_s.append(time.perf_counter() - began)
        return features

    def label(self, transaction: Mapping[str, Any], is_fraud: bool, label_time: int) -> None:
        self._store.label(transaction, is_fraud, label_time)


def events(transactions: pa.Table, spec: FeatureSpec, doing: str) -> Iterator[dict[str, Any]]:
    """The rows as the store takes them, with progress for people."""
    table = _needed(transactions, spec)
    begins = range(0, table.num_rows, _BATCH_ROWS)
    for begin in track(begins, doing, console=console.stderr(), transient=True):
        yield from table.slice(begin, _BATCH_ROWS).to_pylist()


def _needed(transactions: pa.Table, spec: FeatureSpec) -> pa.Table:
    """The columns that the store looks at, times in microseconds."""
    needed = needed_columns(spec) | {"is_fraud", "label_time"}
    table = transactions.select([name for name in transactions.column_names if name in needed])
    return pa.table(
        [column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column for column in table.columns],
        names=table.column_names,
    )


def _values(column: pa.ChunkedArray) -> list[Any]:
    """A column's values; one that occurs again is the same object, which saves most of the memory."""
    encoded = column.combine_chunks().dictionary_encode()
    values = [*encoded.dictionary.to_pylist(), None]
    return [values[code] for code in encoded.indices.fill_null(-1).to_pylist()]


def _type(declared: Any) -> pa.DataType:
    of_one = pa.string() if declared.is_text else pa.float64()
    return pa.list_(of_one, declared.width) if declared.is_vector else of_one


def _schema(transactions: pa.Table, spec: FeatureSpec) -> pa.Schema:
    own = [transactions.schema.field(name) for name in ("transaction_id", "event_time")]
    return pa.schema([*own, *((declared.name, _type(declared)) for declared in spec.inputs)])


def _table(transactions: pa.Table, rows: list[Features], spec: FeatureSpec) -> pa.Table:
    """Features as columns, beside the ids and times of their transactions."""
    columns: dict[str, Any] = {name: transactions[name] for name in ("transaction_id", "event_time")}
    for inputs, flat in (
        (spec.numeric, [row.numbers for row in rows]),
        (spec.categorical, [row.texts for row in rows]),
    ):
        at = 0
        for declared in inputs:
            values = pa.array(
                [value for row in flat for value in row[at : at + declared.width]],
                pa.string() if declared.is_text else pa.float64(),
            )
            wanted = _type(declared)
            is_vector = pa.types.is_fixed_size_list(wanted)
            columns[declared.name] = pa.FixedSizeListArray.from_arrays(values, declared.width) if is_vector else values
            at += declared.width
    return pa.table(columns).select(_schema(transactions, spec).names)
