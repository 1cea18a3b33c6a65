"""Turns a chunk of a log into canonical columns, and says of each row that cannot be a transaction why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.ingest import money, parse
from components.ingest.readers import Chunk
from schemas.sources import SourceMapping
from schemas.tokens import CARD_NUMBER, CardKey, card_token
from schemas.transaction import COLUMN, COLUMNS, DEGREES, SECOND_US

ARROW_TYPES = {
    "string": pa.string(),
    "int64": pa.int64(),
    "float64": pa.float64(),
    "timestamp_us": pa.timestamp("us", "UTC"),
    "bool": pa.bool_(),
}

Tokenise = Callable[[pa.Array], pa.Array]


def canonical_schema(mapping: SourceMapping) -> pa.Schema:
    """The columns of a source's transactions, in canonical order."""
    return pa.schema([(column.name, ARROW_TYPES[column.type]) for column in COLUMNS if column.name in mapping.provided])


def tokeniser(key: CardKey) -> Tokenise:
    """A function from card numbers to card tokens that computes each token once."""
    tokens: dict[str, str] = {}

    def tokenise(numbers: pa.Array) -> pa.Array:
        distinct = numbers.dictionary_encode()
        for number in distinct.dictionary.to_pylist():
            if number not in tokens:
                tokens[number] = card_token(number, key)
        made = pa.array([tokens[number] for number in distinct.dictionary.to_pylist()], pa.string())
        return made.take(distinct.indices)

    return tokenise


@dataclass(frozen=True)
class Canonical:
    """The rows of a chunk.

    Attributes:
        transactions: the good rows, with the columns of `canonical_schema`.
        good: bool[rows of the chunk].
        reasons: for each bad row, in order, its reason code.
    """

    transactions: pa.RecordBatch
    good: np.ndarray
    reasons: list[str]


def canonicalise(chunk: Chunk, mapping: SourceMapping, tokenise: Tokenise | None) -> Canonical:
    """Parses, checks and converts the rows of a chunk; of several faults of a row the first found is its reason.

    Args:
        chunk: rows as the log has them.
        mapping: says what they mean.
        tokenise: turns card numbers into tokens; none when the log holds tokens.
    """
    rows = _Rows(len(chunk.positions))
    columns = mapping.columns
    fields: dict[str, pa.Array] = {}

    for name in ("transaction_id", "event_time", "card_id", "merchant_id"):
        if name == "event_time":
            event = parse.times(chunk.columns[columns[name]], mapping.time_zone)
            rows.fail("missing_event_time", event.missing)
            rows.fail("bad_type_event_time", event.wrong)
            rows.fail("bad_time", event.impossible)
            fields[name] = _timestamps(event.values)
        else:
            fields[name] = _text(name, chunk, mapping, rows)
    if tokenise:
        rows.fail("bad_type_card_id", ~_matches(fields["card_id"], CARD_NUMBER))
        fields["card_id"] = tokenise(pc.if_else(pa.array(rows.good), fields["card_id"], None))

    amounts = parse.numbers(chunk.columns[columns["amount"]])
    rows.fail("missing_amount", amounts.missing)
    rows.fail("bad_type_amount", amounts.wrong)
    rows.fail("non_finite_amount", ~np.isfinite(amounts.values))
    rows.fail("negative_amount", amounts.values < 0)
    fields["currency"] = _text("currency", chunk, mapping, rows)
    converted = money.convert(amounts, fields["currency"], event.values, rows.good, mapping)
    rows.fail("unknown_currency", converted.unknown_currency)
    rows.fail("no_rate", converted.no_rate)
    rows.fail("bad_type_amount", converted.fraction_of_minor)
    rows.fail("absurd_amount", converted.absurd)
    fields["amount_minor"] = pa.array(converted.minor)
    fields["amount_base_minor"] = pa.array(converted.base_minor)

    schema = canonical_schema(mapping)
    for name in schema.names:
        if name in DEGREES:
            fields[name] = _degrees(name, chunk, mapping, rows)
        elif name not in fields and COLUMN[name].type == "string":
            fields[name] = _text(name, chunk, mapping, rows)
    if "is_fraud" in columns:
        fields |= _labels(event.values, chunk, mapping, rows)

    batch = pa.RecordBatch.from_arrays([fields[name] for name in schema.names], schema=schema)
    return Canonical(batch if rows.good.all() else batch.filter(pa.array(rows.good)), rows.good, rows.reasons())


class _Rows:
    """Which rows are still good, and the first reason against each of the others."""

    def __init__(self, count: int) -> None:
        self.good = np.ones(count, bool)
        self._reason = np.zeros(count, np.int16)
        self._codes = [""]

    def fail(self, reason: str, where: np.ndarray) -> None:
        where = where & self.good
        if where.any():
            self._reason[where] = len(self._codes)
            self._codes.append(reason)
            self.good &= ~where

    def reasons(self) -> list[str]:
        return [self._codes[code] for code in self._reason[~self.good]]


def _text(name: str, chunk: Chunk, mapping: SourceMapping, rows: _Rows) -> pa.Array:
    if name in mapping.constants:
        return pa.repeat(mapping.constants[name], len(rows.good))
    parsed = parse.text(chunk.columns[mapping.columns[name]])
    # Without its currency an amount is no amount, although a log need not have the column.
    if COLUMN[name].required or name == "currency":
        rows.fail(f"missing_{name}", parsed.missing)
    rows.fail(f"bad_type_{name}", parsed.wrong)
    return parsed.values


def _degrees(name: str, chunk: Chunk, mapping: SourceMapping, rows: _Rows) -> pa.Array:
    parsed = parse.numbers(chunk.columns[mapping.columns[name]])
    rows.fail(f"bad_type_{name}", parsed.wrong)
    rows.fail("bad_place", np.abs(parsed.values) > DEGREES[name])
    # NaN is how many writers say "missing".
    return pa.array(parsed.values, mask=parsed.missing | parsed.wrong | np.isnan(parsed.values))


def _labels(event_time_us: np.ndarray, chunk: Chunk, mapping: SourceMapping, rows: _Rows) -> dict[str, pa.Array]:
    label = parse.labels(chunk.columns[mapping.columns["is_fraud"]])
    rows.fail("bad_label", label.wrong)
    label_time_us = event_time_us + mapping.label_delay_s * SECOND_US
    if "label_time" in mapping.columns:
        given = parse.times(chunk.columns[mapping.columns["label_time"]], mapping.time_zone)
        rows.fail("bad_type_label_time", given.wrong)
        rows.fail("bad_label_time", given.impossible | (~given.missing & (given.values < event_time_us)))
        label_time_us = np.where(given.missing, label_time_us, given.values)
    return {
        "is_fraud": pa.array(label.values, mask=~label.known),
        "label_time": _timestamps(label_time_us, mask=~label.known),
    }


def _timestamps(micros: np.ndarray, mask: np.ndarray | None = None) -> pa.Array:
    return pa.array(micros, mask=mask).cast(pa.timestamp("us", "UTC"))


def _matches(values: pa.Array, pattern: str) -> np.ndarray:
    return pc.match_substring_regex(values, pattern).fill_null(False).to_numpy(zero_copy_only=False)
