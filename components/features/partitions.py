"""Cutting a log into partitions of bounded size, by key and, where one key has too many rows, by time.

Keys are hashed into `SLOTS` slots.  Slots that have few rows share a partition; one that has more than a partition may
hold is cut in time, and each segment is computed with the rows that it depends on as context.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from components.features.engine import Ints
from components.features.reach import depends_on, history_begins_us, micros, within
from schemas.features import FeatureSpec
from schemas.transaction import DAY_S, SECOND_US

# How many rows a partition holds before context.  It bounds memory: with the
# declaration that ships, a process takes about 2 GB.
PARTITION_ROWS = 1 << 20
# A slot is cut with all its keys, so that there should be far more slots than partitions; each costs a count per day.
SLOTS = 1024

# A row of its batch, by number; `CONTEXT` for rows that only others' features depend on.
ROW = "row of its batch"
CONTEXT = -1

_DAY_US = DAY_S * SECOND_US
_EVER_US = -(1 << 63)
_COUNTS = pa.schema([("column", pa.string()), ("slot", pa.int64()), ("day", pa.int64()), ("rows", pa.int64())])


@dataclass(frozen=True, eq=False)
class Partitions:
    """The partitions of one column's keys.

    Attributes:
        first: int64[SLOTS], the number of each slot's partition, or of its first segment's.
        cuts: of each slot that is cut, the times in UTC microseconds at which its segments but the first begin.
    """

    first: Ints
    cuts: dict[int, list[int]]


def count(rows: pa.Table, columns: Iterable[str]) -> pa.Table:
    """How many rows each slot has on each day (UTC), by column of keys."""
    days = micros(rows["event_time"]) // _DAY_US
    counts = [_COUNTS.empty_table()]
    for column in columns:
        slots = slots_of(rows[column])
        known = slots >= 0
        # One number per slot and day sorts many times faster than pairs of them.
        found, per_day = np.unique(days[known] * SLOTS + slots[known], return_counts=True)
        names = pa.array([column] * found.size, pa.string())
        counts.append(
            pa.table([names, pa.array(found % SLOTS), pa.array(found // SLOTS), pa.array(per_day)], schema=_COUNTS)
        )
    return pa.concat_tables(counts)


def add(counts: Iterable[pa.Table]) -> pa.Table:
    """The sums of several counts."""
    table = pa.concat_tables([_COUNTS.empty_table(), *counts])
    summed = table.group_by(["column", "slot", "day"]).aggregate([("rows", "sum")])
    return summed.select(["column", "slot", "day", "rows_sum"]).rename_columns(_COUNTS.names)


def plan(counts: pa.Table, specs: dict[str, FeatureSpec], partition_rows: int) -> dict[str, Partitions]:
    """The partitions of each column of keys.

    Args:
        counts: what `add` makes.
        specs: the features by column of keys.
        partition_rows: a partition of whole slots has no more rows.
    """
    return {
        column: _plan(counts.filter(pc.equal(counts["column"], column)), spec, partition_rows)
        for column, spec in specs.items()
    }


def _plan(counts: pa.Table, spec: FeatureSpec, partition_rows: int) -> Partitions:
    counts = counts.sort_by([("slot", "ascending"), ("day", "ascending")])
    slot, day, rows = (counts[name].to_numpy() for name in ("slot", "day", "rows"))
    edges = np.searchsorted(slot, np.arange(SLOTS + 1))
    first, cuts = np.zeros(SLOTS, np.int64), dict[int, list[int]]()
    number = held = 0
    for at in range(SLOTS):
        of_slot = slice(edges[at], edges[at + 1])
        total = int(rows[of_slot].sum())
        if held and held + total > partition_rows:
            number, held = number + 1, 0
        first[at], held = number, held + total
        if total > partition_rows:
            cuts[at] = _cuts(day[of_slot], rows[of_slot], spec, partition_rows)
            number, held = number + len(cuts[at]) + 1, 0
    return Partitions(first, cuts)


def _cuts(days: Ints, rows: Ints, spec: FeatureSpec, partition_rows: int) -> list[int]:
    """Where the segments of a slot begin but the first, which has all that comes before.

    A segment ends before the day with which it would have more rows of its own than both `partition_rows` and its
    context.  So context at most doubles the work, however long the windows are, and memory is at most twice what a
    partition or the shortest segment would need.
    """
    cuts: list[int] = []
    own = context = 0
    before = np.concatenate([[0], np.cumsum(rows)])
    for i, day in enumerate(days):
        if own and own + rows[i] > max(partition_rows, context):
            begin_us = int(day) * _DAY_US
            cuts.append(begin_us)
            first_day = history_begins_us(spec, begin_us, label_delay_s=0) // _DAY_US
            context = int(before[i] - before[np.searchsorted(days, first_day)])
            own = 0
        own += int(rows[i])
    return cuts


def split(
    rows: pa.Table, column: str, spec: FeatureSpec, partitions: Partitions, since_us: int | None
) -> Iterator[tuple[int, pa.Table]]:
    """The rows of a batch by the number of their partition, some in several as context; those without a key in none.

    Args:
        rows: `ROW`, and the columns that the features need.
        column: the column of keys.
        spec: the features.
        partitions: of the column.
        since_us: earlier transactions are nothing but context; None for none.
    """
    if since_us is not None:
        rows = rows.filter(pa.array(depends_on(rows, spec, since_us)))
    slots = slots_of(rows[column])
    for slot, cuts in partitions.cuts.items():
        of_slot = rows.filter(pa.array(slots == slot))
        for segment, (begin, end) in enumerate(zip([_EVER_US, *cuts], [*cuts, None], strict=True)):
            if of_slot.num_rows and (since_us is None or end is None or end > since_us):
                piece = _segment(of_slot, spec, begin, end)
                if piece.num_rows:
                    yield int(partitions.first[slot]) + segment, piece
    whole = (slots >= 0) & ~np.isin(slots, list(partitions.cuts))
    positions = np.flatnonzero(whole)
    numbers = partitions.first[slots[positions]]
    order = np.argsort(numbers, kind="stable")
    found, begins = np.unique(numbers[order], return_index=True)
    for number, of_partition in zip(found, np.split(positions[order], begins)[1:], strict=True):
        yield int(number), rows.take(pa.array(of_partition))


def _segment(rows: pa.Table, spec: FeatureSpec, begin_us: int, end_us: int | None) -> pa.Table:
    """The rows that happened in a segment, and as context those that they depend on."""
    own = within(rows["event_time"], begin_us, end_us)
    numbers = pa.array(np.where(own, rows[ROW].to_numpy(), CONTEXT))
    numbered = rows.set_column(rows.column_names.index(ROW), ROW, numbers)
    return numbered.filter(pa.array(depends_on(rows, spec, begin_us, end_us)))


def slots_of(keys: pa.ChunkedArray) -> NDArray[np.int64]:
    """The slot of each key, -1 for null; the same for equal keys in every process and on every machine."""
    encoded = keys.combine_chunks().dictionary_encode()
    hashed = pd.util.hash_array(encoded.dictionary.to_numpy(zero_copy_only=False), categorize=False) % SLOTS
    codes = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)
    # One more than there are keys, so that code -1 finds -1.
    return np.append(hashed.astype(np.int64), -1)[codes]
