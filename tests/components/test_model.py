"""The network's shape, the weight of a fraud, and Platt's scaling."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from components.model import Shape, build_network, calibrate, fit_platt, network_inputs, positive_weight


def floats(values):
    return np.array(values, np.float32)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def labels_drawn(probability, seed=0):
    return (np.random.default_rng(seed).random(len(probability)) < probability).astype(np.float32)


@pytest.mark.parametrize(
    "labels, configured, weight",
    [([0] * 16 + [1], None, 2.0), ([0, 0, 0, 1], 7.5, 7.5), ([0, 0], None, 1.0), ([1, 1], None, 0.0)],
)
def test_a_fraud_weighs_the_fourth_root_of_the_genuine_rows_it_stands_against_unless_configured(
    labels, configured, weight
):
    assert positive_weight(floats(labels), configured) == weight


def test_the_network_is_a_tower_over_numbers_and_an_embedding_per_text_input():
    network = build_network(Shape(10, ((5, 1), (257, 4), (1_000, 1))), (128, 64, 32), 0.3, seed=1)
    assert {name: tensor.shape for name, tensor in network.input.items()} == {
        "numeric": (None, 10),
        "categorical": (None, 6),
    }
    assert network.output_shape == (None, 1)
    embeddings = [layer for layer in network.layers if isinstance(layer, keras.layers.Embedding)]
    assert [(one.input_dim, one.output_dim) for one in embeddings] == [(5, 3), (257, 16), (1_000, 16)]
    dense = [layer for layer in network.layers if isinstance(layer, keras.layers.Dense)]
    assert [layer.units for layer in dense] == [128, 64, 32, 1]
    assert dense[0].kernel.shape == (10 + 3 + 4 * 16 + 16, 128)
    assert [layer.rate for layer in network.layers if isinstance(layer, keras.layers.Dropout)] == [0.3] * 3


def test_numbers_are_read_as_they_are_and_as_their_places_in_bins():
    network = build_network(Shape(2, (), ((0.0, 1.0, 3.0), ())), (4,), 0.0, seed=1)
    assert network.get_layer("dense_0").kernel.shape == (2 + 2, 4)
    read = keras.Model(network.input, network.get_layer("features").output)
    rows = np.array([[2.0, 5.0], [-1.0, 6.0]], np.float32)
    np.testing.assert_allclose(read({"numeric": rows}), [[2, 5, 1, 0.5], [-1, 6, 0, 0.0]])


def test_features_have_factors_where_they_are_asked_for():
    plain, scaled = (
        build_network(Shape(3, ((4, 1),)), (4,), 0.0, seed=1, block="gated", feature_rate=rate) for rate in (0.0, 6.0)
    )
    assert scaled.count_params() == plain.count_params() + 3 + 2
    assert scaled.get_layer("feature_scale").rate == 6.0
    assert not any(layer.name == "feature_scale" for layer in plain.layers)


@pytest.mark.parametrize("block", ["plain", "residual", "gated"])
def test_every_block_is_normalised_where_it_is_asked_for(block):
    plain, normalised = (
        build_network(Shape(3, ()), (4, 2), 0.0, seed=1, block=block, layer_norm=asked) for asked in (False, True)
    )
    norms = [layer for layer in normalised.layers if isinstance(layer, keras.layers.LayerNormalization)]
    assert len(norms) == 2
    assert normalised.count_params() == plain.count_params() + 2 * (4 + 2)
    rows = {"numeric": np.random.default_rng(1).normal(size=(50, 3)).astype(np.float32) * 100}
    behind = keras.Model(normalised.input, norms[0].output)(rows).numpy()
    np.testing.assert_allclose(behind.mean(axis=1), 0, atol=1e-5)
    np.testing.assert_allclose(behind.std(axis=1), 1, atol=1e-2)


def parameters(block, units):
    network = build_network(Shape(10, ()), units, 0.3, seed=1, block=block)
    assert network.output_shape == (None, 1)
    return network.count_params()


def test_a_residual_block_has_two_layers_and_projects_only_where_widths_differ():
    assert parameters("plain", (8,)) == 11 * 8 + 9
    assert parameters("residual", (10,)) == 2 * 11 * 10 + 11
    assert parameters("residual", (8,)) == 11 * 8 + 9 * 8 + 11 * 8 + 9


def test_what_a_gate_shuts_out_does_not_reach_the_logit():
    network = build_network(Shape(3, ()), (4,), 0.0, seed=1, block="gated")
    assert parameters("gated", (8,)) == 2 * 11 * 8 + 9
    gate, value = network.get_layer("gate_0"), network.get_layer("value_0")
    # a gate that is shut for large first numbers, whatever the other layer makes of them
    gate.set_weights([np.array([[-1e3] * 4, [0] * 4, [0] * 4], np.float32), np.zeros(4, np.float32)])
    assert np.any(value.get_weights()[0])
    rows = np.array([[5, 1, 1], [7, -1, 2], [-5, 1, 1]], np.float32)
    shut, also_shut, through = network({"numeric": rows}).numpy()[:, 0]
    assert shut == also_shut == 0
    assert through != 0


def test_without_text_the_network_reads_numbers_alone():
    shape = Shape(4, ())
    network = build_network(shape, (8,), 0.0, seed=1)
    assert list(network.input) == ["numeric"]
    arrays: dict[str, np.ndarray] = {"numeric": np.ones((2, 4), np.float32), "categorical": np.ones((2, 1), np.int64)}
    assert list(network_inputs(arrays, shape)) == ["numeric"]
    assert network(network_inputs(arrays, shape)).shape == (2, 1)


def test_a_seed_fixes_the_initial_weights_and_another_gives_others():
    # Embeddings and the last layer draw from Keras's own generator, which `fit` seeds too.
    one, same, other = (build_network(Shape(4, ()), (8, 4), 0.0, seed).get_weights() for seed in (1, 1, 2))
    np.testing.assert_array_equal(one[0], same[0])
    np.testing.assert_array_equal(one[2], same[2])
    assert not np.array_equal(one[0], other[0])


def test_text_inputs_have_embeddings_of_their_own_and_the_columns_of_a_vector_share_one():
    ids = np.array([[0, 1], [1, 0]])
    own, shared = (build_network(Shape(1, shape), (4,), 0.0, seed=1) for shape in (((3, 1), (3, 1)), ((3, 2),)))
    parts = [keras.Model(own.input, own.get_layer(f"embedded_{number}").output) for number in range(2)]
    first, second = (part({"numeric": np.zeros((2, 1)), "categorical": ids}).numpy() for part in parts)
    assert (first[0] != second[1]).any(), "both are of word 0"
    both = keras.Model(shared.input, shared.get_layer("embedded_0").output)
    words = both({"numeric": np.zeros((2, 1)), "categorical": ids}).numpy().reshape(2, 2, 2)
    np.testing.assert_array_equal(words[0, 0], words[1, 1])
    assert (words[0, 0] != words[0, 1]).any(), "places of a vector are told apart"


def test_a_calibrated_network_gives_the_probability_of_the_scaled_logit():
    network = build_network(Shape(3, ((4, 1),)), (8,), 0.5, seed=1)
    inputs = {
        "numeric": np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32),
        "categorical": np.arange(20, dtype=np.int64).reshape(20, 1) % 4,
    }
    logit = network(inputs, training=False).numpy()[:, 0]
    scores = calibrate(network, 0.7, -3.0)(inputs, training=False).numpy()
    assert (scores.shape, scores.dtype) == ((20,), np.float32)
    np.testing.assert_allclose(scores, sigmoid(0.7 * logit - 3.0), rtol=1e-5)


def test_platt_finds_the_scaling_that_the_labels_were_drawn_with():
    logits = np.random.default_rng(1).normal(0, 3, 50_000).astype(np.float32)
    slope, intercept = fit_platt(logits, labels_drawn(sigmoid(0.6 * logits - 4.0)))
    assert (slope, intercept) == (pytest.approx(0.6, rel=0.05), pytest.approx(-4.0, rel=0.05))


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_with_one_class_platt_changes_nothing(label):
    assert fit_platt(floats([-1, 0, 1]), np.full(3, label, np.float32)) == (1.0, 0.0)


def test_platt_never_turns_the_ranking_round_and_keeps_the_share_of_frauds():
    logits = np.random.default_rng(1).normal(0, 5, 20_000).astype(np.float32)
    labels = labels_drawn(sigmoid(-0.5 * logits - 3.0))
    slope, intercept = fit_platt(logits, labels)
    assert slope == 1.0
    assert sigmoid(logits.astype(np.float64) + intercept).mean() == pytest.approx(labels.mean(), rel=1e-6)


def test_platt_stays_finite_where_logits_separate_the_classes_or_say_nothing():
    labels = floats([0] * 50 + [1] * 5)
    for logits in (floats([-2] * 50 + [3] * 5), np.zeros(55, np.float32)):
        slope, intercept = fit_platt(logits, labels)
        scores = sigmoid(slope * logits.astype(np.float64) + intercept)
        assert 0 < slope < 100
        assert scores.mean() == pytest.approx(labels.mean(), rel=1e-6)


def test_platt_keeps_the_share_of_frauds_where_they_are_one_in_a_thousand():
    logits = np.random.default_rng(1).normal(2, 4, 40_000).astype(np.float32)
    labels = labels_drawn(sigmoid(0.8 * logits - 13.5))
    slope, intercept = fit_platt(logits, labels)
    assert 0 < labels.mean() < 0.002
    assert sigmoid(slope * logits.astype(np.float64) + intercept).mean() == pytest.approx(labels.mean(), rel=1e-6)
