"""The batch engine as a Beam transform: record batches are split by entity, computed, and joined back by row."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby

import apache_beam as beam
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from components.features.engine import compute_features, needed_columns
from schemas.errors import DeclarationError, LogError
from schemas.features import KEYS, Feature, FeatureSpec

PARTITIONS = 16

# What crosses a shuffle: the digest of the input batch that rows came from, and some of its columns as one Arrow IPC
# stream.  Writing a stream copies what a slice shows; pickling the slice would take the whole buffers behind it along.
Piece = tuple[bytes, bytes]

_ROW = "row of its batch"
_OWN = "own columns"


@dataclass(eq=False)
class ComputeFeatures(beam.PTransform):
    """`PCollection[pa.RecordBatch]` of transactions to `PCollection[pa.RecordBatch]` of their features.

    Every batch that has rows comes back as one batch with its rows in their order and the columns of
    `compute_features`, then `carry`.  What a batch's features are computed from may lie in any batch of the collection.

    Attributes:
        spec: what to compute.
        carry: columns of the transactions that come out as they are, the label say.
        partitions: into how many parts an entity's keys are split; memory is bounded by the largest part, and a key is
            never split.
    """

    spec: FeatureSpec
    carry: tuple[str, ...] = ()
    partitions: int = PARTITIONS

    def __post_init__(self) -> None:
        super().__init__()
        names = {"transaction_id", "event_time", *(i.name for i in self.spec.inputs)}
        if clash := sorted(names & set(self.carry)):
            raise DeclarationError(f"carried columns {clash} are in the output already; carry others only")

    def expand(self, batches: beam.PCollection) -> beam.PCollection:
        own = replace(self.spec, features=())
        joined = {_OWN: batches | "Own columns" >> beam.FlatMap(own_columns, own, self.carry)}
        for column, spec in routes(self.spec).items():
            joined[column] = (
                batches
                | f"Split by {column}" >> beam.FlatMap(split, column, spec, self.partitions)
                | f"Gather by {column}" >> beam.GroupByKey()
                | f"Compute by {column}" >> beam.FlatMap(compute_partition, spec)
            )
        return joined | "Gather batches" >> beam.CoGroupByKey() | "Join" >> beam.Map(join, self.spec)


def routes(spec: FeatureSpec) -> dict[str, FeatureSpec]:
    """The stateful features by the column that partitions them.

    A key of several columns shares the partitions of its first one: all events of a card and merchant are the card's.
    """

    def column(feature: Feature) -> str:
        return KEYS[feature.key][0]

    ordered = sorted(spec.features, key=column)
    return {name: FeatureSpec((), tuple(features), ()) for name, features in groupby(ordered, column)}


def own_columns(batch: pa.RecordBatch, spec: FeatureSpec, carry: tuple[str, ...]) -> Iterator[Piece]:
    """What needs no other row: ids, times, row inputs and carried columns."""
    if batch.num_rows:
        table = compute_features(pa.Table.from_batches([batch]), spec)
        for name in carry:
            table = table.append_column(batch.schema.field(name), batch[name])
        yield batch_name(batch), _pack(table)


def split(batch: pa.RecordBatch, column: str, spec: FeatureSpec, partitions: int) -> Iterator[tuple[int, Piece]]:
    """The rows of a batch by the partition of their key; rows without the key go nowhere."""
    if not batch.num_rows:
        return
    needed = sorted(needed_columns(spec))
    table = pa.Table.from_batches([batch]).select(needed).append_column(_ROW, pa.array(np.arange(batch.num_rows)))
    partition = _partition(batch[column], partitions)
    digest = batch_name(batch)
    for number in np.unique(partition[partition >= 0]):
        yield int(number), (digest, _pack(table.take(pa.array(np.flatnonzero(partition == number)))))


def compute_partition(partition: tuple[int, Iterable[Piece]], spec: FeatureSpec) -> Iterator[Piece]:
    """All features of one partition, split again into the batches that its rows came from."""
    digests, packed = zip(*partition[1], strict=True)
    tables = [_unpack(piece) for piece in packed]
    features = compute_features(pa.concat_tables(tables), spec).select([feature.name for feature in spec.features])
    begin = 0
    for digest, table in zip(digests, tables, strict=True):
        piece = features.slice(begin, table.num_rows).append_column(_ROW, table[_ROW])
        yield digest, _pack(piece)
        begin += table.num_rows


def join(gathered: tuple[bytes, dict[str, Iterable[bytes]]], spec: FeatureSpec) -> pa.RecordBatch:
    """One batch from its own columns and its rows' features; rows that went to no partition have missing ones.

    Raises:
        LogError: two batches hold the same transactions.
    """
    _, pieces = gathered
    own, *others = [_unpack(piece) for piece in pieces[_OWN]]
    if others:
        ids = own["transaction_id"]
        raise LogError(f"transactions {ids[0]} to {ids[-1]} came in {1 + len(others)} batches; ids must be unique")
    computed = [
        _rows_in_order([_unpack(piece) for piece in pieces[column]], of_column, own.num_rows)
        for column, of_column in routes(spec).items()
    ]
    columns = {name: table[name] for table in (own, *computed) for name in table.column_names}
    names = dict.fromkeys(("transaction_id", "event_time", *(i.name for i in spec.inputs), *own.column_names))
    [batch] = pa.table({name: columns[name] for name in names}).combine_chunks().to_batches()
    return batch


def _rows_in_order(pieces: list[pa.Table], spec: FeatureSpec, size: int) -> pa.Table:
    """The features of a batch of `size` rows from pieces that say which row each of theirs is."""
    missing = pa.table({feature.name: _missing(feature) for feature in spec.features})
    found = pa.concat_tables([*(piece.drop_columns([_ROW]) for piece in pieces), missing]).combine_chunks()
    position = np.full(size, found.num_rows - 1)
    if pieces:
        position[np.concatenate([piece[_ROW].to_numpy() for piece in pieces])] = np.arange(found.num_rows - 1)
    return found.take(pa.array(position))


def _missing(feature: Feature) -> pa.Array:
    """One row without the feature."""
    value = pa.array([""] * feature.width if feature.is_text else [np.nan] * feature.width)
    return pa.FixedSizeListArray.from_arrays(value, feature.width) if feature.is_vector else value


def _partition(keys: pa.Array, partitions: int) -> np.ndarray:
    """The partition of each key, -1 for null; the same for equal keys in every process and on every machine."""
    encoded = keys.dictionary_encode()
    hashed = pd.util.hash_array(encoded.dictionary.to_numpy(zero_copy_only=False), categorize=False) % partitions
    codes = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)
    # One more than there are keys, so that code -1 finds -1.
    return np.append(hashed.astype(np.int64), -1)[codes]


def batch_name(batch: pa.RecordBatch) -> bytes:
    """A digest of a batch's transaction ids: unlike a random name, it stays when a runner computes the batch twice."""
    return hashlib.sha256(_pack(pa.Table.from_batches([batch.select(["transaction_id"])]))).digest()


def _pack(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def _unpack(packed: bytes) -> pa.Table:
    return pa.ipc.open_stream(packed).read_all()
