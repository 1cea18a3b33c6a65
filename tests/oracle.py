"""The feature declaration computed the slow and obvious way: for every transaction, a loop over its key's events."""

from __future__ import annotations

import math
from collections import defaultdict
from itertools import pairwise
from typing import Any

import pyarrow as pa

from schemas.features import EARTH_RADIUS_KM, KEYS, OVER_LABELS, Feature, FeatureSpec, RowInput
from schemas.transaction import second_of_day, second_of_week

Event = dict[str, Any]
Key = tuple[Any, ...]

_SECOND_US = 1_000_000


def features(transactions: pa.Table, spec: FeatureSpec) -> pa.Table:
    """What the batch engine and the online store have to return for these transactions."""
    events = _events(transactions)
    by_key = {key: _by_key(events, KEYS[key]) for key in {feature.key for feature in spec.features}}
    fields = [transactions.schema.field("transaction_id"), transactions.schema.field("event_time")]
    columns: dict[str, Any] = {field.name: transactions[field.name] for field in fields}
    for declared in spec.inputs:
        value_type = pa.string() if declared.is_text else pa.float64()
        values = [_value(declared, event, by_key) for event in events]
        column_type = pa.list_(value_type, declared.width) if declared.is_vector else value_type
        columns[declared.name] = pa.array(values, column_type)
    return pa.table(columns)


def _events(transactions: pa.Table) -> list[Event]:
    micros = {name: pa.int64() for name in ("event_time", "label_time") if name in transactions.column_names}
    as_integers = [
        transactions[name].cast(micros[name]) if name in micros else transactions[name]
        for name in transactions.column_names
    ]
    events = pa.table(as_integers, names=transactions.column_names).to_pylist()
    for event in events:
        event["second_of_day"] = second_of_day(event["event_time"])
        event["second_of_week"] = second_of_week(event["event_time"])
    return events


def _by_key(events: list[Event], columns: tuple[str, ...]) -> dict[Key, list[Event]]:
    """The events of each key, by (event_time, transaction_id)."""
    found: dict[Key, list[Event]] = defaultdict(list)
    for event in sorted(events, key=lambda event: (event["event_time"], event["transaction_id"].encode())):
        found[tuple(event[column] for column in columns)].append(event)
    return found


def _value(declared: RowInput | Feature, now: Event, by_key: dict[str, dict[Key, list[Event]]]) -> Any:
    missing: Any = "" if declared.is_text else math.nan
    if isinstance(declared, RowInput):
        return _or_missing(now[declared.column], missing)
    column = str(declared.column)
    padding = [missing] * declared.width
    key = tuple(now[column] for column in KEYS[declared.key])
    if None in key:
        return padding if declared.is_vector else missing
    same_key = by_key[declared.key][key]
    length_us, hop_us = declared.window.length_s * _SECOND_US, declared.window.hop_s * _SECOND_US
    begin = (now["event_time"] - length_us) // hop_us * hop_us

    if declared.aggregate in OVER_LABELS:
        labelled = [e for e in same_key if e["is_fraud"] is not None and e["label_time"] is not None]
        known = [e for e in labelled if begin <= e["label_time"] < now["event_time"]]
        labels = [e["is_fraud"] for e in known]
        if declared.aggregate.startswith("seconds_since"):
            _, _, which, said = declared.aggregate.split("_")
            ages = [now["event_time"] - e["label_time"] for e in known if e["is_fraud"] == (said == "fraud")]
            return (max if which == "first" else min)(ages) / _SECOND_US if ages else math.nan
        if declared.aggregate == "fraud_count":
            return float(sum(labels))
        return sum(labels) / len(labels) if labels else math.nan

    window = [event for event in same_key if begin <= event["event_time"] < now["event_time"]]
    if declared.where is not None:
        window = [
            event for event in window if _passes(declared.where.op, event[declared.where.column], declared.where.value)
        ]

    if declared.aggregate == "recent":
        newest_first = [_or_missing(event[column], missing) for event in reversed(window)]
        return [*newest_first, *padding][: declared.width]
    if declared.aggregate in ("recent_seconds_between", "recent_distance_km_between"):
        found = []
        for before, event in pairwise(window):
            seconds = (event["event_time"] - before["event_time"]) / _SECOND_US
            found.append(seconds if declared.aggregate == "recent_seconds_between" else _distance_km(event, before))
        return [*reversed(found), *padding][: declared.width]
    values = [event[column] for event in window if declared.column and event[column] is not None]
    match declared.aggregate:
        case "count":
            return float(len(window))
        case "distinct":
            return float(min(len(set(values)), declared.cap or 0))
        case "first_seen":
            own = now[column]
            return math.nan if own is None else float(own not in values)
        case "sum" | "mean" | "std" | "min" | "max" if not values:
            return math.nan
        case "sum":
            return float(sum(values))
        case "mean":
            return sum(values) / len(values)
        case "std":
            # The mean of (value - mean) ** 2 in integers, which do not round: each deviation is n times as large.
            n, total = len(values), sum(values)
            return math.sqrt(sum((n * value - total) ** 2 for value in values) / n**3)
        case "min":
            return float(min(values))
        case "max":
            return float(max(values))
    if not window:
        return missing
    last = window[-1]
    if declared.aggregate == "last":
        return _or_missing(last[column], missing)
    elapsed_s = (now["event_time"] - last["event_time"]) / _SECOND_US
    if declared.aggregate == "seconds_since_last":
        return elapsed_s
    distance_km = _distance_km(now, last)
    return distance_km if declared.aggregate == "distance_km_since_last" else distance_km / (elapsed_s / 3_600)


def _passes(op: str, value: int | None, bound: int) -> bool:
    return value is not None and (value < bound if op == "<" else value >= bound)


def _or_missing(value: Any, missing: Any) -> Any:
    return missing if value is None else value if isinstance(value, str) else float(value)


def _distance_km(a: Event, b: Event) -> float:
    """Haversine distance of two events' places."""
    places = [a["latitude"], a["longitude"], b["latitude"], b["longitude"]]
    if None in places:
        return math.nan
    a_north, a_east, b_north, b_east = (math.radians(degrees) for degrees in places)
    chord = math.sin((b_north - a_north) / 2) ** 2
    chord += math.cos(a_north) * math.cos(b_north) * math.sin((b_east - a_east) / 2) ** 2
    return 2 * EARTH_RADIUS_KM * math.asin(math.sqrt(min(1.0, chord)))
