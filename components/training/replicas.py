"""The training steps: one loop for one device, several devices and several machines."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from components.devices import precision_of_devices
from components.model import Shape, build_network
from components.training.batches import batches, steps_per_pass
from components.training.config import TrainingConfig
from schemas.errors import ConfigurationError

# Python is entered once for so many steps, and an interrupt is heard as often.
_STEPS_PER_CALL = 100
# Of what a batch is taken from where none is configured.
_BATCHES, _STEPS_PER_EPOCH = (2_048, 1_024, 512, 256), 150


class Replicas:
    """A network with a copy on every replica of a strategy, all trained on their parts of the same batches.

    Gradients are summed over replicas and rows and divided by the rows of the whole batch, so that the steps are those
    that one device would make.  Keras' own `fit` knows no strategy of several machines (keras-team/keras#20585).

    Args:
        inputs: what the network reads, `[rows, ...]` by name; on several machines, the same on each.
        labels: float32 `[rows]`.
        shape: what the network reads.
        config: how.
        weight: of a fraud in the loss.
        strategy: where.
        first_epoch: how many came before; it says where in the data to begin.

    Raises:
        ConfigurationError: the rows cannot be divided into batches, or a batch among the replicas.
    """

    def __init__(
        self,
        inputs: Mapping[str, np.ndarray],
        labels: np.ndarray,
        shape: Shape,
        config: TrainingConfig,
        weight: float,
        strategy: tf.distribute.Strategy,
        first_epoch: int = 0,
    ) -> None:
        self._config, self._strategy = config, strategy
        size = global_batch(len(labels), config, strategy.num_replicas_in_sync)
        self._steps = steps_per_pass(labels, size, config.fraud_share)
        keras.utils.set_random_seed(config.seed)
        with strategy.scope():
            precision = precision_of_devices(config.precision)
            self.network = network_of(shape, config, precision)
            self._optimizer = _optimizer(config, precision)
            self._optimizer.build(self.network.trainable_variables)
            self._loss = tf.Variable(
                0.0,
                trainable=False,
                synchronization=tf.VariableSynchronization.ON_READ,
                aggregation=tf.VariableAggregation.SUM,
            )
        dataset = strategy.distribute_datasets_from_function(
            lambda context: batches(
                inputs,
                labels,
                size,
                config.seed,
                fraud_share=config.fraud_share,
                first_pass=first_epoch,
                context=context,
            )
        )
        self._batches = iter(dataset)
        self._run = self._make_run(weighted_cross_entropy(weight), size)

    def _make_run(self, loss_of: Callable[[tf.Tensor, tf.Tensor], tf.Tensor], size: int) -> Callable[..., None]:
        network, optimizer = self.network, self._optimizer

        def step(inputs: Mapping[str, tf.Tensor], labels: tf.Tensor) -> None:
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(loss_of(labels, network(inputs, training=True))) / size
                scaled = optimizer.scale_loss(loss)
            weights = network.trainable_variables
            # It sums over replicas.
            optimizer.apply(tape.gradient(scaled, weights), weights)
            self._loss.assign_add(loss)

        @tf.function
        def run(iterator: tf.data.Iterator, count: tf.Tensor) -> None:
            for _ in tf.range(count):
                self._strategy.run(step, args=next(iterator))

        return run

    def epoch(self, learning_rate: float) -> float:
        """One pass over the rows at a rate; the mean loss of its steps.

        Raises:
            ConfigurationError: the loss is not finite any more.
        """
        self._optimizer.learning_rate.assign(learning_rate)
        self._loss.assign(0.0)
        for first in range(0, self._steps, _STEPS_PER_CALL):
            self._run(self._batches, tf.constant(min(_STEPS_PER_CALL, self._steps - first)))
        loss = float(self._loss.read_value()) / self._steps
        if not math.isfinite(loss):
            raise ConfigurationError(
                f"the loss of training became {loss} at a learning_rate of {learning_rate:g}; lower training "
                f"learning_rate, which is {self._config.learning_rate}"
            )
        return loss

    @property
    def steps_made(self) -> int:
        """Steps of the optimizer, those before a restored state included."""
        return int(self._optimizer.iterations.numpy())

    def state(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Variables of network and optimizer; see `restore`."""
        return _values(self.network.variables), _values(self._optimizer.variables)

    def restore(self, network: Sequence[np.ndarray], optimizer: Sequence[np.ndarray]) -> None:
        """Takes up what `state` gave."""
        for variables, values in ((self.network.variables, network), (self._optimizer.variables, optimizer)):
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)


def network_of(shape: Shape, config: TrainingConfig, precision: str = "float32") -> keras.Model:
    """The network that a configuration asks for, as `build_network` makes it."""
    return build_network(
        shape,
        config.units,
        config.dropout,
        config.seed,
        block=config.block,
        feature_rate=config.feature_rate,
        layer_norm=config.layer_norm,
        precision=precision,
    )


def batch_size(rows: int, config: TrainingConfig) -> int:
    """As configured, or else the largest of those that leave an epoch of so many rows enough steps."""
    enough = (size for size in _BATCHES if rows >= _STEPS_PER_EPOCH * size)
    return config.batch_size or next(enough, _BATCHES[-1])


def global_batch(rows: int, config: TrainingConfig, replicas: int) -> int:
    """Rows per step over all replicas, of which each gets as many, and no more than there are.

    Raises:
        ConfigurationError: there are fewer rows than replicas.
    """
    wanted = batch_size(rows, config) * (replicas if config.scaling == "linear" else 1)
    size = min(wanted, rows)
    if size < replicas:
        raise ConfigurationError(
            f"batches of {size} rows cannot be divided among {replicas} devices; "
            "use larger batches, more data or fewer devices"
        )
    return size // replicas * replicas


def weighted_cross_entropy(weight: float) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """The loss: cross-entropy of labels and logits, both `[batch, 1]`, frauds counted `weight` times; `[batch]`."""

    def loss(labels: tf.Tensor, logit: tf.Tensor) -> tf.Tensor:
        labels = tf.cast(labels, logit.dtype)
        entropy = tf.nn.weighted_cross_entropy_with_logits(labels, logit, weight)
        return tf.reduce_mean(entropy, axis=-1)

    return loss


def _optimizer(config: TrainingConfig, precision: str) -> keras.optimizers.Optimizer:
    optimizer = keras.optimizers.Adam(config.learning_rate, weight_decay=config.weight_decay or None)
    if config.weight_decay:
        optimizer.exclude_from_weight_decay(var_names=["bias"])
    # Gradients of float16 vanish unless the loss is scaled up; bfloat16 has the range of float32.
    return keras.optimizers.LossScaleOptimizer(optimizer) if precision == "mixed_float16" else optimizer


def _values(variables: Sequence[keras.Variable]) -> list[np.ndarray]:
    return [np.asarray(variable.numpy()) for variable in variables]
