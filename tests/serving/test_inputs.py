"""A model gets its inputs in its order, whatever the order in which the store computes them."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from schemas.errors import ConfigurationError
from schemas.features import FEATURES, ROW_INPUTS, Feature, FeatureSpec, specify
from schemas.transaction import COLUMN
from serving.features import Features
from serving.inputs import Packer

SPEC = specify(COLUMN)


def shuffled(seed: int, features: int = len(FEATURES)) -> FeatureSpec:
    chance = random.Random(seed)
    return FeatureSpec(
        tuple(chance.sample(ROW_INPUTS, len(ROW_INPUTS))), tuple(chance.sample(FEATURES, features)), ("left out",)
    )


def named(spec: FeatureSpec) -> tuple[Features, dict[str, list[object]]]:
    """Features of which each value is another, and the values by name."""
    numbers: list[float] = []
    texts: list[str] = []
    by_name: dict[str, list[object]] = {}
    for declared in spec.numeric:
        values = [len(numbers) + place + 0.5 for place in range(declared.width)]
        numbers += values
        by_name[declared.name] = list[object](values)
    for declared in spec.categorical:
        text = [f"{declared.name} {place}" for place in range(declared.width)]
        texts += text
        by_name[declared.name] = list[object](text)
    return Features(tuple(numbers), tuple(texts)), by_name


@pytest.mark.parametrize("model", [SPEC, shuffled(1), shuffled(2, features=20)])
def test_each_input_goes_to_its_place(model: FeatureSpec) -> None:
    features, by_name = named(SPEC)
    packer = Packer(SPEC, model)
    numeric = packer.numeric([features, features])
    assert numeric.dtype == np.float32
    assert numeric.shape == (2, model.numeric_width)
    wanted = [value for declared in model.numeric for value in by_name[declared.name]]
    assert numeric.tolist() == [wanted, wanted]
    texts = [str(value).encode() for declared in model.categorical for value in by_name[declared.name]]
    assert packer.categorical([features, features]) == texts + texts
    assert packer.widths == (model.numeric_width, model.categorical_width)


def test_in_the_stores_order_it_is_the_row_of_the_store() -> None:
    numbers = (math.nan, 1e300, -1e300, *range(SPEC.numeric_width - 3))
    features = Features(numbers, ("",) * SPEC.categorical_width)
    np.testing.assert_array_equal(Packer(SPEC, SPEC).numeric([features])[0], features.numeric())


def test_what_has_no_value_is_named() -> None:
    features, _ = named(SPEC)
    packer = Packer(SPEC, shuffled(3))
    assert packer.missing(features) == ()
    nothing = Features((math.nan,) * SPEC.numeric_width, ("",) * SPEC.categorical_width)
    assert sorted(packer.missing(nothing)) == sorted(declared.name for declared in SPEC.inputs)
    # Of a vector some values may be missing: a card has had fewer payments.
    first = next(place for place, declared in enumerate(SPEC.numeric) if declared.width > 1)
    begin = sum(declared.width for declared in SPEC.numeric[:first])
    partly = list(nothing.numbers)
    partly[begin] = 1.0
    assert SPEC.numeric[first].name not in packer.missing(Features(tuple(partly), nothing.texts))


def test_inputs_that_the_store_lacks_are_named() -> None:
    other = Feature("card", "sum", column="amount_minor")
    with pytest.raises(ConfigurationError, match="card_id_amount_minor_sum_30d"):
        Packer(SPEC, FeatureSpec(ROW_INPUTS, (*FEATURES, other), ()))
