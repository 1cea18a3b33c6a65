import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.decision import Arm
from serving.decisions.record import (
    decision_row,
    pack_features,
    pack_transaction,
    unpack_features,
    unpack_transaction,
)
from serving.features import Features
from tests.serving.decisions.entries import entry, transaction


@given(st.lists(st.floats(allow_nan=False)), st.lists(st.text()))
def test_features_come_back_as_they_were(numbers: list[float], texts: list[str]) -> None:
    features = Features(tuple(numbers), tuple(texts))
    assert unpack_features(pack_features(features)) == features


def test_a_missing_number_comes_back_missing() -> None:
    first, second = unpack_features(pack_features(Features((math.nan, -0.0), ("",)))).numbers
    assert math.isnan(first)
    assert math.copysign(1, second) == -1


@given(st.floats(allow_nan=False, allow_infinity=False), st.text(), st.integers(-(2**63), 2**63 - 1))
def test_a_transaction_comes_back_exactly(latitude: float, city: str, amount: int) -> None:
    there = transaction("t", latitude=latitude, city=city, amount_minor=amount)
    assert unpack_transaction(pack_transaction(there)) == there


def test_what_is_missing_of_a_transaction_is_left_out() -> None:
    there = transaction("t", city="Köln")
    assert unpack_transaction(pack_transaction({**there, "latitude": math.nan, "ip": None})) == there


def test_a_decision_that_says_no_arm_or_no_outcome_is_refused() -> None:
    for field in ("arm", "outcome"):
        half_made = entry("t", routed=Arm.CANARY)
        half_made.decision.ClearField(field)
        with pytest.raises(ValueError, match="0 is not a valid"):
            decision_row(half_made)
