"""Small logs on which window edges, ties, gaps and missing values are likely rather than rare."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from schemas.transaction import COLUMNS

SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US
ARROW = {
    "string": pa.string(), "int64": pa.int64(), "float64": pa.float64(), "bool": pa.bool_(),
    "timestamp_us": pa.timestamp("us", "UTC"),
}  # fmt: skip
SCHEMA = pa.schema([(column.name, ARROW[column.type]) for column in COLUMNS])


def log(rows: list[dict[str, Any]]) -> pa.Table:
    """A canonical table of rows; what a row leaves out is plain or null."""
    plain = {"event_time": 0, "card_id": "c", "merchant_id": "m", "amount_base_minor": 1_000}
    filled = [{"transaction_id": f"t{number}", **plain, **row} for number, row in enumerate(rows)]
    for row in filled:
        row.setdefault("amount_minor", row["amount_base_minor"])
    return pa.Table.from_pylist(filled, SCHEMA)


def _times() -> st.SearchStrategy[int]:
    """Times at, or a microsecond beside, each other's window edges and hop boundaries, on both sides of the epoch."""
    whole = st.one_of(
        st.sampled_from([0, 60, 3_600, 7_200, 86_400, 7 * 86_400, 30 * 86_400, 31 * 86_400, -86_400, -40 * 86_400]),
        st.integers(-45 * 24, 45 * 24).map(lambda hours: hours * 3_600),
        st.integers(0, 7_300),
    )
    return st.builds(
        lambda seconds, beside: seconds * SECOND_US + beside, whole, st.sampled_from([0, 0, 0, -1, 1, 500_000])
    )


def _some(*values: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from([None, *values])


_ROWS = st.fixed_dictionaries(
    {
        "event_time": _times(),
        "card_id": st.sampled_from(["c1", "c1", "c1", "c2", "ü"]),
        "merchant_id": _some("m1", "m1", "m2"),
        "amount_minor": _some(0, 499, 10**12),
        "amount_base_minor": st.one_of(
            st.integers(0, 2_000),
            st.sampled_from([0, 499, 500, 501, 10**12, 10**12 - 1]),
            st.integers(-(10**12), 10**12),
        ),
        "currency": _some("EUR", "USD"),
        "merchant_category": _some("food", "fuel", "", "travel"),
        "channel": _some("chip"),
        "device_id": _some("d1", "d2"),
        "latitude": _some(0.0, 39.9, 22.5, 90.0, -90.0, -39.9),
        "longitude": _some(0.0, 116.4, 114.1, 180.0, -180.0),
        "city": _some("Beijing", "Shenzhen"),
        "country": _some("CN", "FR"),
        "is_fraud": _some(False, True),
    }
)


@st.composite
def logs(draw: st.DrawFn, min_size: int = 0, max_size: int = 30) -> pa.Table:
    """Logs in any order, with every column, nulls wherever they may be, and labels at any time after the event."""
    rows = draw(st.lists(_ROWS, min_size=min_size, max_size=max_size))
    ids = draw(
        st.permutations(
            [f"{prefix}{number}" for number, prefix in zip(range(len(rows)), ["t", "é", "z", "𝄞"] * 8, strict=False)]
        )
    )
    for row, transaction_id in zip(rows, ids, strict=True):
        row["transaction_id"] = transaction_id
        if row["is_fraud"] is not None:
            delays = st.one_of(
                st.sampled_from([0, 1, 3_600 * SECOND_US, DAY_US, 7 * DAY_US]), st.integers(0, 60 * DAY_US)
            )
            row["label_time"] = row["event_time"] + draw(delays)
    return log(rows)
