"""The fit of a network: epoch after epoch until validation gets no better, going on behind the last when killed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from components.devices import is_chief
from components.encoding import quantile_bins
from components.model import Shape, fit_platt, network_inputs, positive_weight
from components.training import checkpoint as checkpoints
from components.training.batches import prior_correction
from components.training.checkpoint import EpochState
from components.training.config import TrainingConfig
from components.training.replicas import Replicas, batch_size, global_batch, network_of
from components.training.schedule import best_epoch, is_over, learning_rate
from components.transform import NUMERIC
from schemas.errors import ConfigurationError, LogError

Rows = tuple[Mapping[str, np.ndarray], np.ndarray]

# Rows that go through a graph at once outside training; large enough that a call's overhead vanishes.
_INFERENCE_BATCH = 16_384

# What a history holds, and under which of TensorBoard's runs each is drawn.
LOSS, AVERAGE_PRECISION, LEARNING_RATE = "loss", "val_average_precision", "learning_rate"
_CURVES = {LOSS: "train", LEARNING_RATE: "train", AVERAGE_PRECISION: "validation"}


@dataclass(frozen=True)
class Trained:
    """A fitted network, Platt's scaling for it, and how it got there.

    Attributes:
        network: in float32, of this process alone, whatever it was trained in and on.
        slope, intercept: of Platt's scaling.
        positive_weight: of a fraud in the loss.
        batch_size: as configured, or what was taken for the training rows.
        replicas: that trained it.
        history: `loss` and `learning_rate` of every epoch, and `val_average_precision` where there was a validation.
    """

    network: keras.Model
    slope: float
    intercept: float
    positive_weight: float
    batch_size: int
    replicas: int
    history: dict[str, list[float]]

    def probabilities(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """Calibrated scores `[rows]` of what the network reads."""
        return 1 / (1 + np.exp(-(self.slope * logits(self.network, inputs).astype(np.float64) + self.intercept)))


def fit(
    train: Rows,
    validation: Rows,
    shape: Shape,
    config: TrainingConfig,
    strategy: tf.distribute.Strategy,
    log_dir: Path | None = None,
    checkpoint: Path | None = None,
    on_epoch: Callable[[Mapping[str, list[float]]], None] = lambda history: None,
) -> Trained:
    """Trains the network and calibrates it on validation.

    The network's logit is corrected for weights and balance, so that it is of the rows as they are before Platt's
    scaling, too.

    Args:
        train: inputs by name and labels float32 `[rows]`.
        validation: likewise; early stopping and calibration read it.
        shape: what the network reads.
        config: how.
        strategy: where.
        log_dir: TensorBoard logs go here.
        checkpoint: a file that keeps each epoch's state, from which a training of the same rows and settings goes on;
            several workers have to see the same.  It stays there when training is done.
        on_epoch: called with the history behind each epoch.

    Raises:
        LogError: the training rows hold no fraud, so that there is nothing to learn.
        ConfigurationError: batches cannot be filled or divided, the loss is not finite, or workers see different
            checkpoints.
    """
    prepared = _Prepared.of(train, shape, config, strategy)
    held_out = network_inputs(validation[0], shape)
    score = _scorer(prepared.network)
    made_of, state = "", None
    if checkpoint is not None:
        made_of = checkpoints.digest(
            (prepared.inputs, train[1]), (held_out, validation[1]), shape, config, strategy.num_replicas_in_sync
        )
        state = checkpoints.read(checkpoint, made_of)
    history = {LOSS: [], AVERAGE_PRECISION: [], LEARNING_RATE: []} if state is None else state.history
    course, best = history[AVERAGE_PRECISION], [] if state is None else state.best
    if _mean(len(course), strategy) != len(course):
        raise ConfigurationError(f"{checkpoint} is not the same for all workers; put it on a volume that they share")
    replicas = prepared.replicas(len(course))
    if state is not None:
        logging.info("training goes on behind epoch %d of %s", len(course), checkpoint)
        replicas.restore(state.network, state.optimizer)
    chief = is_chief(strategy)
    with _curves(log_dir if chief else None) as draw:
        draw(history)
        while not is_over(course, config):
            rate = learning_rate(course, config, strategy.num_replicas_in_sync)
            history[LOSS].append(replicas.epoch(rate))
            history[LEARNING_RATE].append(rate)
            weights = replicas.network.get_weights()
            prepared.network.set_weights(weights)
            # Machines may round differently; all must stop at the same epoch.
            course.append(_mean(_average_precision(validation[1], score(held_out)), strategy))
            if best_epoch(course) == len(course) - 1:
                best = weights
            draw(history)
            if checkpoint is not None and chief:
                checkpoints.write(checkpoint, made_of, EpochState(history, *replicas.state(), best))
            on_epoch(history)
    prepared.network.set_weights(best)
    prepared.correct()
    slope, intercept = fit_platt(score(held_out), validation[1])
    return prepared.trained(slope, intercept, history)


def refit(
    train: Rows, shape: Shape, config: TrainingConfig, strategy: tf.distribute.Strategy, like: Trained
) -> Trained:
    """Trains again without a validation: for the epochs that led to the best of an earlier training, at their rates.

    Args:
        train: inputs by name and labels float32 `[rows]`; those of the earlier training and more, say.
        shape: what the network reads.
        config: how; its batch size, epochs, patience and schedule have no part in this.
        strategy: where.
        like: the earlier training.  Its calibration is taken over, since no row is left to learn another from.

    Raises:
        LogError, ConfigurationError: as `fit`.
    """
    prepared = _Prepared.of(train, shape, replace(config, batch_size=like.batch_size), strategy)
    replicas = prepared.replicas(0)
    rates = like.history[LEARNING_RATE][: best_epoch(like.history[AVERAGE_PRECISION]) + 1]
    history = {LOSS: [replicas.epoch(rate) for rate in rates], LEARNING_RATE: rates}
    prepared.network.set_weights(replicas.network.get_weights())
    prepared.correct()
    return prepared.trained(like.slope, like.intercept, history)


def binned(shape: Shape, numbers: np.ndarray, config: TrainingConfig) -> Shape:
    """The shape with the bins of training rows, `numeric` `[rows, N]`."""
    return replace(shape, bins=quantile_bins(numbers, config.bins))


def logits(network: keras.Model, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
    """The network's output for every row, float32 `[rows]`."""
    return _scorer(network)(inputs)


@dataclass(frozen=True)
class _Prepared:
    """What a training begins with: its rows, and the network of this process that takes up what replicas learn."""

    network: keras.Model
    inputs: Mapping[str, np.ndarray]
    labels: np.ndarray
    shape: Shape
    config: TrainingConfig
    weight: float
    strategy: tf.distribute.Strategy

    @staticmethod
    def of(train: Rows, shape: Shape, config: TrainingConfig, strategy: tf.distribute.Strategy) -> _Prepared:
        labels = train[1]
        if labels.sum() == 0:
            raise LogError(
                f"none of the {len(labels)} training rows is a fraud; give a longer log or check the label's mapping"
            )
        # Keras numbers what has no name by how many the process has made, and the names are saved with the model.
        keras.utils.clear_session(free_memory=False)
        keras.utils.set_random_seed(config.seed)
        shape = binned(shape, train[0][NUMERIC], config)
        network = network_of(shape, config)
        balanced = config.fraud_share is not None and config.positive_weight is None
        weight = 1.0 if balanced else positive_weight(labels, config.positive_weight)
        config = replace(config, batch_size=batch_size(len(labels), config))
        return _Prepared(network, network_inputs(train[0], shape), labels, shape, config, weight, strategy)

    def replicas(self, first_epoch: int) -> Replicas:
        return Replicas(self.inputs, self.labels, self.shape, self.config, self.weight, self.strategy, first_epoch)

    def correct(self) -> None:
        """Takes weights and balance out of the network's logit; its last bias has no other part in it."""
        size = global_batch(len(self.labels), self.config, self.strategy.num_replicas_in_sync)
        correction = prior_correction(self.labels, self.weight, size, self.config.fraud_share)
        self.network.get_layer("logit").bias.assign_add([correction])

    def trained(self, slope: float, intercept: float, history: dict[str, list[float]]) -> Trained:
        batch, replicas = batch_size(len(self.labels), self.config), self.strategy.num_replicas_in_sync
        return Trained(self.network, slope, intercept, self.weight, batch, replicas, history)


def _scorer(network: keras.Model) -> Callable[[Mapping[str, np.ndarray]], np.ndarray]:
    """From what the network reads to its output `[rows]`; Keras' `predict` costs more, and knows fewer strategies."""
    # Without a signature of its own the last, smaller batch would be traced anew.
    signature = {name: tf.TensorSpec(tensor.shape, tensor.dtype) for name, tensor in network.input.items()}
    apply = tf.function(lambda inputs: network(inputs, training=False), input_signature=[signature])

    def score(inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        rows = len(next(iter(inputs.values())))
        parts = [
            apply({name: tf.constant(inputs[name][at : at + _INFERENCE_BATCH]) for name in signature}).numpy()[:, 0]
            for at in range(0, rows, _INFERENCE_BATCH)
        ]
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    return score


def _average_precision(labels: np.ndarray, scores: np.ndarray) -> float:
    """Scikit-learn's; Keras' own area under the curve bins scores and misses the rare tail.  0 without a fraud."""
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(labels, scores)) if labels.any() else 0.0


def _mean(value: float, strategy: tf.distribute.Strategy) -> float:
    """The mean of what each worker has."""
    each = strategy.run(lambda: tf.constant(value, tf.float64))
    return float(strategy.reduce(tf.distribute.ReduceOp.MEAN, each, axis=None))


@contextmanager
def _curves(folder: Path | None) -> Iterator[Callable[[Mapping[str, list[float]]], None]]:
    """What writes a history for TensorBoard, each epoch once; it does nothing without a folder."""
    if folder is None:
        yield lambda history: None
        return
    written = 0
    with ExitStack() as stack:
        curves = {name: tf.summary.create_file_writer(str(folder / part)) for name, part in _CURVES.items()}
        for writer in curves.values():
            stack.callback(writer.close)

        def write(history: Mapping[str, list[float]]) -> None:
            nonlocal written
            for name, writer in curves.items():
                with writer.as_default():
                    for epoch, value in enumerate(history[name][written:], written):
                        tf.summary.scalar(f"epoch_{name.removeprefix('val_')}", value, step=epoch)
                writer.flush()
            written = len(history[LOSS])

        yield write
