"""Rows that look like features: numbers of several kinds, text, a vector, labels, and what faults are read off."""

import numpy as np
import pyarrow as pa

from schemas.transaction import DAY_S, SECOND_US

START_US = 19_000 * DAY_S * SECOND_US
COUNT, MEAN, RECENT = "card_id_count_24h", "card_id_amount_base_minor_mean_24h", "card_id_amount_base_minor_recent_2"


def draw(seed: int, rows: int = 6_000, days: int = 7, first_day: int = 0) -> pa.Table:
    """Payments by day rather than by night, one in 20 a fraud, in order of their time."""
    rng = np.random.default_rng(seed)
    second = np.clip(rng.normal(DAY_S / 2, DAY_S / 8, rows), 0, DAY_S - 1).astype(np.int64)
    time_us = START_US + ((first_day + rng.integers(0, days, rows)) * DAY_S + second) * SECOND_US
    amount = np.rint(rng.lognormal(8, 1, rows))
    recent = pa.array(np.where(rng.random(2 * rows) < 0.1, np.nan, rng.lognormal(8, 1, 2 * rows)))
    return pa.table(
        {
            "event_time": pa.array(time_us).cast(pa.timestamp("us", tz="UTC")),
            "card_id": [f"c{n}" for n in rng.integers(0, 300, rows)],
            "merchant_id": [f"m{n}" for n in rng.integers(0, 500, rows)],
            "amount_base_minor": amount,
            "currency": rng.choice(["EUR", "JPY"], rows, p=[0.8, 0.2]),
            "channel": rng.choice(["online", "chip", ""], rows, p=[0.5, 0.45, 0.05]),
            "country": pa.array(rng.choice(["DE", "FR", "US"], rows, p=[0.5, 0.3, 0.2])),
            COUNT: rng.poisson(1.5, rows).astype(np.float64),
            MEAN: np.where(rng.random(rows) < 0.2, np.nan, rng.lognormal(8, 0.5, rows)),
            RECENT: pa.FixedSizeListArray.from_arrays(recent, 2),
            "is_fraud": pa.array(rng.random(rows) < 0.05, mask=rng.random(rows) < 0.1),
        }
    ).sort_by("event_time")


def put(table: pa.Table, name: str, values: object) -> pa.Table:
    """The table with other values in one column."""
    position = table.column_names.index(name)
    return table.set_column(position, name, values if isinstance(values, pa.Array) else pa.array(values))
