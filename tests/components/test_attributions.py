"""Attributions: of the highest scores, added up by input, and drawn."""

from __future__ import annotations

import numpy as np
import pytest

from components.attributions import attribute, by_input, highest, picture
from schemas.features import FEATURES, ROW_INPUTS, FeatureSpec
from tests.components.tiny import Model

VECTOR = next(i for i in FEATURES if i.is_vector and not i.is_text)
AMOUNT, CHANNEL = (next(i for i in ROW_INPUTS if i.name == name) for name in ("amount_base_minor", "channel"))
SPEC = FeatureSpec((AMOUNT, CHANNEL), (VECTOR,), ())


def test_the_highest_scores_are_chosen_and_of_equal_ones_the_first() -> None:
    assert highest(np.array([0.1, 0.9, 0.5, 0.5, 0.2]), 2).tolist() == [False, True, True, False, False]
    assert highest(np.array([0.1]), 2).tolist() == [True]


def test_columns_of_a_vector_add_up_and_the_strongest_comes_first() -> None:
    width = VECTOR.width
    columns = np.array([[1.0] + [0.5] * width + [-19.0], [3.0] + [0.5] * width + [-17.0]])
    assert by_input(columns, SPEC) == (
        (CHANNEL.name, -18.0),
        *sorted([(AMOUNT.name, 2.0), (VECTOR.name, 0.5 * width)], key=lambda one: -one[1]),
    )
    assert by_input(np.zeros((0, 2 + width)), SPEC) == ()


def test_something_is_drawn_with_and_without_explanations() -> None:
    assert picture([("amount", 1.0), ("channel", -0.5)], 256) != picture([("amount", 1.0)], 256)
    assert picture((), 0).startswith(b"\x89PNG")


def test_chosen_rows_are_explained_by_the_model_and_no_others(tiny_model: Model) -> None:
    root, rows = tiny_model.examples.root, tiny_model.examples.rows["test"]
    chosen = np.zeros(rows, np.bool_)
    chosen[[3, rows - 1]] = True
    both = attribute(tiny_model.saved_model, root, "test", chosen)
    chosen[3] = False
    last = attribute(tiny_model.saved_model, root, "test", chosen)
    assert (len(both), len(last)) == (2, 1)
    assert last[0] == pytest.approx(both[1], abs=1e-4)
    assert np.abs(both[0] - both[1]).max() > 1e-3
