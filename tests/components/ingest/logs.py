"""Small logs of a made-up source, in the three formats."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from schemas.sources import SourceMapping, parse
from schemas.tokens import CardKey

KEY = CardKey(1, b"0123456789abcdef0123456789abcdef")

_MAPPING: dict[str, Any] = {
    "source": "shop",
    "description": "Logs made up for tests.",
    "columns": {
        "transaction_id": "id",
        "event_time": "at",
        "card_id": "card",
        "merchant_id": "shop",
        "amount": "paid",
        "currency": "cur",
        "latitude": "lat",
        "longitude": "lon",
        "is_fraud": "fraud",
        "label_time": "known",
    },
    "unused": ["note"],
    "amount_unit": "major",
    "base_currency": "EUR",
    "rates": {
        "JPY": {"2024-01-01": 0.0064, "2024-07-01": 0.0058},
        "KWD": {"2024-01-01": 3.0},
        "USD": {"2024-01-01": 0.91},
    },
    "time_zone": "UTC",
    "card_id_is": "token",
    "label_delay": "5d",
    "amount_limit": 100_000,
    "bad_rows_limit": 0.01,
    "expected_median_amount": [20, 100],
    "expected_fraud_share": [0.001, 0.05],
}

_ROW = {
    "id": "t1",
    "at": "2024-03-01T12:00:00Z",
    "card": "c1",
    "shop": "m1",
    "paid": "12.34",
    "cur": "EUR",
    "lat": "48.1",
    "lon": "11.6",
    "fraud": "0",
    "known": "2024-03-04T12:00:00Z",
}


def mapping(without: tuple[str, ...] = (), **changes: Any) -> SourceMapping:
    """The mapping of the made-up source, with other settings, and without some of its columns."""
    raw = _MAPPING | changes
    raw["columns"] = {name: column for name, column in raw["columns"].items() if name not in without}
    return parse(yaml.safe_dump(raw), "test")


def row(**changes: Any) -> dict[str, Any]:
    """A good row, as text, with some values changed."""
    return _ROW | changes


def write(file: Path, rows: list[dict[str, Any]]) -> Path:
    """Writes rows in the format of the file's ending; the first row names the columns of CSV."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), file)
        return file
    if ".csv" in file.suffixes:
        stream = io.StringIO()
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        content = stream.getvalue().encode()
    else:
        content = b"".join(orjson.dumps(row, default=str) + b"\n" for row in rows)
    file.write_bytes(gzip.compress(content) if file.suffix == ".gz" else content)
    return file
