"""Batches of training rows: shuffled, gathered in bulk, and with as many frauds as asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf

from schemas.errors import ConfigurationError


def batches(
    inputs: Mapping[str, np.ndarray],
    labels: np.ndarray,
    batch_size: int,
    seed: int,
    *,
    fraud_share: float | None = None,
    first_pass: int = 0,
    context: tf.distribute.InputContext | None = None,
) -> tf.data.Dataset:
    """An endless dataset of shuffled whole batches, `(inputs, labels [batch, 1])`; rows are gathered in bulk.

    Every pass over the data has its own permutation, a function of the seed and the pass alone.  The few rows that do
    not fill a batch sit out one pass; the next permutation leaves out others.

    Args:
        inputs: `[rows, ...]` by name.
        labels: float32 `[rows]`.
        batch_size: rows per batch, at most all of them.
        seed: of the permutations.
        fraud_share: of each batch; None leaves rows as they come.  A pass then holds each genuine row once, and
            all frauds about equally often.
        first_pass: begin with this one.
        context: of several input pipelines, which this is, and how many replicas share a batch: each batch then is
            one replica's part of a whole one.  None hands over whole batches.

    Raises:
        ConfigurationError: see `frauds_per_batch` and `steps_per_pass`.
    """
    context = context or tf.distribute.InputContext()
    columns = {name: tf.constant(values) for name, values in inputs.items()}
    targets = tf.constant(labels.reshape(-1, 1))
    steps = steps_per_pass(labels, batch_size, fraud_share)
    pipelines, per_replica = context.num_input_pipelines, context.get_per_replica_batch_size(batch_size)
    order = _plain_order(len(labels)) if fraud_share is None else _balanced_order(labels, batch_size, fraud_share)

    def one_pass(number: tf.Tensor) -> tf.data.Dataset:
        rows = order(tf.stack([tf.constant(seed, tf.int64), number]))[: steps * batch_size]
        own = tf.reshape(rows, [steps, pipelines, -1])[:, context.input_pipeline_id]
        return tf.data.Dataset.from_tensor_slices(tf.reshape(own, [-1, per_replica]))

    def gather(chosen: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        return {name: tf.gather(values, chosen) for name, values in columns.items()}, tf.gather(targets, chosen)

    dataset = tf.data.Dataset.counter(start=first_pass).flat_map(one_pass)
    return dataset.map(gather, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(tf.data.AUTOTUNE)


def steps_per_pass(labels: np.ndarray, batch_size: int, fraud_share: float | None) -> int:
    """How many whole batches one pass over the rows makes.

    Raises:
        ConfigurationError: the genuine rows do not fill their part of one batch; also see `frauds_per_batch`.
    """
    if fraud_share is None:
        return len(labels) // batch_size
    genuine, wanted = int((labels == 0).sum()), batch_size - frauds_per_batch(batch_size, fraud_share)
    if genuine < wanted:
        raise ConfigurationError(
            f"training batches of {batch_size} rows with fraud_share {fraud_share} need {wanted} genuine rows each, "
            f"and there are {genuine}; use smaller batches or a larger share"
        )
    return genuine // wanted


def frauds_per_batch(batch_size: int, fraud_share: float) -> int:
    """The whole number of frauds that is nearest to the share.

    Raises:
        ConfigurationError: a batch of that share would hold one class alone.
    """
    frauds = round(batch_size * fraud_share)
    if not 0 < frauds < batch_size:
        raise ConfigurationError(
            f"training fraud_share {fraud_share} of batches of {batch_size} rows is {frauds} frauds; "
            "use larger batches or a share with both classes in them"
        )
    return frauds


def prior_correction(labels: np.ndarray, weight: float, batch_size: int, fraud_share: float | None) -> float:
    """What to add to a logit learned from weighted and balanced rows, so that its probability is at true prevalence.

    Weights and balance change nothing but the prior, whose log odds the logit contains as a summand (King and Zeng,
    2001): the correction is the log odds of the true prior less those of the one that the loss saw.

    Args:
        labels: `[rows]`, all that there are.
        weight: of a fraud against a genuine row in the loss.
        batch_size: rows per batch.
        fraud_share: of each batch; None where rows come as they are.
    """
    frauds = float(labels.sum())
    if frauds in (0.0, float(len(labels))):
        return 0.0
    correction = -math.log(weight)
    if fraud_share is not None:
        sampled = frauds_per_batch(batch_size, fraud_share)
        correction += math.log(frauds / (len(labels) - frauds)) - math.log(sampled / (batch_size - sampled))
    return correction


def _plain_order(rows: int) -> Callable[[tf.Tensor], tf.Tensor]:
    """Row numbers of a pass, by its seed: all, shuffled."""
    return lambda seed: tf.random.experimental.stateless_shuffle(tf.range(rows), seed)


def _balanced_order(labels: np.ndarray, batch_size: int, fraud_share: float) -> Callable[[tf.Tensor], tf.Tensor]:
    """Row numbers of a pass, by its seed: batch after batch, each with its frauds before its genuine rows."""
    frauds, genuine = tf.constant(np.flatnonzero(labels)), tf.constant(np.flatnonzero(labels == 0))
    steps, per_batch = steps_per_pass(labels, batch_size, fraud_share), frauds_per_batch(batch_size, fraud_share)

    def order(seed: tf.Tensor) -> tf.Tensor:
        # Frauds come round as often as are needed, in an order of their own.
        again = tf.range(steps * per_batch) % len(frauds)
        own = tf.random.experimental.stateless_fold_in(seed, 1)
        drawn = tf.gather(frauds, tf.random.experimental.stateless_shuffle(again, own))
        others = tf.random.experimental.stateless_shuffle(genuine, seed)[: steps * (batch_size - per_batch)]
        rows = tf.concat([tf.reshape(drawn, [steps, -1]), tf.reshape(others, [steps, -1])], axis=1)
        return tf.reshape(rows, [-1])

    return order
