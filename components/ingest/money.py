"""Amounts: from what the log writes to exact minor units of their currency and of the mapping's base currency."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction

import numpy as np
import pyarrow as pa

from components.ingest.parse import Numbers
from schemas.currency import MINOR_UNIT_DECIMALS
from schemas.money import EXACT, unit_rate
from schemas.sources import SourceMapping

_DECIMAL = Context(prec=100, rounding=ROUND_HALF_EVEN)


@dataclass(frozen=True)
class Amounts:
    """Minor units, int64[rows] and 0 where a flag (bool[rows]) stands; at most one flag stands on a row."""

    minor: np.ndarray
    base_minor: np.ndarray
    unknown_currency: np.ndarray
    no_rate: np.ndarray
    fraction_of_minor: np.ndarray
    absurd: np.ndarray


def convert(
    amounts: Numbers, currency: pa.Array, event_time_us: np.ndarray, usable: np.ndarray, mapping: SourceMapping
) -> Amounts:
    """Converts the `usable` rows, whose amounts are finite and not negative and whose event_time stands.

    `amount_minor` is the written amount, times 10^decimals where it is in major units, rounded half to even;
    `amount_base_minor` is `amount_minor` at the rate of the latest date that is not after `event_time`, scaled by the
    two currencies' decimals, rounded half to even.  Both are exact.
    """
    rows = len(usable)
    result = Amounts(np.zeros(rows, np.int64), np.zeros(rows, np.int64), *(np.zeros(rows, bool) for _ in range(4)))
    codes = currency.dictionary_encode()
    indices = codes.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    for index, code in enumerate(codes.dictionary.to_pylist()):
        chosen = np.flatnonzero((indices == index) & usable)
        if code not in MINOR_UNIT_DECIMALS:
            result.unknown_currency[chosen] = True
            continue
        since, rates = _rates(code, mapping)
        periods = np.searchsorted(since, event_time_us[chosen], side="right") - 1
        result.no_rate[chosen[periods < 0]] = True
        for period in np.unique(periods[periods >= 0]):
            _convert_at(rates[period], chosen[periods == period], code, amounts, mapping, result)
    return result


def _rates(code: str, mapping: SourceMapping) -> tuple[np.ndarray, list[float]]:
    if code == mapping.base_currency:
        return np.zeros(1, np.int64), [1.0]
    rates = [rate for rate in mapping.rates if rate.currency == code]
    return np.array([rate.since_us for rate in rates], np.int64), [rate.rate for rate in rates]


def _convert_at(
    rate: float, rows: np.ndarray, code: str, amounts: Numbers, mapping: SourceMapping, result: Amounts
) -> None:
    decimals, base_decimals = MINOR_UNIT_DECIMALS[code], MINOR_UNIT_DECIMALS[mapping.base_currency]
    scale = decimals if mapping.amount_unit == "major" else 0
    # Far beyond the limit there is nothing to be exact about; within, all products below are bounded.
    with np.errstate(over="ignore"):
        scaled = amounts.values[rows] * 10.0**scale
        far = (scaled >= EXACT) | (scaled * rate / 10.0**decimals > 2 * mapping.amount_limit)
    result.absurd[rows[far]] = True
    rows, scaled = rows[~far], scaled[~far]
    if mapping.amount_unit == "minor":
        whole = scaled == np.rint(scaled)
        result.fraction_of_minor[rows[~whole]] = True
        rows, scaled = rows[whole], scaled[whole]
    minor = np.rint(scaled).astype(np.int64)
    # A float64 product decides all but ties and near-ties; those are settled in decimals, as the log writes them.
    doubtful = np.abs(np.abs(scaled - np.rint(scaled)) - 0.5) <= scaled * 2.0**-50
    if doubtful.any():
        minor[doubtful] = _exact_minor(amounts.written.take(pa.array(rows[doubtful])), scale)
    base = _times_half_even(minor, unit_rate(rate, code, mapping.base_currency))
    absurd = base > mapping.amount_limit * 10.0**base_decimals
    result.absurd[rows[absurd]] = True
    result.minor[rows[~absurd]] = minor[~absurd]
    result.base_minor[rows[~absurd]] = base[~absurd]


def _exact_minor(written: pa.Array, scale: int) -> list[int]:
    return [
        int(Decimal(str(value)).scaleb(scale, _DECIMAL).to_integral_value(ROUND_HALF_EVEN))
        for value in written.to_pylist()
    ]


def _times_half_even(values: np.ndarray, factor: Fraction) -> np.ndarray:
    """values * factor, int64, ties to even."""
    if factor == 1 or not len(values):
        return values
    # Python's integers where int64 cannot hold the products.
    wide = int(values.max()) * factor.numerator >= 2**62 or factor.denominator >= 2**62
    products = (values.astype(object) if wide else values) * factor.numerator
    quotients, remainders = products // factor.denominator, products % factor.denominator
    twice = 2 * remainders
    up = (twice > factor.denominator) | ((twice == factor.denominator) & (quotients % 2 == 1))
    return (quotients + up).astype(np.int64)
