from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.money import Rates, times_half_even, unit_rate
from tests.components.ingest.logs import mapping


def micros(*date: int) -> int:
    return int(datetime(*date, tzinfo=UTC).timestamp()) * 1_000_000  # type: ignore[arg-type,misc]


@pytest.mark.parametrize(
    ("rate", "currency", "exact"),
    [(0.1, "USD", Fraction(1, 10)), (0.0064, "JPY", Fraction(64, 100)), (3.0, "KWD", Fraction(3, 10))],
)
def test_a_rate_counts_as_it_is_written_and_between_minor_units(rate: float, currency: str, exact: Fraction) -> None:
    assert unit_rate(rate, currency, "EUR") == exact


@given(st.integers(0, 2**70), st.integers(1, 2**70), st.integers(1, 2**70))
def test_products_round_half_to_even(amount: int, numerator: int, denominator: int) -> None:
    assert times_half_even(amount, Fraction(numerator, denominator)) == round(amount * Fraction(numerator, denominator))


@given(st.integers(0, 10**13), st.decimals(0, 1000, places=6))
def test_a_decimal_rate_gives_what_decimals_give(amount: int, rate: Decimal) -> None:
    exact = Context(prec=60).multiply(amount, rate).to_integral_value(ROUND_HALF_EVEN)
    assert times_half_even(amount, Fraction(rate)) == exact


def test_the_rate_of_a_time_is_the_latest_that_is_not_after_it() -> None:
    rates = Rates(mapping())
    july = micros(2024, 7, 1)
    assert [rates.at("JPY", at) for at in (july - 1, july)] == [Fraction(64, 100), Fraction(58, 100)]
    assert rates.at("USD", micros(2024, 1, 1) - 1) is None
    assert rates.at("CHF", july) is None
    assert rates.at("EUR", 0) == 1
