"""The batch engine as a Beam transform: record batches are cut into partitions, computed, and joined back by row."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.metrics import Metrics
from apache_beam.pvalue import AsSingleton, TaggedOutput

from components.features.engine import compute_features, needed_columns
from components.features.partitions import CONTEXT, PARTITION_ROWS, ROW, Partitions, add, count, plan, split
from components.features.reach import within
from components.features.shuffle import Shuffle, pack, unpack
from schemas.errors import DeclarationError, LogError
from schemas.features import KEYS, Feature, FeatureSpec

# What crosses a shuffle: the digest of the input batch that rows came from, and some of its columns.
Piece = tuple[bytes, bytes]

# A distribution: how many rows the engine was given, partition by partition.
_ROWS_METRIC = Metrics.distribution("fraudops.features", "partition_rows")

_OWN, _BATCHES, _COUNTS = "own columns", "batches", "counts"


@dataclass(eq=False)
class ComputeFeatures(beam.PTransform):
    """`PCollection[pa.RecordBatch]` of transactions to `PCollection[pa.RecordBatch]` of their features.

    Every batch that has rows comes back as one batch with its rows in their order and the columns of
    `compute_features`, then `carry`.  What a batch's features are computed from may lie in any batch of the collection.

    Rows are counted by slot of keys and day first, and partitions are cut by these counts, so that memory is bounded
    whatever the keys are.  At a time, the engine is given no more than `partition_rows` rows; or, of a slot that has
    more, a segment of its time with its context.  The context is what lies within the longest window, its hop and the
    labels' delay before the segment; the segment's own rows are no more than the largest of `partition_rows`, its
    context and its rows on one day.  The metric `partition_rows` says how many the engine was given.

    Attributes:
        spec: what to compute.
        carry: columns of the transactions that come out as they are, the label say.
        partition_rows: how many rows make a partition.
        spill: a folder for what is shuffled, on runners that would keep it in memory; see `Shuffle`.
        since_us: transactions before it, in UTC microseconds, are context alone and do not come out; None for none.
    """

    spec: FeatureSpec
    carry: tuple[str, ...] = ()
    partition_rows: int = PARTITION_ROWS
    spill: str | None = None
    since_us: int | None = None

    def __post_init__(self) -> None:
        super().__init__()
        names = {"transaction_id", "event_time", *(i.name for i in self.spec.inputs)}
        if clash := sorted(names & set(self.carry)):
            raise DeclarationError(f"carried columns {clash} are in the output already; carry others only")

    def expand(self, batches: beam.PCollection) -> beam.PCollection:
        specs, shuffle = routes(self.spec), Shuffle(self.spill)
        # One step for both: Beam would keep the batches themselves between two.
        put = batches | "Put" >> beam.FlatMap(put_batch, list(specs), shuffle).with_outputs(_BATCHES, _COUNTS)
        partitions = (
            put[_COUNTS]
            | "Add" >> beam.CombineGlobally(add_packed)
            | "Plan" >> beam.Map(plan_packed, specs, self.partition_rows)
        )
        split_up = put[_BATCHES] | "Split" >> beam.FlatMap(
            split_batch, AsSingleton(partitions), self.spec, self.carry, self.since_us, shuffle
        ).with_outputs(_OWN, *specs)
        joined = {_OWN: split_up[_OWN]}
        for column, spec in specs.items():
            joined[column] = (
                split_up[column]
                | f"Gather by {column}" >> beam.GroupByKey()
                | f"Compute by {column}" >> beam.FlatMap(compute_partition, spec, shuffle)
            )
        return joined | "Gather batches" >> beam.CoGroupByKey() | "Join" >> beam.Map(join, self.spec, shuffle)


def routes(spec: FeatureSpec) -> dict[str, FeatureSpec]:
    """The stateful features by the column that partitions them.

    A key of several columns shares the partitions of its first one: all events of a card and merchant are the card's.
    """

    def column(feature: Feature) -> str:
        return KEYS[feature.key][0]

    ordered = sorted(spec.features, key=column)
    return {name: FeatureSpec((), tuple(features), ()) for name, features in groupby(ordered, column)}


def put_batch(batch: pa.RecordBatch, columns: list[str], shuffle: Shuffle) -> Iterator[TaggedOutput]:
    """A batch as a value to shuffle, for it waits until all batches are counted, and its packed counts."""
    if batch.num_rows:
        rows = pa.Table.from_batches([batch])
        yield TaggedOutput(_COUNTS, pack(count(rows, columns)))
        yield TaggedOutput(_BATCHES, shuffle.put(rows))


def add_packed(counts: Iterable[bytes]) -> bytes:
    """The sums of several counts, packed."""
    return pack(add(unpack(packed) for packed in counts))


def plan_packed(counts: bytes, specs: dict[str, FeatureSpec], partition_rows: int) -> dict[str, Partitions]:
    """The partitions of each column of keys, by packed counts."""
    return plan(unpack(counts), specs, partition_rows)


def split_batch(
    put: bytes,
    partitions: dict[str, Partitions],
    spec: FeatureSpec,
    carry: tuple[str, ...],
    since_us: int | None,
    shuffle: Shuffle,
) -> Iterator[TaggedOutput]:
    """What goes where: what needs no other row to the join, the rest by column of keys and partition."""
    batch = shuffle.take(put)
    digest = batch_name(batch)
    own, numbers = batch, np.arange(batch.num_rows)
    if since_us is not None:
        comes_out = within(batch["event_time"], since_us, None)
        own, numbers = batch.filter(pa.array(comes_out)), np.where(comes_out, np.cumsum(comes_out) - 1, CONTEXT)
    if own.num_rows:
        yield TaggedOutput(_OWN, (digest, shuffle.put(own_columns(own, spec, carry))))
    numbered = batch.append_column(ROW, pa.array(numbers))
    for column, of_column in routes(spec).items():
        rows = numbered.select([*sorted(needed_columns(of_column)), ROW])
        for number, piece in split(rows, column, of_column, partitions[column], since_us):
            yield TaggedOutput(column, (number, (digest, shuffle.put(piece))))


def own_columns(transactions: pa.Table, spec: FeatureSpec, carry: tuple[str, ...]) -> pa.Table:
    """What needs no other row: ids, times, row inputs and carried columns."""
    table = compute_features(transactions, replace(spec, features=()))
    for name in carry:
        table = table.append_column(transactions.schema.field(name), transactions[name])
    return table


def compute_partition(partition: tuple[int, Iterable[Piece]], spec: FeatureSpec, shuffle: Shuffle) -> Iterator[Piece]:
    """All features of a partition but of its context, split again into the batches that its rows came from."""
    digests, put = zip(*partition[1], strict=True)
    pieces = [shuffle.take(value) for value in put]
    numbers = [piece[ROW].to_numpy() for piece in pieces]
    rows = pa.concat_tables(pieces)
    del pieces
    if all((of_piece == CONTEXT).all() for of_piece in numbers):
        return
    _ROWS_METRIC.update(rows.num_rows)
    features = compute_features(rows, spec).select([feature.name for feature in spec.features])
    del rows
    begin = 0
    for digest, of_piece in zip(digests, numbers, strict=True):
        piece = features.slice(begin, of_piece.size).append_column(ROW, pa.array(of_piece))
        begin += of_piece.size
        own = of_piece != CONTEXT
        if own.any():
            yield digest, shuffle.put(piece if own.all() else piece.filter(pa.array(own)))


def join(gathered: tuple[bytes, dict[str, Iterable[bytes]]], spec: FeatureSpec, shuffle: Shuffle) -> pa.RecordBatch:
    """One batch from its own columns and its rows' features; rows that went to no partition have missing ones.

    Raises:
        LogError: two batches hold the same transactions.
    """
    _, pieces = gathered
    own, *others = [shuffle.take(piece) for piece in pieces[_OWN]]
    if others:
        ids = own["transaction_id"]
        raise LogError(f"transactions {ids[0]} to {ids[-1]} came in {1 + len(others)} batches; ids must be unique")
    computed = [
        _rows_in_order([shuffle.take(piece) for piece in pieces[column]], of_column, own.num_rows)
        for column, of_column in routes(spec).items()
    ]
    columns = {name: table[name] for table in (own, *computed) for name in table.column_names}
    names = dict.fromkeys(("transaction_id", "event_time", *(i.name for i in spec.inputs), *own.column_names))
    [batch] = pa.table({name: columns[name] for name in names}).combine_chunks().to_batches()
    return batch


def _rows_in_order(pieces: list[pa.Table], spec: FeatureSpec, size: int) -> pa.Table:
    """The features of a batch of `size` rows from pieces that say which row each of theirs is."""
    missing = pa.table({feature.name: _missing(feature) for feature in spec.features})
    found = pa.concat_tables([*(piece.drop_columns([ROW]) for piece in pieces), missing]).combine_chunks()
    position = np.full(size, found.num_rows - 1)
    if pieces:
        position[np.concatenate([piece[ROW].to_numpy() for piece in pieces])] = np.arange(found.num_rows - 1)
    return found.take(pa.array(position))


def _missing(feature: Feature) -> pa.Array:
    """One row without the feature."""
    value = pa.array([""] * feature.width if feature.is_text else [np.nan] * feature.width)
    return pa.FixedSizeListArray.from_arrays(value, feature.width) if feature.is_vector else value


def batch_name(batch: pa.RecordBatch | pa.Table) -> bytes:
    """A digest of a batch's transaction ids: unlike a random name, it stays when a runner computes the batch twice."""
    return hashlib.sha256(pack(pa.table({"transaction_id": batch["transaction_id"]}))).digest()
