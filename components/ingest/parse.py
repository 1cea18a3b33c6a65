"""Turns a column as its format typed it into values of one kind, with the rows apart that hold something else.

Nothing here raises on a value: each function returns, next to the values, which rows hold none and which hold something
else.  What is accepted does not depend on the format:

- text: text or whole numbers; an empty text is a missing value.
- numbers: numbers, or text in decimal or exponent notation with a point.
- times: timestamps, dates (local midnight), or ISO 8601 text, from 1970 to 2100.  A time without a zone is local to the
  mapping's `time_zone`, read as PEP 495 reads it with fold=0: the first of two equal local times when clocks go back,
  the offset before the change when they skip it.  Integers are refused: nothing says whether they count seconds or
  milliseconds.
- labels: booleans, 0 and 1, or `0`, `1`, `true`, `false` as text in any case; missing or `null` is "not known yet".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.ingest.readers import Values
from schemas.money import EXACT
from schemas.transaction import END_US

_DAY_US = 86_400_000_000

# Exponents go as far as a float64's, so that a number is the same alone and among texts.
_NUMBER = r"^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?[0-3]?\d{1,2})?$"
# A text that matches is a date that exists: 30 and 31 days, leap years.
_DATE = (
    r"(?:(?:19[7-9]\d|20\d\d|2100)-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\d|30)"
    r"|02-(?:0[1-9]|1\d|2[0-8]))|(?:19(?:[79][26]|8[048])|20(?:[02468][048]|[13579][26]))-02-29)"
)
_ZONE = r"(?:Z|[+-](?:[01]\d|2[0-3])(?::?[0-5]\d)?)"
_TIME = rf"^{_DATE}(?:[T ](?:[01]\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:\.\d{{1,9}})?)?{_ZONE}?)?$"
_ZONED = rf":.*{_ZONE}$"

_LABELS = pa.array(["0", "0.0", "false", "1", "1.0", "true", "null"])
_FIRST_TRUE, _UNKNOWN = 3, 6


@dataclass(frozen=True)
class Text:
    """Text values (null where there are none), and which rows hold none or another type; all `[rows]`."""

    values: pa.Array
    missing: np.ndarray
    wrong: np.ndarray


@dataclass(frozen=True)
class Numbers:
    """float64 values (0 where there are none), and `written`, the numbers as the log has them; all `[rows]`."""

    values: np.ndarray
    written: pa.Array
    missing: np.ndarray
    wrong: np.ndarray


@dataclass(frozen=True)
class Times:
    """int64 UTC microseconds (0 where there are none); `impossible` are texts or times that are no time in range."""

    values: np.ndarray
    missing: np.ndarray
    wrong: np.ndarray
    impossible: np.ndarray


@dataclass(frozen=True)
class Labels:
    """Booleans (False where not known), and which are known or are no label at all; all `[rows]`."""

    values: np.ndarray
    known: np.ndarray
    wrong: np.ndarray


def text(raw: Values) -> Text:
    """Reads a column of identifiers or words."""
    if isinstance(raw, list):
        raw = [value if _is_identifier(value) else () for value in raw]
    values, wrong = _one_type(raw)
    kind = values.type
    if pa.types.is_floating(kind):
        numbers = _floats(values)
        wrong = (
            wrong
            | (np.isfinite(numbers) & ((numbers != np.rint(numbers)) | (np.abs(numbers) > EXACT)))
            | np.isinf(numbers)
        )
        whole = np.where(wrong | np.isnan(numbers), 0, numbers).astype(np.int64)
        values = pa.array(whole, mask=wrong | np.isnan(numbers)).cast(pa.string())
    elif (
        pa.types.is_integer(kind)
        or pa.types.is_null(kind)
        or _is_text(kind)
        or (pa.types.is_decimal(kind) and not kind.scale)
    ):
        values = values.cast(pa.string())
    else:
        wrong = wrong | _valid(values)
        values = pa.nulls(len(values), pa.string())
    empty = pc.equal(pc.binary_length(values), 0)
    if pc.any(empty).as_py():
        values = pc.if_else(empty, None, values)
    return Text(values, ~_valid(values) & ~wrong, wrong)


def numbers(raw: Values) -> Numbers:
    """Reads a column of numbers."""
    values, wrong = _one_type(raw)
    kind = values.type
    if _is_text(kind):
        values = _without_empty(values)
        wrong = wrong | (_valid(values) & ~_matches(values, _NUMBER))
        values = _only(values, ~wrong)
    elif not (
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind) or pa.types.is_null(kind)
    ):
        wrong = wrong | _valid(values)
        values = pa.nulls(len(values), pa.float64())
    missing = ~_valid(values) & ~wrong
    return Numbers(np.where(missing | wrong, 0.0, _floats(values)), values, missing, wrong)


def times(raw: Values, zone: str) -> Times:
    """Reads a column of points in time; `zone` is that of values which carry none."""
    if isinstance(raw, list):
        raw = [value if isinstance(value, str | None) else () for value in raw]
    values, wrong = _one_type(raw)
    if _is_text(values.type):
        return _text_times(_without_empty(values), wrong, zone)
    none = np.zeros(len(values), bool)
    if pa.types.is_timestamp(values.type):
        unit, local = values.type.unit, values.type.tz is None
    elif pa.types.is_date(values.type):
        unit, local = ("D" if pa.types.is_date32(values.type) else "ms"), True
    else:
        present = _valid(values)
        return Times(np.zeros(len(values), np.int64), ~present & ~wrong, wrong | present, none)
    present = _valid(values)
    ticks = _integers(values.cast(pa.int32()) if unit == "D" else values)
    # A day more on either side, which the zone may give back; outside of it the product below could overflow.
    per_us = {"ns": 1_000}.get(unit, 1)
    us_per = {"s": 1_000_000, "ms": 1_000, "D": _DAY_US}.get(unit, 1)
    near = (ticks >= -_DAY_US // us_per * per_us) & (ticks < (END_US + _DAY_US) // us_per * per_us)
    micros = np.where(near, ticks, 0) // per_us * us_per
    if local:
        micros = _to_utc(micros, zone)
    possible = near & (micros >= 0) & (micros < END_US)
    return Times(np.where(present & possible, micros, 0), ~present & ~wrong, wrong, present & ~possible)


def labels(raw: Values) -> Labels:
    """Reads a column of labels."""
    values, wrong = _one_type(raw)
    kind = values.type
    present = _valid(values)
    if pa.types.is_boolean(kind):
        return Labels(values.fill_null(False).to_numpy(zero_copy_only=False), present, wrong)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        floats = _floats(values)
        present &= ~np.isnan(floats)
        ones = present & (floats == 1)
        wrong = wrong | (present & ~ones & (floats != 0))
        return Labels(ones, present & ~wrong, wrong)
    if _is_text(kind):
        values = _without_empty(values)
        present = _valid(values)
        codes = pc.index_in(pc.utf8_lower(values), _LABELS).fill_null(-1).to_numpy(zero_copy_only=False)
        wrong = wrong | (present & (codes < 0))
        return Labels((codes >= _FIRST_TRUE) & (codes < _UNKNOWN), (codes >= 0) & (codes != _UNKNOWN), wrong)
    return Labels(np.zeros(len(values), bool), np.zeros(len(values), bool), wrong | present)


def _text_times(values: pa.Array, wrong: np.ndarray, zone: str) -> Times:
    present = _valid(values)
    possible = present & _matches(values, _TIME)
    values = _only(values, possible)
    if _matches(values, r"\.\d{7}").any():
        values = pc.replace_substring_regex(values, r"(\.\d{6})\d+", r"\1")
    zoned = _matches(values, _ZONED)
    micros = np.zeros(len(values), np.int64)
    if zoned.any():
        micros = _integers(_only(values, zoned).cast(pa.timestamp("us", "UTC")))
    if not zoned.all():
        local = _to_utc(_integers(_only(values, ~zoned).cast(pa.timestamp("us"))), zone)
        micros = np.where(zoned, micros, local)
    possible &= (micros >= 0) & (micros < END_US)
    return Times(np.where(possible, micros, 0), ~present & ~wrong, wrong, present & ~possible)


def _to_utc(local_us: np.ndarray, zone: str) -> np.ndarray:
    if zone == "UTC":
        return local_us
    instants = pc.assume_timezone(
        pa.array(local_us, pa.timestamp("us")), zone, ambiguous="earliest", nonexistent="earliest"
    )
    # Of a local time that clocks skip, Arrow makes the last instant before the gap; what lies between the two is added
    # back, so that such times keep their distances under the offset before the change.  It is 0 everywhere else.
    return _integers(instants) + (local_us - _integers(pc.local_timestamp(instants)))


def _one_type(raw: Values) -> tuple[pa.Array, np.ndarray]:
    """An Arrow array without dictionary, and the rows whose value no scalar column can hold."""
    if isinstance(raw, list):
        texts = [_as_text(value) for value in raw]
        wrong = np.array([text is None and value is not None for text, value in zip(texts, raw, strict=True)], bool)
        return pa.array(texts, pa.string()), wrong
    values = raw.dictionary_decode() if pa.types.is_dictionary(raw.type) else raw
    return values, np.zeros(len(values), bool)


def _is_identifier(value: Any) -> bool:
    if isinstance(value, float):
        return value.is_integer() and abs(value) <= EXACT
    return type(value) in (str, int, type(None))


def _as_text(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer() and abs(value) <= EXACT:
        return str(int(value))
    return repr(value) if isinstance(value, (int, float)) else None


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _without_empty(values: pa.Array) -> pa.Array:
    values = values.cast(pa.string())
    return pc.if_else(pc.equal(pc.binary_length(values), 0), None, values)


def _only(values: pa.Array, rows: np.ndarray) -> pa.Array:
    return values if rows.all() else pc.if_else(pa.array(rows), values, None)


def _matches(values: pa.Array, pattern: str) -> np.ndarray:
    return pc.match_substring_regex(values, pattern).fill_null(False).to_numpy(zero_copy_only=False)


def _valid(values: pa.Array) -> np.ndarray:
    return np.ones(len(values), bool) if not values.null_count else values.is_valid().to_numpy(zero_copy_only=False)


def _floats(values: pa.Array) -> np.ndarray:
    """float64 values, NaN where there are none."""
    return values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)


def _integers(values: pa.Array) -> np.ndarray:
    """int64 values, 0 where there are none."""
    return values.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
