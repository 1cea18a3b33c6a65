"""Where bins lie, what a number becomes in them, and how loud a feature is."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from components.encoding import FeatureScale, PiecewiseLinear, quantile_bins


def test_bins_hold_about_as_many_rows_each() -> None:
    numbers = np.random.default_rng(1).lognormal(size=(10_000, 2)).astype(np.float32)
    for column, ends in zip(numbers.T, quantile_bins(numbers, 5), strict=True):
        assert (ends[0], ends[-1]) == (column.min(), column.max())
        rows, _ = np.histogram(column, ends)
        np.testing.assert_allclose(rows, 2_000, atol=2)


def test_a_value_that_many_rows_have_is_one_end() -> None:
    numbers = np.array([0.0] * 60 + [1.0, 2.0, 3.0, 4.0] * 10, np.float32)[:, np.newaxis]
    [ends] = quantile_bins(numbers, 10)
    assert ends[0] == 0 and ends[-1] == 4 and 3 <= len(ends) <= 5
    assert list(ends) == sorted(set(ends))


def test_flags_constants_and_no_bins_asked_for_have_none() -> None:
    flag, constant, number = np.arange(100) % 2, np.full(100, 3.0), np.arange(100.0)
    numbers = np.stack([flag, constant, number], axis=1).astype(np.float32)
    assert [len(ends) for ends in quantile_bins(numbers, 4)] == [0, 0, 5]
    assert quantile_bins(numbers, 0) == ((), (), ())


def test_ends_are_those_of_a_part_of_many_rows() -> None:
    numbers = np.linspace(0, 1, 1_000_000, dtype=np.float32)[:, np.newaxis]
    [ends] = quantile_bins(numbers, 4)
    np.testing.assert_allclose(ends, [0, 0.25, 0.5, 0.75, 1], atol=1e-4)


@pytest.mark.parametrize(
    ("number", "places"),
    [(-5.0, [0, 0]), (0.0, [0, 0]), (0.5, [0.5, 0]), (1.0, [1, 0]), (2.0, [1, 0.5]), (3.0, [1, 1]), (9.0, [1, 1])],
)
def test_a_number_fills_the_bins_below_it_and_its_own_in_part(number: float, places: list[float]) -> None:
    layer = PiecewiseLinear(((), (0.0, 1.0, 3.0)))
    found = layer(np.array([[7.0, number]], np.float32))
    np.testing.assert_allclose(found, [places])


def test_it_is_written_and_read_back_as_it_was() -> None:
    layer = PiecewiseLinear(((0.0, 1.0, 3.0), ()), name="places")
    again = keras.layers.deserialize(keras.layers.serialize(layer))
    numbers = np.random.default_rng(2).normal(size=(20, 2)).astype(np.float32)
    np.testing.assert_array_equal(again(numbers), layer(numbers))
    assert (again.name, again.bins) == ("places", layer.bins)


def test_a_feature_begins_as_it_came_and_moves_by_the_rate() -> None:
    layer = FeatureScale(6.0, name="feature_scale")
    features = np.array([[2.0, -1.0], [0.5, 3.0]], np.float32)
    np.testing.assert_array_equal(layer(features), features)
    layer.weight.assign([0.5, -1 / 6])
    np.testing.assert_allclose(layer(features), features * [4.0, 0.0], atol=1e-6)
    again = keras.layers.deserialize(keras.layers.serialize(layer))
    assert (again.name, again.rate) == ("feature_scale", 6.0)


def test_what_tells_nothing_falls_silent_first() -> None:
    keras.utils.set_random_seed(3)
    features = np.random.default_rng(3).normal(size=(4_000, 8)).astype(np.float32)
    inputs = keras.Input((8,))
    scale = FeatureScale(6.0)
    network = keras.Model(inputs, keras.layers.Dense(1)(keras.layers.Dense(16, "relu")(scale(inputs))))
    network.compile(keras.optimizers.Adam(3e-3), keras.losses.MeanSquaredError(), jit_compile=False)
    network.fit(features, np.abs(features[:, :1]), batch_size=100, epochs=8, verbose=0)
    loudness = np.abs(1 + 6.0 * scale.weight.numpy())
    assert loudness[1:].max() < 0.7 * loudness[0]
