"""Logs through a store, back as a table that compares with the oracle's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from components.features.engine import event_order
from schemas.features import FeatureSpec
from serving.features import Features, FeatureStore
from serving.features.replay import replay


def events(transactions: pa.Table) -> list[dict[str, Any]]:
    """A table's rows with times in microseconds."""
    columns = [
        column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column for column in transactions.columns
    ]
    return pa.table(columns, names=transactions.column_names).to_pylist()


def in_order(transactions: pa.Table) -> pa.Table:
    """The rows by (event_time, transaction_id)."""
    return transactions.take(pa.array(event_order(transactions)))


def replayed(store: FeatureStore, transactions: pa.Table) -> pa.Table:
    """The features of a log in event-time order."""
    return table(store.spec, transactions, replay(store, events(transactions)))


def table(spec: FeatureSpec, transactions: pa.Table, found: Iterable[Features]) -> pa.Table:
    """Features as a table with the columns that the batch engine writes."""
    columns: dict[str, Any] = {name: transactions[name] for name in ("transaction_id", "event_time")}
    rows = list(found)
    values: dict[str, list[Any]] = {declared.name: [] for declared in spec.inputs}
    for row in rows:
        for inputs, flat in ((spec.numeric, row.numbers), (spec.categorical, row.texts)):
            at = 0
            for declared in inputs:
                values[declared.name].append(flat[at : at + declared.width])
                at += declared.width
            assert at == len(flat)
    for declared in spec.inputs:
        of_one = pa.string() if declared.is_text else pa.float64()
        vectors = values[declared.name]
        if declared.is_vector:
            columns[declared.name] = pa.array(vectors, pa.list_(of_one, declared.width))
        else:
            columns[declared.name] = pa.array([value for (value,) in vectors], of_one)
    return pa.table(columns)
