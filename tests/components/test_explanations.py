"""Integrated gradients: what they sum to, what they compare with, and whose a column's share is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

from components.explanations import STEPS, Parts, average_genuine, credit, cut, integrated_gradients
from components.model import Shape, build_network
from components.transform import CATEGORICAL, NUMERIC, sources
from schemas import sources as mappings
from schemas.features import AMOUNT, specify

SPEC = specify(mappings.load("simulated").provided)
SHAPE = Shape(3, ((5, 1), (4, 2)))


def rows(count: int, seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    ids = np.stack([random.integers(0, size, count) for size in (5, 4, 4)], axis=1)
    return {NUMERIC: random.normal(size=(count, 3)).astype(np.float32), CATEGORICAL: ids}


def explained(network: keras.Model, inputs: dict[str, np.ndarray], reference: list[np.ndarray]) -> list[np.ndarray]:
    parts = cut(network)
    found = integrated_gradients(parts.judge, parts.read(inputs), reference, STEPS, parts.encode)
    return [one.numpy() for one in found]


def of_tensors(parts: Parts, tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    """The logit of what is read of rows."""
    numbers, *embedded = tensors
    return parts.judge([numbers, *([] if parts.encode is None else [parts.encode(numbers)]), *embedded])


def judged(network: keras.Model, inputs: dict[str, np.ndarray]) -> tf.Tensor:
    parts = cut(network)
    return of_tensors(parts, parts.read(inputs))


@pytest.fixture(scope="module")
def linear() -> keras.Model:
    return build_network(SHAPE, (), 0.0, seed=5)


BINS = ((-1.0, -0.5, 0.5, 1.0), (), (0.1, 0.2, 0.5))


@pytest.fixture(scope="module", params=[((), False), (BINS, False), (BINS, True)], ids=["plain", "bins", "normalised"])
def deep(request: pytest.FixtureRequest) -> keras.Model:
    bins, layer_norm = request.param
    keras.utils.set_random_seed(5)
    network = build_network(
        replace(SHAPE, bins=bins), (32, 16), 0.3, seed=5, feature_rate=20.0 * layer_norm, layer_norm=layer_norm
    )
    for layer in network.layers:
        if isinstance(layer, keras.layers.Dense) and layer.name != "logit":
            layer.bias.assign(np.random.default_rng(1).normal(size=layer.bias.shape))
    return network


def test_the_parts_of_a_network_give_what_it_gives(deep):
    inputs = rows(20, 1)
    np.testing.assert_allclose(judged(deep, inputs), deep(inputs), rtol=1e-5, atol=1e-6)


def test_the_reference_is_the_mean_of_genuine_rows_alone(deep):
    inputs, labels = rows(200, 2), np.zeros(200, np.float32)
    labels[150:] = 1
    read = cut(deep).read
    for found, tensor in zip(average_genuine(deep, inputs, labels), read(inputs), strict=True):
        np.testing.assert_allclose(found, tensor.numpy()[:150].mean(axis=0), atol=1e-6)
        assert found.dtype == np.float32


def test_of_a_linear_network_every_attribution_is_its_term(linear):
    """Numbers, words and vectors of words each have their own weights; exchanged for one another they would show."""
    inputs = rows(20, 3)
    reference = average_genuine(linear, rows(200, 4), np.zeros(200, np.float32))
    weights = linear.get_layer("logit").kernel.numpy()[:, 0]
    of_number, of_word, of_vector = np.split(weights, [3, 3 + 3])
    numeric, word, vector = explained(linear, inputs, reference)
    read = [one.numpy() for one in cut(linear).read(inputs)]
    np.testing.assert_allclose(numeric, of_number * (read[0] - reference[0]), atol=1e-5)
    np.testing.assert_allclose(word, of_word * (read[1] - reference[1]), atol=1e-5)
    np.testing.assert_allclose(vector, of_vector.reshape(2, 2) * (read[2] - reference[2]), atol=1e-5)


def test_attributions_sum_to_what_the_reference_lacks(deep):
    inputs = rows(200, 5)
    reference = average_genuine(deep, inputs, np.zeros(200, np.float32))
    sums = sum(one.reshape(200, -1).sum(axis=1) for one in explained(deep, inputs, reference))
    ways = deep(inputs).numpy()[:, 0] - of_tensors(cut(deep), [tf.constant(one[np.newaxis]) for one in reference])[0, 0]
    assert np.abs(sums - ways).max() < 0.03 * np.abs(ways).max()


def test_a_bin_that_is_narrower_than_a_step_gets_all_that_it_gives():
    """At the one point of the line within it the derivative is a thousand times what any step sees."""
    network = build_network(Shape(1, (), ((0.4999, 0.5, 2.0),)), (), 0.0, seed=1)
    network.get_layer("logit").set_weights([np.array([[0], [3], [1]], np.float32), np.zeros(1, np.float32)])
    parts, one = cut(network), tf.ones((1, 1))
    number, places = integrated_gradients(parts.judge, [one], [np.zeros(1, np.float32)], STEPS, parts.encode)
    np.testing.assert_allclose(number, [[0]])
    np.testing.assert_allclose(places, [[3, 1 / 3]], rtol=1e-5)


def test_what_a_function_does_not_read_has_no_part_in_it():
    given = [tf.constant([[1.0, 2.0]]), tf.constant([[3.0]])]
    read, idle = integrated_gradients(lambda one: one[0][:, 0] ** 2, given, [np.zeros(2), np.zeros(1)], 8)
    np.testing.assert_allclose(read.numpy(), [[1.0, 0.0]], atol=1e-6)
    np.testing.assert_array_equal(idle.numpy(), [[0.0]])


def test_every_column_gives_all_it_has_and_every_number_gets_some():
    shares = credit(SPEC)
    assert shares.shape == (len(sources(SPEC)), SPEC.numeric_width)
    np.testing.assert_allclose(shares.sum(axis=1), 1.0)
    assert (shares.sum(axis=0) > 0).all()


def test_a_ratio_belongs_to_the_habit_that_the_amount_is_set_against():
    names = [i.name for i in SPEC.numeric for _ in range(i.width)]
    made_of_several = [row for row, made_of in enumerate(sources(SPEC)) if len(made_of) > 1]
    shares = credit(SPEC)
    assert len(made_of_several) == 9
    assert not shares[made_of_several][:, names.index(AMOUNT)].any()
    assert shares[:, names.index(AMOUNT)].sum() == 1.0
