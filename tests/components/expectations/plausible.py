"""A plausible log and plausible features, into which tests plant faults."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from components.expectations import ExpectationReport, check
from components.expectations.reading import Source
from schemas.features import Feature, FeatureSpec, specify
from schemas.sources import SourceMapping, load
from schemas.transaction import SECOND_US

ROWS = 4_800
SIMULATED = load("simulated")
START_US = int(datetime(2024, 3, 1, tzinfo=UTC).timestamp()) * SECOND_US
CURRENCIES = ("EUR", "JPY", "GBP", "USD")
# A base unit in minor units of the currency, near the mapping's rates.
_IN_MINOR = {"EUR": 1.0, "JPY": 1.7, "GBP": 0.87, "USD": 1.1}


def log(mapping: SourceMapping = SIMULATED, **changed: Any) -> pa.Table:
    """A minute between payments; amounts lie evenly around the middle of the mapping's own band."""
    row = np.arange(ROWS)
    low, high = mapping.expected_median_amount
    times = START_US + SECOND_US + row * 60 * SECOND_US
    base = (np.random.default_rng(1).permutation(np.linspace(100, 100 * (low + high) - 100, ROWS))).astype(np.int64)
    foreign = len(mapping.rates) > 0
    currency = np.array(CURRENCIES)[row % 4] if foreign else np.full(ROWS, mapping.base_currency)
    minor = (base * [_IN_MINOR[code] if foreign else 1.0 for code in currency]).astype(np.int64)
    columns = {
        "transaction_id": [f"t{at}" for at in row],
        "event_time": pa.array(times, pa.timestamp("us", "UTC")),
        "card_id": [f"c{at % 120}" for at in row],
        "merchant_id": [f"m{at % 20}" for at in row],
        "amount_minor": minor,
        "amount_base_minor": base,
        "currency": currency,
        "merchant_category": [f"category {at % 20 % 3}" for at in row],
        "channel": ["online"] * ROWS,
        "device_id": [None if at % 3 else f"d{at % 240}" for at in row],
        "ip": ["192.0.2.1"] * ROWS,
        "latitude": pa.array([None, 48.2] * (ROWS // 2)),
        "longitude": pa.array([None, 16.4] * (ROWS // 2)),
        "city": [None if at % 2 else f"city {at % 10}" for at in row],
        "country": [None if at % 2 else ("AT", "DE")[at % 10 // 5] for at in row],
        "is_fraud": row % 100 == 0,
        "label_time": pa.array(times + mapping.label_delay_s * SECOND_US, pa.timestamp("us", "UTC")),
    }
    return pa.table({name: column for name, column in (columns | changed).items() if name in mapping.provided})


def changed_at(table: pa.Table, name: str, row: int, value: Any) -> pa.Table:
    """The table with one value changed."""
    values = table[name].to_pylist()
    values[row] = value
    return table.set_column(table.column_names.index(name), name, pa.array(values, table[name].type))


def features(spec: FeatureSpec, changed: Mapping[str, float] | None = None, rows: int = 600) -> dict[str, np.ndarray]:
    """Rows without any history: counts are 0, what needs events is missing, the row's own columns are there."""
    empty = ("count", "distinct", "fraud_count", "first_seen")
    rows_of = {}
    for i in spec.numeric:
        value = 0.0 if not isinstance(i, Feature) or i.aggregate in empty else np.nan
        shape = (rows, i.width) if i.is_vector else (rows,)
        rows_of[i.name] = np.full(shape, (changed or {}).get(i.name, value), np.float32)
    return rows_of


def checked(
    transactions: pa.Table,
    changed: Mapping[str, float] | None = None,
    mapping: SourceMapping = SIMULATED,
    **settings: Any,
) -> ExpectationReport:
    """The report on a log, and on plausible features with some changed."""
    spec = specify(mapping.provided)
    batches = [features(spec, changed)]
    read = Source(transactions.num_rows, transactions.to_batches())
    return check(read, Source(600, batches), spec, mapping, **settings)
