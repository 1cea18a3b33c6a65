"""What a feature store was told of, and when: history, decided transactions and labels, as one log with arrival times.

A batch recomputation sees everything that lies before a transaction; a store saw what had come by then.  Where the two
may differ for that reason alone is said here, from arrival times and never from the values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from components.features.engine import Floats, Ints, Mask, compute_features, event_order, needed_columns
from schemas.features import KEYS, Feature, FeatureSpec, RowInput, Window
from schemas.transaction import SECOND_US

ARRIVAL = pa.schema([("came_us", pa.int64()), ("decided_us", pa.int64()), ("answered", pa.bool_())])
REPORTS = pa.schema(
    [
        ("transaction_id", pa.string()),
        ("is_fraud", pa.bool_()),
        ("label_time", pa.timestamp("us", "UTC")),
        ("reported_us", pa.int64()),
        ("applied", pa.bool_()),
    ]
)
RUNS = pa.schema(
    [
        ("label_time", pa.timestamp("us", "UTC")),
        ("transaction_id", pa.string()),
        ("began_us", pa.int64()),
        ("ended_us", pa.int64()),
    ]
)

_LABELS = ("is_fraud", "label_time")
# A label, before which time the store did not know of it, and from which on it did.
_TOLD = pa.schema([*(field for field in REPORTS if field.name in ("transaction_id", *_LABELS))])
_TOLD = _TOLD.append(pa.field("came_us", pa.int64())).append(pa.field("told_us", pa.int64()))
_NEVER_US = 2**62
# A gateway writes a report down and tells the store of it right after; in between, transactions may pass.
_SETTLING_US = SECOND_US


class Cause(IntEnum):
    """Why a feature need not agree with a batch recomputation.

    NONE: it has to agree.
    LATE: the transaction came later than the allowed lateness behind another one of its key.
    OVERTAKEN: something that lies before the transaction came after it, or at the same time.
    UNANSWERED: the store gave no answer on a transaction before; whether it knows of that one, nobody can say.
    CORRECTED: a label before was corrected, and the store counts both.
    """

    NONE = 0
    LATE = 1
    OVERTAKEN = 2
    UNANSWERED = 3
    CORRECTED = 4


@dataclass(frozen=True)
class Timeline:
    """Everything that a store was told of.

    Attributes:
        events: each transaction once, in order of (event_time, transaction_id): the columns that the features need,
            with the label that stands, and those of `ARRIVAL`; what was loaded came at 0.
        reports: labels that came, in order of their label times: `transaction_id`, `is_fraud`, `label_time`, `came_us`
            before which the store did not know of it, `told_us` from which on it did, and as `row` the row of their
            transaction in `events`.  What a load brought of transactions that were not decided is in `events` alone.
        labels_ahead: labels of the history that have not come; they are left out.
    """

    events: pa.Table
    reports: pa.Table
    labels_ahead: int


def timeline(
    history: Sequence[pa.Table],
    decided: pa.Table,
    reports: pa.Table,
    spec: FeatureSpec,
    from_us: int,
    runs: pa.Table,
) -> Timeline:
    """What a store was told of that was loaded from a history and then asked about transactions.

    A transaction of the history that was decided, too, counts as decided.  Of several labels of a transaction the
    latest stands.

    Args:
        history: tables of canonical columns; of transactions with one id the first counts.
        decided: canonical columns, those of a label aside, and the columns of `ARRIVAL`: when a transaction came and
            when it was decided, in microseconds, and whether the store had answered by then.
        reports: with the columns of `REPORTS`; those on transactions that are nowhere are left out.
        spec: what the store computes.
        from_us: what of the history lies before this time, with its label, is left out.
        runs: which runs brought labels of the history, as `RUNS`, the load first: in the order of (label_time,
            transaction_id), up to which label, and when it began and ended.  None where there was only a load, which
            brings what is known by the history's last transaction.
    """
    needed = needed_columns(spec)
    loaded, brought, ahead = _loaded(history, decided["transaction_id"], needed, from_us, runs)
    reports = pa.concat_tables([brought, _told(reports)])
    columns = [name for name in decided.column_names if name in needed and name not in _LABELS]
    parts = [decided.select([*columns, *ARRIVAL.names]), *([] if loaded is None else [loaded])]
    events = pa.concat_tables(parts, promote_options="default").combine_chunks()
    events = events.take(pa.array(event_order(events)))
    row = pc.index_in(reports["transaction_id"], value_set=events["transaction_id"])
    reports = reports.append_column("row", row).filter(pc.is_valid(row)).sort_by("label_time")
    if needed.issuperset(_LABELS):
        events = _with_standing_labels(events, reports)
    return Timeline(events, reports, ahead)


def _loaded(
    history: Sequence[pa.Table], decided: pa.ChunkedArray, needed: frozenset[str], from_us: int, runs: pa.Table
) -> tuple[pa.Table | None, pa.Table, int]:
    """The history's transactions that were not decided, once each, with the labels that came.

    Returns:
        beside them, those labels that a run brought and those of decided transactions that the load did, as `_TOLD`,
        and how many did not come.
    """
    tables = [table.select([name for name in table.column_names if name in needed]) for table in history]
    tables = [table for table in tables if table.num_rows]
    if not tables:
        return None, _TOLD.empty_table(), 0
    log = pa.concat_tables(tables, promote_options="default").combine_chunks()
    log = log.filter(pa.array(~log["transaction_id"].to_pandas().duplicated().to_numpy()))
    begin = pa.scalar(from_us).cast(pa.timestamp("us", "UTC"))
    matters = pc.greater_equal(log["event_time"], begin)
    was_decided = pc.is_in(log["transaction_id"], value_set=decided).combine_chunks()
    brought, ahead = _TOLD.empty_table(), 0
    if set(_LABELS) <= set(log.column_names):
        if not runs.num_rows:
            behind_us = pc.max(log["event_time"].cast(pa.int64())).as_py() + 1
            runs = pa.table([[behind_us], [""], [0], [0]], names=RUNS.names).cast(RUNS)
        run = _run_of(log, runs)
        did_not_come = run == runs.num_rows
        ahead = int(did_not_come.sum())
        # A run leaves out what was decided; its outcome is heard of.
        gone = pa.array(did_not_come | ((run > 0) & was_decided.to_numpy(zero_copy_only=False)))
        for name in _LABELS:
            known = pc.if_else(gone, pa.scalar(None, log.schema.field(name).type), log[name])
            log = log.set_column(log.column_names.index(name), name, known)
        matters = pc.or_kleene(matters, pc.greater_equal(log["label_time"], begin))
        brought = _brought(log, run, was_decided, runs)
    log = log.filter(pc.and_(matters, pc.invert(was_decided)))
    at_once = np.zeros(log.num_rows, np.int64)
    arrival = {"came_us": at_once, "decided_us": at_once, "answered": np.ones(log.num_rows, bool)}
    for field in ARRIVAL:
        log = log.append_column(field, pa.array(arrival[field.name], field.type))
    return log, brought, ahead


def _run_of(log: pa.Table, runs: pa.Table) -> Ints:
    """The number of the run that brought each label, -1 without a label, and as many as runs where none did."""
    time_us = log["label_time"].cast(pa.int64()).fill_null(0).to_numpy()
    has = pc.and_(pc.is_valid(log["is_fraud"]), pc.is_valid(log["label_time"])).to_numpy()
    ends_us = _micros(runs["label_time"])
    run = np.searchsorted(ends_us, time_us)
    # Of labels of one time, those up to an id came; several runs may have ended amid them.
    for number, last in enumerate(runs["transaction_id"].to_pylist()):
        behind = np.flatnonzero((run == number) & (time_us == ends_us[number]))
        ids = log["transaction_id"].take(pa.array(behind))
        run[behind[pc.greater(ids, last).to_numpy()]] += 1
    return np.where(has, run, -1)


def _brought(log: pa.Table, run: Ints, was_decided: pa.BooleanArray, runs: pa.Table) -> pa.Table:
    """The labels that runs brought, and those of decided transactions that the load did."""
    known = pc.is_valid(log["is_fraud"]).to_numpy()
    rows = np.flatnonzero(known & (run >= 0) & ((run > 0) | was_decided.to_numpy(zero_copy_only=False)))
    labels = log.select(["transaction_id", *_LABELS]).take(pa.array(rows))
    of_run = runs.take(pa.array(run[rows]))
    labels = labels.append_column("came_us", of_run["began_us"])
    return labels.append_column("told_us", pc.add(of_run["ended_us"], _SETTLING_US)).cast(_TOLD)


def _told(reports: pa.Table) -> pa.Table:
    """Reports of outcomes, as `_TOLD`."""
    told_us = pc.if_else(reports["applied"], pc.add(reports["reported_us"], _SETTLING_US), _NEVER_US)
    labels = reports.select(["transaction_id", *_LABELS]).append_column("came_us", reports["reported_us"])
    return labels.append_column("told_us", told_us).cast(_TOLD)


def _with_standing_labels(events: pa.Table, reports: pa.Table) -> pa.Table:
    """The events with the latest of their reported labels, or else with that of the history."""
    latest = np.full(events.num_rows, -1)
    # Of what is assigned to one row, the last stays, and reports are in order of their label times.
    latest[reports["row"].to_numpy()] = np.arange(reports.num_rows)
    place = pa.array(latest, mask=latest < 0)
    for name in _LABELS:
        reported = reports[name].take(place)
        if name in events.column_names:
            column = pc.coalesce(reported, events[name])
            events = events.set_column(events.column_names.index(name), name, column)
        else:
            events = events.append_column(name, reported)
    return events


def stream(declared: Feature | RowInput) -> tuple[str, bool] | None:
    """What a feature is computed from: the events of a key, or (true) its labels; None for the transaction alone."""
    return (declared.key, "label_time" in declared.inputs) if isinstance(declared, Feature) else None


@dataclass(frozen=True)
class _Points:
    """What a stream consists of.

    Attributes:
        rows: of the events that have the keys.
        time_us: when each point lies.
        came_us: before this, the store did not know of it.
        told_us: from then on, the store knew of it.
        spoilt: whether the store may hold something else in its place.
        why: what it means that one is.
    """

    rows: Ints
    time_us: Ints
    came_us: Ints
    told_us: Ints
    spoilt: Mask
    why: Cause


def causes(told: Timeline, spec: FeatureSpec, lateness_us: int) -> dict[tuple[str, bool], NDArray[np.int8]]:
    """For each stream that features are computed from, why a transaction's need not agree: `Cause`, int8[events].

    Args:
        told: see `timeline`.
        spec: what the store computes.
        lateness_us: how late a transaction may come and still get exact features, in microseconds.
    """
    events, reports = told.events, told.reports
    every = np.arange(events.num_rows)
    time_us, came_us = _micros(events["event_time"]), events["came_us"].to_numpy()
    points = {
        False: _Points(
            every,
            time_us,
            came_us,
            events["decided_us"].to_numpy(),
            ~events["answered"].to_numpy(),
            Cause.UNANSWERED,
        )
    }
    if reports.num_rows:
        rows = reports["row"].to_numpy()
        points[True] = _Points(
            rows,
            _micros(reports["label_time"]),
            reports["came_us"].to_numpy(),
            reports["told_us"].to_numpy(),
            np.bincount(rows, minlength=events.num_rows)[rows] > 1,
            Cause.CORRECTED,
        )
    found: dict[tuple[str, bool], NDArray[np.int8]] = {}
    for of_labels in (False, True):
        keys = [key for key in KEYS if any(stream(feature) == (key, of_labels) for feature in spec.features)]
        if of_labels not in points:
            found |= {(key, of_labels): np.zeros(events.num_rows, np.int8) for key in keys}
        elif keys:
            found |= {
                (key, of_labels): of_key
                for key, of_key in _causes(points[of_labels], events, keys, spec, lateness_us).items()
            }
    return found


def _causes(
    points: _Points, events: pa.Table, keys: Sequence[str], spec: FeatureSpec, lateness_us: int
) -> dict[str, NDArray[np.int8]]:
    time_us, came_us = _micros(events["event_time"]), events["came_us"].to_numpy()
    reach = Window("reach", spec.reach_s, 1)
    ever = Window("ever", int(came_us.max(initial=0)) // SECOND_US + 2, 1)
    before = _largest(points, points.came_us, {"amount_minor": points.time_us}, events, came_us, keys, ever)
    inside = {"amount_minor": points.told_us, "amount_base_minor": points.spoilt.astype(np.int64)}
    within = _largest(points, points.time_us, inside, events, time_us, keys, reach)
    found = {}
    for key in keys:
        # What is missing compares as false.
        late = before[key, "amount_minor"] - lateness_us > time_us
        spoilt = within[key, "amount_base_minor"] > 0
        overtaken = within[key, "amount_minor"] > came_us
        cause = np.select([late, spoilt, overtaken], [Cause.LATE, points.why, Cause.OVERTAKEN], Cause.NONE)
        found[key] = cause.astype(np.int8)
    return found


def _largest(
    points: _Points,
    at_us: Ints,
    values: dict[str, Ints],
    events: pa.Table,
    seen_us: Ints,
    keys: Sequence[str],
    window: Window,
) -> dict[tuple[str, str], Floats]:
    """The largest value among the points of each event's key that lie in a window before it, NaN without one.

    The engine itself finds it, so that what lies in a window is what features count.

    Args:
        at_us: when each point lies in the window's sense.
        values: by the integer column of a transaction that lends its name.
        seen_us: when each event looks.
    """
    size = points.rows.size + events.num_rows
    columns = sorted({column for key in keys for column in KEYS[key]})
    owners = pa.concat_tables([events.select(columns).take(pa.array(points.rows)), events.select(columns)])
    table = {
        "transaction_id": pa.array(np.arange(size)).cast(pa.string()),
        "event_time": pa.array(np.concatenate([at_us, seen_us])).cast(pa.timestamp("us", "UTC")),
        **{name: owners[name] for name in columns},
    }
    is_event = np.arange(size) >= points.rows.size
    for name, of_points in values.items():
        table[name] = pa.array(np.concatenate([of_points, np.zeros(events.num_rows, np.int64)]), mask=is_event)
    features = {(key, name): Feature(key, "max", window, name) for key in keys for name in values}
    found = compute_features(pa.table(table), FeatureSpec((), tuple(features.values()), ()))
    return {which: found[feature.name].to_numpy()[points.rows.size :] for which, feature in features.items()}


def _micros(column: pa.ChunkedArray) -> Ints:
    times: Ints = column.cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_numpy()
    return times
