from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.ingest import parse
from components.ingest.money import Amounts, convert
from schemas.currency import MINOR_UNIT_DECIMALS
from tests.components.ingest.logs import mapping

SPRING = int(datetime(2024, 3, 1, tzinfo=UTC).timestamp()) * 1_000_000
JULY = int(datetime(2024, 7, 1, tzinfo=UTC).timestamp()) * 1_000_000


def converted(amounts: pa.Array, currency: str, at: int = SPRING, **settings: Any) -> Amounts:
    numbers = parse.numbers(amounts)
    rows = len(amounts)
    return convert(numbers, pa.array([currency] * rows), np.full(rows, at), np.ones(rows, bool), mapping(**settings))


@pytest.mark.parametrize(
    ("currency", "written", "minor", "base_minor"),
    [
        ("EUR", "12.34", 1234, 1234),
        ("USD", "10.00", 1000, 910),
        ("JPY", "1000", 1000, 640),
        ("KWD", "1.234", 1234, 370),  # 1.234 x 3 = 3.702 EUR
        ("EUR", "0", 0, 0),
        ("EUR", "-0.0", 0, 0),
    ],
)
def test_amounts_become_minor_units_of_both_currencies(
    currency: str, written: str, minor: int, base_minor: int
) -> None:
    result = converted(pa.array([written]), currency)
    assert (result.minor[0], result.base_minor[0]) == (minor, base_minor)


def test_the_rate_is_the_latest_that_is_not_after_the_transaction() -> None:
    at = np.array([JULY - 1, JULY, JULY + 1])
    numbers = parse.numbers(pa.array([100_000] * 3))
    result = convert(numbers, pa.array(["JPY"] * 3), at, np.ones(3, bool), mapping())
    assert result.base_minor.tolist() == [64_000, 58_000, 58_000]


def test_before_the_first_rate_there_is_none() -> None:
    assert converted(pa.array([1.0]), "USD", at=0).no_rate.tolist() == [True]
    assert converted(pa.array([1.0]), "CHF").no_rate.tolist() == [True]
    assert converted(pa.array([1.0]), "EUR", at=0).no_rate.tolist() == [False]


@pytest.mark.parametrize("code", ["EURO", "eur", "XXX", "", "ZZZ"])
def test_a_code_that_iso_4217_lacks_is_unknown(code: str) -> None:
    assert converted(pa.array([1.0]), code).unknown_currency.tolist() == [True]


def test_ties_go_to_the_even_minor_unit_as_written_and_not_as_binary_holds_them() -> None:
    written = ["0.005", "0.015", "1.005", "1.015", "2.675", "1.0149999999", "1.0050000001"]
    expected = [0, 2, 100, 102, 268, 101, 101]
    assert converted(pa.array(written), "EUR").minor.tolist() == expected
    assert converted(pa.array([float(text) for text in written]), "EUR").minor.tolist() == expected
    assert converted(pa.array([Decimal(text) for text in written]), "EUR").minor.tolist() == expected


@given(st.integers(0, 10**13), st.sampled_from(["EUR", "JPY", "KWD"]))
def test_decimal_text_is_exact_up_to_the_largest_limit(minor: int, currency: str) -> None:
    written = f"{Decimal(minor).scaleb(-MINOR_UNIT_DECIMALS[currency]):f}"
    result = converted(pa.array([written]), currency, amount_limit=1e11)
    assert result.minor[0] == minor


@given(
    st.decimals(0, 200_000, places=4),
    st.sampled_from(["EUR", "JPY", "KWD", "USD"]),
    st.sampled_from(["0.91", "0.5", "3.254321", "0.0064", "1.1", "123.456789012345", "0.000012345678901234"]),
)
def test_conversion_is_exact_and_rounds_half_to_even_twice(amount: Decimal, currency: str, rate: str) -> None:
    rates = {} if currency == "EUR" else {currency: {"2024-01-01": float(rate)}}
    result = converted(pa.array([str(amount)]), currency, rates=rates)
    true_rate = Decimal(1 if currency == "EUR" else rate)
    decimals = MINOR_UNIT_DECIMALS[currency]
    minor = amount.scaleb(decimals).to_integral_value(ROUND_HALF_EVEN)
    base = (minor.scaleb(-decimals) * true_rate).scaleb(2).to_integral_value(ROUND_HALF_EVEN)
    if base > 10_000_000:
        assert result.absurd.tolist() == [True]
    else:
        assert (result.minor[0], result.base_minor[0]) == (minor, base)


def test_minor_units_are_whole_or_no_amount() -> None:
    result = converted(pa.array(["1234", "12.0", "12.5"]), "USD", amount_unit="minor")
    assert result.minor.tolist() == [1234, 12, 0]
    assert result.base_minor.tolist() == [1123, 11, 0]
    assert result.fraction_of_minor.tolist() == [False, False, True]


def test_absurd_is_above_the_limit_in_the_base_currency() -> None:
    assert converted(pa.array([100_000.0, 100_000.01, 1e300, 1e18]), "EUR").absurd.tolist() == [False, True, True, True]
    assert converted(pa.array([15_625_000, 15_625_002]), "JPY").absurd.tolist() == [False, True]


def test_rows_that_are_not_usable_are_left_alone() -> None:
    numbers = parse.numbers(pa.array([float("nan"), -5.0, 1.0]))
    usable = np.array([False, False, True])
    result = convert(numbers, pa.array([None, "???", "EUR"]), np.zeros(3, np.int64), usable, mapping())
    assert result.minor.tolist() == [0, 0, 100]
    assert not (result.absurd | result.no_rate | result.unknown_currency | result.fraction_of_minor).any()
