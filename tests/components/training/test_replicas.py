"""The steps of training on one device: the loss, the optimizer's settings, and what goes wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from components.training.replicas import Replicas, global_batch, weighted_cross_entropy
from schemas.errors import ConfigurationError
from tests.components.training.rows import SHAPE, SMALL, rows


def replicas(**settings):
    inputs, labels = rows(1_000, 1)
    return Replicas(inputs, labels, SHAPE, replace(SMALL, **settings), 3.0, tf.distribute.get_strategy())


def test_the_loss_counts_a_fraud_as_often_as_it_weighs():
    logit = tf.constant([[0.3], [-1.2], [2.0]])
    labels = tf.constant([[1.0], [0.0], [1.0]])
    probability = 1 / (1 + np.exp(-logit.numpy()[:, 0]))
    wanted = -np.log(np.where(labels.numpy()[:, 0] == 1, probability**5, 1 - probability))
    np.testing.assert_allclose(weighted_cross_entropy(5.0)(labels, logit).numpy(), wanted, rtol=1e-6)


def test_without_a_rate_an_epoch_tells_the_loss_of_its_rows_and_changes_nothing():
    own = replicas(batch_size=1_000, dropout=0.0)
    before = own.network.get_weights()
    inputs, labels = rows(1_000, 1)
    wanted = weighted_cross_entropy(3.0)(labels.reshape(-1, 1), own.network(inputs)).numpy().mean()
    assert own.epoch(0.0) == pytest.approx(wanted, rel=1e-4)
    for one, other in zip(before, own.network.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_weight_decay_shrinks_weights_and_leaves_biases():
    # Every step takes the same share of a weight, whatever its gradient: what differs from Adam is the decay alone.
    plain, decayed = (replicas(batch_size=1_000, dropout=0.0, weight_decay=decay) for decay in (0.0, 0.5))
    start = plain.network.get_layer("dense_0").get_weights()[0]
    plain.epoch(0.01)
    decayed.epoch(0.01)
    kernel, bias = plain.network.get_layer("dense_0").get_weights()
    smaller, same = decayed.network.get_layer("dense_0").get_weights()
    np.testing.assert_allclose(kernel - smaller, start * 0.5 * 0.01, atol=1e-6)
    np.testing.assert_allclose(bias, same, atol=1e-7)


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_learns_with_weights_and_logits_of_32_bits(precision):
    own = replicas(precision=precision, dropout=0.0, learning_rate=0.02)
    assert own.network.get_layer("dense_0").compute_dtype == precision.removeprefix("mixed_")
    first, *_, last = [own.epoch(0.02) for _ in range(3)]
    assert last < 0.9 * first
    assert {weight.dtype for weight in own.network.get_weights()} == {np.dtype(np.float32)}
    assert own.network(rows(4, 2)[0]).dtype == tf.float32


def test_a_loss_that_is_no_number_ends_training():
    with pytest.raises(ConfigurationError, match=r"loss of training became nan at a learning_rate of 0\.01; lower"):
        own = replicas()
        own.network.get_layer("logit").bias.assign([np.nan])
        own.epoch(0.01)


@pytest.mark.parametrize(
    "rows, replicas, scaling, wanted",
    [(1_000, 1, "none", 64), (1_000, 3, "none", 63), (1_000, 3, "linear", 192), (50, 4, "linear", 48)],
)
def test_each_replica_gets_as_many_rows_of_a_batch(rows, replicas, scaling, wanted):
    assert global_batch(rows, replace(SMALL, scaling=scaling), replicas) == wanted


@pytest.mark.parametrize(
    "rows, wanted",
    [(1_000_000, 2_048), (307_200, 2_048), (307_199, 1_024), (100_000, 512), (76_799, 256), (1_000, 256), (100, 100)],
)
def test_without_a_batch_size_small_logs_make_small_batches(rows, wanted):
    assert global_batch(rows, replace(SMALL, batch_size=None), 1) == wanted


def test_a_batch_that_cannot_be_divided_is_refused():
    with pytest.raises(ConfigurationError, match="batches of 1 rows cannot be divided among 2 devices"):
        global_batch(100, replace(SMALL, batch_size=1), 2)
