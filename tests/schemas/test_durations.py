import pytest

from schemas.durations import seconds
from schemas.errors import ConfigurationError


@pytest.mark.parametrize(
    ("text", "expected"), [("90s", 90), ("15min", 900), ("24h", 86_400), ("7d", 604_800), ("0s", 0)]
)
def test_a_duration_is_a_whole_number_and_a_unit(text: str, expected: int) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "7", "d", "1.5h", "7 d", "-1d", "7D", "1w", "7d\n"])
def test_other_texts_are_errors_that_name_them(text: str) -> None:
    with pytest.raises(ConfigurationError, match="whole number and a unit"):
        seconds(text)
