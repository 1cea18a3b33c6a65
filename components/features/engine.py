"""Every declared feature of a log, or of one entity partition of it, in linear passes over sorted arrays."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from components.features import kernels
from schemas import transaction
from schemas.errors import LogColumnsError, LogError
from schemas.features import KEYS, Feature, FeatureSpec, Filter, RowInput, Window
from schemas.transaction import SECOND_US

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

_HOUR_US = 3_600 * SECOND_US
_KINDS = {
    "count": kernels.COUNT, "sum": kernels.SUM, "mean": kernels.MEAN,
    "fraud_count": kernels.COUNT, "fraud_rate": kernels.MEAN,
}  # fmt: skip


def compute_features(transactions: pa.Table, spec: FeatureSpec) -> pa.Table:
    """The inputs of a model for each transaction, from the other transactions in the table.

    Args:
        transactions: canonical columns, at least those that the features need; rows in any order, ids unique.
        spec: what to compute; its docstring fixes the meaning.

    Returns:
        The rows in the order given: `transaction_id`, `event_time`, then `spec.inputs` by name. Numbers are
        float64 with NaN for missing, text is string with "" for missing, `recent` is a fixed-size list of either.

    Raises:
        LogColumnsError: the table lacks a column that the features need.
        LogError: a transaction has no id or time, or the amounts of one window do not fit 63 bits.
    """
    log = _Log(transactions, spec)
    columns: dict[str, pa.Array | pa.ChunkedArray] = {
        "transaction_id": transactions["transaction_id"],
        "event_time": transactions["event_time"],
        **{row_input.name: _row_input(log, row_input) for row_input in spec.row_inputs},
    }
    keys = [key for key in KEYS if any(feature.key == key for feature in spec.features)]
    # Keys have hardly anything in common, and what takes time runs without the interpreter's lock.
    with ThreadPoolExecutor(max(1, len(keys))) as threads:
        for of_key in threads.map(partial(_of_key, log, spec), keys):
            columns |= of_key
    return pa.table({name: columns[name] for name in ("transaction_id", "event_time", *(i.name for i in spec.inputs))})


def _of_key(log: _Log, spec: FeatureSpec, key: str) -> dict[str, pa.Array]:
    """The features of one key by name."""
    group = _Group(log, key)
    return {
        feature.name: _AGGREGATES[feature.aggregate](group, feature) for feature in spec.features if feature.key == key
    }


def needed_columns(spec: FeatureSpec) -> frozenset[str]:
    """The canonical columns that a table must have for this specification."""
    return frozenset({"transaction_id", "event_time"}).union(*(i.inputs for i in spec.inputs))


def event_order(transactions: pa.Table) -> Ints:
    """Row numbers by (event_time, transaction_id), ids compared as UTF-8 bytes."""
    times = _micros(transactions["event_time"])
    order = np.argsort(times, kind="stable")
    # Only rows that share a time need their ids compared, and strings are dear.
    same = times[order[1:]] == times[order[:-1]]
    tied = np.zeros(times.size, np.bool_)
    tied[1:] |= same
    tied[:-1] |= same
    if tied.any():
        rows = order[tied]
        ties = pa.table({"time": times[rows], "id": transactions["transaction_id"].take(pa.array(rows))})
        order[tied] = rows[pc.sort_indices(ties, [("time", "ascending"), ("id", "ascending")]).to_numpy()]
    return order


def _micros(column: pa.ChunkedArray) -> Ints:
    """Microseconds since the Unix epoch; 0 for null."""
    return pc.fill_null(column.cast(pa.timestamp("us", "UTC")).cast(pa.int64()), 0).to_numpy()


class _Codes(NamedTuple):
    """A column as numbers: equal values have equal codes below `size`, null is -1; `values` has each code's value."""

    codes: NDArray[np.int32]
    size: int
    values: pa.Array


def _encode(column: pa.ChunkedArray) -> _Codes:
    encoded = column.dictionary_encode().combine_chunks()
    codes = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)
    return _Codes(codes.astype(np.int32, copy=False), len(encoded.dictionary), encoded.dictionary)


class _Log:
    """Columns of a log as arrays, in the order of its rows.

    What threads ask for at the same time may be made more than once, always to the same values.
    """

    def __init__(self, transactions: pa.Table, spec: FeatureSpec) -> None:
        missing = sorted(needed_columns(spec) - set(transactions.column_names))
        if missing:
            raise LogColumnsError(
                f"transactions lack {missing}, which the features need; specify what the log provides"
            )
        for name in ("transaction_id", "event_time"):
            if nulls := transactions[name].null_count:
                raise LogError(f"{nulls} transactions have no {name}; leave them out, as ingest does")
        self._table = transactions
        self.size = transactions.num_rows
        self.times = _micros(transactions["event_time"])
        self.order = event_order(transactions)
        self._codes: dict[str, _Codes] = {}

    def codes(self, column: str) -> _Codes:
        if column not in self._codes:
            stored = self._table[column]
            is_time = pa.types.is_timestamp(stored.type)
            self._codes[column] = _encode(stored.cast(pa.int64()) if is_time else stored)
        return self._codes[column]

    def text(self, column: str) -> pa.Array:
        """The column with "" for null."""
        return pc.fill_null(self._table[column], "").cast(pa.string())

    def integers(self, column: str) -> tuple[Ints, Mask]:
        """An integer or calendar column and where it is known; 0 where it is not."""
        if column in transaction.CALENDAR_COLUMNS:
            derive = transaction.second_of_day if column == "second_of_day" else transaction.second_of_week
            return derive(self.times), np.ones(self.size, np.bool_)
        stored = self._table[column]
        return pc.fill_null(stored, 0).to_numpy(), _known(stored)

    def floats(self, column: str) -> Floats:
        """A number or time as float64 with NaN for null."""
        if column in transaction.CALENDAR_COLUMNS:
            return self.integers(column)[0].astype(np.float64)
        stored = self._table[column]
        filled = _micros(stored) if pa.types.is_timestamp(stored.type) else pc.fill_null(stored, 0).to_numpy()
        return np.where(_known(stored), filled.astype(np.float64), np.nan)

    @cached_property
    def labels(self) -> tuple[Ints, Ints, Ints]:
        """Label times, labels as 0 or 1, and the labelled rows ordered by label time."""
        known = _known(self._table["is_fraud"]) & _known(self._table["label_time"])
        times = _micros(self._table["label_time"])
        frauds = pc.fill_null(self._table["is_fraud"], False).cast(pa.int64()).to_numpy()
        rows = np.flatnonzero(known)
        return times, frauds, rows[np.argsort(times[rows], kind="stable")]


def _known(column: pa.ChunkedArray) -> Mask:
    return pc.is_valid(column).to_numpy() if column.null_count else np.ones(len(column), np.bool_)


def _row_input(log: _Log, row_input: RowInput) -> pa.Array:
    return log.text(row_input.column) if row_input.is_text else pa.array(log.floats(row_input.column))


class _Sums(NamedTuple):
    """Prefix sums int64[m+1] over a group: the values, how many there are, and the largest magnitude among them."""

    totals: Ints
    counts: Ints
    largest: int


class _Group:
    """The rows of a log gathered by key, by (event_time, transaction_id) within it, and what a key's features share."""

    def __init__(self, log: _Log, key: str) -> None:
        self.log = log
        self._codes, self._size = _key_codes([log.codes(column) for column in KEYS[key]])
        self.rows, self._offsets = kernels.group(self._codes, log.order, self._size)
        self._times = log.times[self.rows]
        self.stop = self._edges(self._times, self._offsets)
        self._floors: dict[int, Ints] = {}
        self._starts: dict[Window, Ints] = {}
        self._label_starts: dict[Window, Ints] = {}
        self._labels_saying: dict[bool, tuple[Ints, Ints]] = {}
        self._recent: dict[Window, Ints] = {}
        self._sums: dict[tuple[str | None, Filter | None], _Sums] = {}
        self._squares: dict[tuple[str | None, Filter | None], tuple[NDArray[np.uint64], NDArray[np.uint64]]] = {}

    def start(self, window: Window) -> Ints:
        """Where each row's window begins."""
        if window not in self._starts:
            self._starts[window] = self._edges(self._times, self._offsets, window)
        return self._starts[window]

    def _edges(self, times: Ints, offsets: Ints, window: Window | None = None) -> Ints:
        """Positions among times of a key of where its rows' windows begin; without a window, of where all of them end.

        A hop divides its window's length, so that floor(t - length, hop) is floor(t, hop) - length.
        """
        if window is None:
            return kernels.edges(times, offsets, self._times, self._offsets, 0)
        floors = self._floored(window.hop_s)
        return kernels.edges(times, offsets, floors, self._offsets, window.length_s * SECOND_US)

    def _floored(self, hop_s: int) -> Ints:
        """Each row's time at the begin of its hop."""
        if hop_s not in self._floors:
            hop_us = hop_s * SECOND_US
            self._floors[hop_s] = self._times // hop_us * hop_us
        return self._floors[hop_s]

    def keep(self, where: Filter | None) -> Mask:
        """Which events pass a filter; an event without the filtered value does not."""
        if where is None:
            return np.ones(self.rows.size, np.bool_)
        values, known = self.log.integers(where.column)
        passed = values < where.value if where.op == "<" else values >= where.value
        return (passed & known)[self.rows]

    def integers(self, feature: Feature) -> tuple[Ints, Mask]:
        """The feature's column and which events count."""
        values, known = self.log.integers(str(feature.column))
        return values[self.rows], self.keep(feature.where) & known[self.rows]

    def sums(self, feature: Feature) -> _Sums:
        """Prefix sums of the feature's column, or of the events alone where it has none.

        Raises:
            LogError: a sum over the feature's window might not fit 63 bits.
        """
        name = (feature.column, feature.where)
        if name not in self._sums:
            if feature.column is None:
                counts = _prefix(self.keep(feature.where))
                self._sums[name] = _Sums(counts, counts, 1)
            else:
                values, keep = self.integers(feature)
                kept = np.where(keep, values, 0)
                largest = max(abs(int(kept.max())), abs(int(kept.min()))) if kept.size else 0
                self._sums[name] = _Sums(_prefix(kept), _prefix(keep), largest)
        sums = self._sums[name]
        # What all events together cannot reach, no window can.
        if self.rows.size * sums.largest >= 2**63:
            events = int((self.stop - self.start(feature.window)).max(initial=0))
            if events * sums.largest >= 2**63:
                raise LogError(
                    f"{feature.name}: {events} events of up to {sums.largest} in one window may sum to more than 63 "
                    "bits; lower the source's amount_limit"
                )
        return sums

    def squares(self, feature: Feature) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        """Prefix sums of the squares of the feature's column, in 128 bits."""
        name = (feature.column, feature.where)
        if name not in self._squares:
            values, keep = self.integers(feature)
            self._squares[name] = kernels.square_sums(np.where(keep, values, 0))
        return self._squares[name]

    @cached_property
    def labels(self) -> tuple[Ints, Ints, _Sums]:
        """Times of the key's labels, the run of each key among them, and the prefix sums of frauds and labels."""
        times, frauds, order = self.log.labels
        rows, offsets = kernels.group(self._codes, order, self._size)
        return times[rows], offsets, _Sums(_prefix(frauds[rows]), np.arange(rows.size + 1), 1)

    def label_start(self, window: Window) -> Ints:
        """Where each row's window over the key's labels begins."""
        if window not in self._label_starts:
            times, offsets, _ = self.labels
            self._label_starts[window] = self._edges(times, offsets, window)
        return self._label_starts[window]

    def labels_saying(self, is_fraud: bool, window: Window) -> tuple[Ints, Ints, Ints]:
        """Times of the key's labels that say so, and where each row's window over them begins and ends."""
        if is_fraud not in self._labels_saying:
            times, frauds, order = self.log.labels
            rows, offsets = kernels.group(self._codes, order[frauds[order] == is_fraud], self._size)
            self._labels_saying[is_fraud] = times[rows], offsets
        times, offsets = self._labels_saying[is_fraud]
        return times, self._edges(times, offsets, window), self._edges(times, offsets)

    @cached_property
    def label_stop(self) -> Ints:
        """Where each row's windows over the key's labels end."""
        times, offsets, _ = self.labels
        return self._edges(times, offsets)

    def recent(self, window: Window, k: int) -> Ints:
        """The log's rows of the last k events in each row's window, newest first, -1 without one; int64[n, k]."""
        held = self._recent.get(window)
        # A feature that looks further back than those before it is followed by others that look as far.
        if held is None or held.shape[1] < k:
            held = np.full((self.log.size, k), -1, np.int64)
            kernels.recent(self.start(window), self.stop, self.rows, held)
            self._recent[window] = held
        return held[:, :k]

    def earlier(self, window: Window) -> Ints:
        """The log's row of the last event in each row's window, -1 without one; int64[n]."""
        return self.recent(window, 1)[:, 0]

    @cached_property
    def before(self) -> Ints:
        """The log's row of the key's event right before each row, -1 for its first; int64[n]."""
        found = np.full(self.log.size, -1, np.int64)
        kernels.before(self.rows, self._offsets, found)
        return found

    def missing(self) -> Floats:
        return np.full(self.log.size, np.nan)


def _key_codes(parts: list[_Codes]) -> tuple[NDArray[np.int32], int]:
    """One code per key, -1 where any part of it is null."""
    (codes, size, _), *others = parts
    for other in others:
        both = (codes >= 0) & (other.codes >= 0)
        pair = pa.array(codes.astype(np.int64) * other.size + other.codes, mask=~both)
        codes, size, _ = _encode(pa.chunked_array([pair]))
    return codes, size


def _prefix(values: NDArray[np.int64] | Mask) -> Ints:
    sums = np.zeros(values.size + 1, np.int64)
    np.cumsum(values, out=sums[1:])
    return sums


def _total(group: _Group, feature: Feature) -> pa.Array:
    sums, out = group.sums(feature), group.missing()
    start = group.start(feature.window)
    kernels.window_sums(sums.totals, sums.counts, start, group.stop, group.rows, _KINDS[feature.aggregate], out)
    return pa.array(out)


def _label_total(group: _Group, feature: Feature) -> pa.Array:
    (_, _, labels), out = group.labels, group.missing()
    start, stop = group.label_start(feature.window), group.label_stop
    counts = labels.counts if feature.aggregate == "fraud_rate" else labels.totals
    kernels.window_sums(labels.totals, counts, start, stop, group.rows, _KINDS[feature.aggregate], out)
    return pa.array(out)


def _seconds_since_label(group: _Group, feature: Feature) -> pa.Array:
    is_fraud = feature.aggregate != "seconds_since_last_genuine"
    (times, start, stop), out = group.labels_saying(is_fraud, feature.window), group.missing()
    held = start < stop
    rows = group.rows[held]
    at = start[held] if feature.aggregate == "seconds_since_first_fraud" else stop[held] - 1
    out[rows] = (group.log.times[rows] - times[at]) / SECOND_US
    return pa.array(out)


def _deviation(group: _Group, feature: Feature) -> pa.Array:
    sums, (high, low), out = group.sums(feature), group.squares(feature), group.missing()
    kernels.deviations(sums.totals, high, low, sums.counts, group.start(feature.window), group.stop, group.rows, out)
    return pa.array(out)


def _extreme(group: _Group, feature: Feature) -> pa.Array:
    (values, keep), out = group.integers(feature), group.missing()
    kernels.extremes(values, keep, group.start(feature.window), group.stop, group.rows, feature.aggregate == "max", out)
    return pa.array(out)


def _distinct(group: _Group, feature: Feature) -> pa.Array:
    codes, size, _ = group.log.codes(str(feature.column))
    kept, out = np.where(group.keep(feature.where), codes[group.rows], np.int32(-1)), group.missing()
    kernels.distinct(kept, size, group.start(feature.window), group.stop, group.rows, feature.cap, out)
    return pa.array(out)


def _first_seen(group: _Group, feature: Feature) -> pa.Array:
    codes, size, _ = group.log.codes(str(feature.column))
    out = group.missing()
    kernels.first_seen(codes[group.rows], size, group.start(feature.window), group.stop, group.rows, out)
    return pa.array(out)


def _values_at(log: _Log, feature: Feature, rows: Ints) -> pa.Array:
    """The feature's column at rows of the log, missing at -1."""
    column = str(feature.column)
    if feature.is_text:
        codes, _, values = log.codes(column)
        found = np.where(rows >= 0, codes[rows], -1) if codes.size else codes
        return pc.fill_null(values.take(pa.array(found, mask=found < 0)), "")
    return pa.array(np.where(rows >= 0, log.floats(column)[rows], np.nan))


def _last(group: _Group, feature: Feature) -> pa.Array:
    return _values_at(group.log, feature, group.earlier(feature.window))


def _recent(group: _Group, feature: Feature) -> pa.Array:
    rows = group.recent(feature.window, feature.width)
    return _vectors(_values_at(group.log, feature, rows.ravel()), feature)


def _recent_between(measure: Callable[[_Log, Ints], Floats]) -> Callable[[_Group, Feature], pa.Array]:
    """Measures each of the last events against the one before it, as long as that is in the window too."""

    def between(group: _Group, feature: Feature) -> pa.Array:
        rows = group.recent(feature.window, feature.width + 1)
        # What lies between an event and the one before it is the same in each vector that it is part of.
        found = measure(group.log, group.before)[rows[:, :-1]]
        found[rows[:, 1:] < 0] = np.nan
        return _vectors(pa.array(found.ravel()), feature)

    return between


def _vectors(values: pa.Array, feature: Feature) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(values, feature.width)


def _seconds_since_last(group: _Group, feature: Feature) -> pa.Array:
    return pa.array(_gaps_s(group.log, group.earlier(feature.window)))


def _gaps_s(log: _Log, previous: Ints) -> Floats:
    return _gaps_us(log, previous) / SECOND_US


def _gaps_us(log: _Log, previous: Ints) -> Floats:
    """Time from each row's `previous` one to it, NaN where that is -1."""
    return np.where(previous >= 0, log.times - log.times[previous], np.nan) if previous.size else np.zeros(0)


def _distances_km(log: _Log, previous: Ints) -> Floats:
    return kernels.distances_km(log.floats("latitude"), log.floats("longitude"), previous)


def _distance_since_last(group: _Group, feature: Feature) -> pa.Array:
    return pa.array(_distances_km(group.log, group.earlier(feature.window)))


def _speed_since_last(group: _Group, feature: Feature) -> pa.Array:
    previous = group.earlier(feature.window)
    return pa.array(_distances_km(group.log, previous) / (_gaps_us(group.log, previous) / _HOUR_US))


_AGGREGATES: dict[str, Callable[[_Group, Feature], pa.Array]] = {
    "count": _total,
    "sum": _total,
    "mean": _total,
    "std": _deviation,
    "min": _extreme,
    "max": _extreme,
    "distinct": _distinct,
    "last": _last,
    "seconds_since_last": _seconds_since_last,
    "distance_km_since_last": _distance_since_last,
    "speed_km_per_h_since_last": _speed_since_last,
    "first_seen": _first_seen,
    "recent": _recent,
    "recent_seconds_between": _recent_between(_gaps_s),
    "recent_distance_km_between": _recent_between(_distances_km),
    "fraud_count": _label_total,
    "fraud_rate": _label_total,
    "seconds_since_first_fraud": _seconds_since_label,
    "seconds_since_last_fraud": _seconds_since_label,
    "seconds_since_last_genuine": _seconds_since_label,
}
