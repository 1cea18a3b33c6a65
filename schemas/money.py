"""Exact conversion of amounts into the base currency of a mapping."""

from __future__ import annotations

from bisect import bisect_right
from fractions import Fraction

from schemas.currency import MINOR_UNIT_DECIMALS
from schemas.sources import SourceMapping

# Integers above it are not all floats, and logs are read in floats: an amount of so many minor units is absurd in any
# currency.
EXACT = 2**53


def unit_rate(rate: float, currency: str, base: str) -> Fraction:
    """Minor units of `base` that one minor unit of `currency` is worth, when one unit of it is worth `rate` of `base`.

    The rate counts as it is written, not as binary holds it: 0.1 is one tenth.
    """
    return Fraction(repr(rate)) * Fraction(10) ** (MINOR_UNIT_DECIMALS[base] - MINOR_UNIT_DECIMALS[currency])


def times_half_even(amount: int, rate: Fraction) -> int:
    """`amount * rate`, rounded half to even; in integers, several times as fast as `round` of a Fraction."""
    quotient, remainder = divmod(amount * rate.numerator, rate.denominator)
    twice = 2 * remainder
    return quotient + (twice > rate.denominator or (twice == rate.denominator and quotient % 2 == 1))


class Rates:
    """A mapping's rates, ready to convert one amount after the other."""

    def __init__(self, mapping: SourceMapping) -> None:
        base = mapping.base_currency
        self._periods: dict[str, tuple[list[int], list[Fraction]]] = {base: ([0], [Fraction(1)])}
        for rate in mapping.rates:
            since_us, rates = self._periods.setdefault(rate.currency, ([], []))
            since_us.append(rate.since_us)
            rates.append(unit_rate(rate.rate, rate.currency, base))

    def at(self, currency: str, time_us: int) -> Fraction | None:
        """The unit rate of the latest date that is not after a time, which is 1970 or later; None where there is none.

        Args:
            currency: an ISO 4217 code.
            time_us: UTC microseconds since the Unix epoch.
        """
        since_us, rates = self._periods.get(currency, ([], []))
        period = bisect_right(since_us, time_us) - 1
        return None if period < 0 else rates[period]
