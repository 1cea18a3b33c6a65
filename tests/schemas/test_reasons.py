"""Reason codes of the model's: which input speaks under which, and which are given."""

from __future__ import annotations

import pytest

from schemas import sources
from schemas.errors import DeclarationError
from schemas.features import FEATURES, ROW_INPUTS, RowInput, specify
from schemas.reasons import LEAST_LOG_ODDS, MOST_REASONS, REASONS, packed_reasons, reason_of, strongest
from schemas.transaction import CALENDAR_COLUMNS, COLUMNS

SPEC = specify(sources.load("simulated").provided)


def test_every_declared_input_has_a_code_of_the_model_and_every_such_code_an_input() -> None:
    codes = {reason_of(row) for row in ROW_INPUTS} | {reason_of(feature) for feature in FEATURES}
    assert codes == {code for code in REASONS if code.startswith("MODEL_")}


@pytest.mark.parametrize("name", [*(column.name for column in COLUMNS), *CALENDAR_COLUMNS])
def test_every_column_that_a_model_may_read_has_a_code(name: str) -> None:
    try:
        declared = RowInput(name)
    except DeclarationError:
        return
    assert reason_of(declared) in REASONS


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("amount_base_minor", "MODEL_AMOUNT"),
        ("card_id_count_1h", "MODEL_CARD_VELOCITY"),
        ("card_id_night_count_30d", "MODEL_TIME"),
        ("card_id_amount_base_minor_mean_30d", "MODEL_UNUSUAL_AMOUNT"),
        ("merchant_id_amount_base_minor_mean_7d", "MODEL_UNUSUAL_AMOUNT"),
        ("card_id_merchant_id_first_seen", "MODEL_NEW_MERCHANT"),
        ("card_id_merchant_id_count_30d", "MODEL_NEW_MERCHANT"),
        ("card_id_device_id_first_seen", "MODEL_DEVICE"),
        ("device_id_card_id_distinct_24h", "MODEL_DEVICE"),
        ("card_id_city_distinct_24h", "MODEL_GEOGRAPHY"),
        ("card_id_recent_distance_km_between_16", "MODEL_GEOGRAPHY"),
        ("card_id_amount_base_minor_recent_16", "MODEL_CARD_HISTORY"),
        ("merchant_id_card_id_distinct_1h", "MODEL_MERCHANT_ACTIVITY"),
        ("merchant_id_fraud_rate_7d", "MODEL_MERCHANT_FRAUD"),
        ("device_id_fraud_count_30d", "MODEL_DEVICE_FRAUD"),
        ("card_id_fraud_count_30d", "MODEL_CARD_FRAUD"),
    ],
)
def test_an_input_speaks_under_what_it_is_about(name: str, code: str) -> None:
    [declared] = [one for one in SPEC.inputs if one.name == name]
    assert reason_of(declared) == code


def test_columns_are_in_the_order_of_attributions() -> None:
    codes = packed_reasons(SPEC)
    assert len(codes) == SPEC.numeric_width + SPEC.categorical_width
    assert codes[0] == reason_of(SPEC.numeric[0])
    assert codes[SPEC.numeric_width] == reason_of(SPEC.categorical[0])


def test_parts_of_one_code_are_added_and_the_weightiest_speak_first() -> None:
    codes = ("A", "B", "A", "C", "D", "E", "F")
    weights = (0.4, 2.0, 0.4, -3.0, LEAST_LOG_ODDS - 0.01, 0.6, 0.7)
    assert strongest(weights, codes) == ("B", "A", "F")
    assert strongest((-1.0,), ("A",)) == ()
    assert MOST_REASONS == 3


def test_what_speaks_against_fraud_weakens_its_code() -> None:
    assert strongest((1.0, -0.8), ("A", "A")) == ()
