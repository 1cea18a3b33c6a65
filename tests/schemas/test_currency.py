import pytest

from schemas.currency import MINOR_UNIT_DECIMALS, minor_unit_decimals
from schemas.errors import ConfigurationError


@pytest.mark.parametrize(("code", "decimals"), [("EUR", 2), ("JPY", 0), ("KWD", 3), ("CLF", 4), ("CNY", 2)])
def test_a_currency_has_the_decimals_of_iso_4217(code: str, decimals: int) -> None:
    assert minor_unit_decimals(code) == decimals


def test_codes_are_three_capitals() -> None:
    assert all(len(code) == 3 and code.isascii() and code.isupper() for code in MINOR_UNIT_DECIMALS)


@pytest.mark.parametrize("code", ["eur", "EURO", "", "XXX"])
def test_what_is_no_code_is_an_error_that_names_it(code: str) -> None:
    with pytest.raises(ConfigurationError, match=repr(code)):
        minor_unit_decimals(code)
