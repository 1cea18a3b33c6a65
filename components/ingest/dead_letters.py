"""Dead letters: the rows that did not become transactions, each with its place, its reason and what it held."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from components.ingest.parse import text
from components.ingest.readers import Chunk, Malformed, Values
from schemas.masking import mask, mask_digits
from schemas.sources import SourceMapping
from schemas.tokens import CardKey, card_token

DEAD_LETTERS = pa.schema(
    [
        ("file", pa.string()),
        ("position", pa.int64()),
        ("reason", pa.string()),
        ("message", pa.string()),
        ("raw", pa.string()),
    ]
)
"""Where (file of the log, row or line as `readers` counts), why, in words, and the mapped columns as JSON text.

Columns that nothing reads are left out: nobody vouches for what they hold.  A malformed line is a JSON string.
"""

_TIMESTAMP = "a timestamp or ISO 8601 text; an integer does not say whether it counts seconds or milliseconds"
_EXPECTED = {
    "bad_time": "a time from 1970 to 2100; write ISO 8601 such as 2024-05-31T12:00:00Z",
    "bad_label": "a label; write 0, 1, true, false or nothing",
    "bad_label_time": "a time from 1970 to 2100 that is not before the event_time",
    "non_finite_amount": "a finite amount",
    "negative_amount": "an amount of 0 or more; refunds are not transactions of this log",
    "unknown_currency": "an ISO 4217 code such as EUR",
    "bad_type_event_time": _TIMESTAMP,
    "bad_type_label_time": _TIMESTAMP,
    "bad_type_latitude": "a number",
    "bad_type_longitude": "a number",
}
_COLUMN = {
    "bad_time": "event_time",
    "bad_label": "is_fraud",
    "bad_label_time": "label_time",
    "non_finite_amount": "amount",
    "negative_amount": "amount",
    "unknown_currency": "currency",
}


def of_rows(
    file: str, chunk: Chunk, rows: np.ndarray, reasons: list[str], mapping: SourceMapping, key: CardKey | None
) -> pa.Table:
    """Dead letters of the rows of a chunk that `rows` (int64) indexes, with their reasons."""
    raw = _raw_rows(chunk, rows, mapping, key)
    messages = [_message(reason, row, mapping) for reason, row in zip(reasons, raw, strict=True)]
    return _letters(file, chunk.positions[rows], reasons, messages, raw)


def of_duplicates(
    file: str, chunk: Chunk, rows: np.ndarray, earlier: list[str], mapping: SourceMapping, key: CardKey | None
) -> pa.Table:
    """Dead letters of rows whose transaction_id stands already where `earlier` says."""
    raw = _raw_rows(chunk, rows, mapping, key)
    column = mapping.columns["transaction_id"]
    messages = [
        f"column {column!r} (transaction_id) holds {_json(row[column])}, as does {place}; the first row is kept"
        for row, place in zip(raw, earlier, strict=True)
    ]
    return _letters(file, chunk.positions[rows], ["duplicate"] * len(rows), messages, raw)


def of_lines(file: str, lines: tuple[Malformed, ...], mapping: SourceMapping) -> pa.Table:
    """Dead letters of lines that cannot be taken apart."""
    # Where a card number stands in such a line is not known, so no digit of it is kept.
    raw = [mask_digits(line.text) if mapping.card_id_is == "number" else line.text for line in lines]
    positions = np.array([line.position for line in lines], np.int64)
    return _letters(file, positions, ["malformed"] * len(lines), [f"the line {line.problem}" for line in lines], raw)


def _letters(file: str, positions: np.ndarray, reasons: list[str], messages: list[str], raw: list[Any]) -> pa.Table:
    columns = [[file] * len(raw), positions, reasons, messages, [_json(row) for row in raw]]
    return pa.table(columns, schema=DEAD_LETTERS)


def _raw_rows(chunk: Chunk, rows: np.ndarray, mapping: SourceMapping, key: CardKey | None) -> list[dict[str, Any]]:
    card_column = mapping.columns["card_id"]
    columns = {}
    for name, values in chunk.columns.items():
        if key is not None and name == card_column:
            columns[name] = _hidden_cards(_take(values, rows), key)
        else:
            picked = _plain(_take(values, rows))
            columns[name] = picked if key is None else [_masked(value) for value in picked]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _hidden_cards(values: Values, key: CardKey) -> list[str | None]:
    parsed = text(values)
    return [
        "masked" if wrong else None if number is None else card_token(number, key)
        for number, wrong in zip(parsed.values.to_pylist(), parsed.wrong.tolist(), strict=True)
    ]


def _take(values: Values, rows: np.ndarray) -> Values:
    return [values[row] for row in rows.tolist()] if isinstance(values, list) else values.take(pa.array(rows))


def _plain(values: Values) -> list[Any]:
    if not isinstance(values, list):
        if pa.types.is_dictionary(values.type):
            values = values.dictionary_decode()
        if pa.types.is_nested(values.type):
            return [f"<{values.type}>"] * len(values)
        if pa.types.is_temporal(values.type):
            # As text: Python holds neither nanoseconds nor years beyond 9999.
            try:
                values = values.cast(pa.string())
            except pa.ArrowException:  # of a zone that nobody knows
                return [f"<{values.type}>"] * len(values)
        values = values.to_pylist()
    return [_writable(value) for value in values]


def _writable(value: Any) -> Any:
    """The value, or a text in its place where JSON cannot be written of it."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, list | dict):
        try:
            # As deep as it will lie in the row that it is written with.
            orjson.dumps({"": value})
        except orjson.JSONEncodeError:
            return "<nested too deeply>"
    return value


def _masked(value: Any) -> Any:
    if isinstance(value, (str, int, float)):
        hidden = mask(str(value))
        return value if hidden == str(value) else hidden
    return value if value is None else mask(_json(value))


def _message(reason: str, row: dict[str, Any], mapping: SourceMapping) -> str:
    columns = mapping.columns
    if reason == "bad_place":
        places = {columns[name]: row[columns[name]] for name in ("latitude", "longitude") if name in columns}
        return f"{_json(places)} is no place; degrees are WGS84, latitudes -90 to 90, longitudes -180 to 180"
    name = _COLUMN.get(reason) or reason.removeprefix("missing_").removeprefix("bad_type_")
    if reason == "bad_type_card_id":
        expected = "a card number of 8 to 19 digits" if mapping.card_id_is == "number" else "text or a whole number"
        return f"column {columns[name]!r} (card_id) does not hold {expected}"
    if reason == "bad_type_amount":
        expected = "a number" if mapping.amount_unit == "major" else "a whole number of minor units"
    else:
        expected = _EXPECTED.get(reason, "text or a whole number")
    if name in columns:
        held = f"column {columns[name]!r} ({name})"
        missing = reason.startswith("missing_")
        return f"{held} has no value" if missing else f"{held} holds {_json(row[columns[name]])}, not {expected}"
    base, when = mapping.base_currency, _json(row[columns["event_time"]])
    amount = f"amount {_json(row[columns['amount']])} of {_currency(row, mapping)} at {when}"
    if reason == "no_rate":
        return f"{amount} has no rate into {base}; add one to rates in the mapping"
    return f"{amount} is above the limit of {mapping.amount_limit:,.0f} {base}; check the unit, or raise amount_limit"


def _currency(row: dict[str, Any], mapping: SourceMapping) -> str:
    return str(row[mapping.columns["currency"]] if "currency" in mapping.columns else mapping.constants["currency"])


def _json(value: Any) -> str:
    return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
