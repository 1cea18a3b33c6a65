"""Training: a class-weighted network on whatever devices there are, stopped early on validation average precision."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from components import examples
from components.devices import strategy_for_this_machine, use_logical_cpus
from components.evidence import choose_thresholds
from components.explanations import average_genuine
from components.export import export_saved_model
from components.model import Shape, build_network, fit_platt, network_inputs, positive_weight
from components.transform import CATEGORICAL, NUMERIC, vocabulary_name
from schemas import reasons
from schemas.bundle import Bundle
from schemas.errors import ConfigurationError, LogError
from schemas.features import FeatureSpec

# Rows that go through a graph at once outside training; large enough that a call's overhead vanishes.
_INFERENCE_BATCH = 16_384


@dataclass(frozen=True)
class TrainingConfig:
    """How the network is trained.

    Attributes:
        units: widths of the hidden layers.
        dropout: share of activations dropped behind each of them.
        batch_size: rows per step over all replicas together.
        learning_rate: of Adam, for that batch.
        epochs: at most so many.
        patience: epochs without a better validation average precision before training stops.
        positive_weight: weight of a fraud against a genuine row; None takes the square root of
            genuine rows per fraud in the data.
        seed: of initial weights, dropout and shuffling.
        logical_cpu_devices: as how many devices the CPU counts, where there is no GPU; each trains a replica.  None
            leaves it one device.
    """

    units: tuple[int, ...] = (128, 64, 32)
    dropout: float = 0.3
    batch_size: int = 2_048
    learning_rate: float = 1e-3
    epochs: int = 30
    patience: int = 4
    positive_weight: float | None = None
    seed: int = 7
    logical_cpu_devices: int | None = None

    def __post_init__(self) -> None:
        for name in ("batch_size", "learning_rate", "epochs", "patience", "positive_weight", "logical_cpu_devices"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ConfigurationError(f"training {name} is {value}; it must be above 0 and finite")
        if not self.units or min(self.units) < 1 or not 0 <= self.dropout < 1:
            raise ConfigurationError(f"training units {self.units} and dropout {self.dropout} make no network")
        if self.seed < 0:
            raise ConfigurationError(f"training seed is {self.seed}; it must be 0 or more")


@dataclass(frozen=True)
class ThresholdConfig:
    """What REVIEW and BLOCK may cost: see `components.evidence.choose_thresholds`."""

    alert_budget: float = 0.005
    block_precision: float = 0.8

    def __post_init__(self) -> None:
        for name in ("alert_budget", "block_precision"):
            if not 0 < getattr(self, name) <= 1:
                raise ConfigurationError(
                    f"thresholds {name} is {getattr(self, name)}; it is a share, above 0 and at most 1"
                )


@dataclass(frozen=True)
class Trained:
    """A fitted network, Platt's scaling for it, and how it got there."""

    network: keras.Model
    slope: float
    intercept: float
    positive_weight: float
    replicas: int
    history: dict[str, list[float]]

    def probabilities(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """Calibrated scores `[rows]` of what the network reads."""
        return 1 / (1 + np.exp(-(self.slope * logits(self.network, inputs).astype(np.float64) + self.intercept)))


def transform_split(
    root: Path, split: str, spec: FeatureSpec, transform: tft.TFTransformOutput
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """What the network reads of a split (`numeric` `[rows, N]`, `categorical` `[rows, C]`) and labels float32 `[rows]`.

    The transform graph runs once over whole row groups, not once per row and epoch.
    """
    layer = transform.transform_features_layer()
    # One concrete signature whatever the size of the last batch.
    widths = {i.name: i.width for i in spec.inputs}
    texts = {i.name for i in spec.categorical}
    signature = {
        name: tf.TensorSpec([None] if width == 1 else [None, width], tf.string if name in texts else tf.float32)
        for name, width in widths.items()
    }
    apply = tf.function(lambda raw: layer(raw), input_signature=[signature])
    parts: dict[str, list[np.ndarray]] = {NUMERIC: [], CATEGORICAL: []}
    labels = []
    for raw, label in examples.read_batches(root, split, spec):
        outputs = apply({name: tf.constant(values) for name, values in raw.items()})
        for name in parts.keys() & outputs.keys():
            parts[name].append(outputs[name].numpy())
        labels.append(label)
    return {name: np.concatenate(values) for name, values in parts.items() if values}, np.concatenate(labels)


def network_shape(transformed: Mapping[str, np.ndarray], spec: FeatureSpec, transform: tft.TFTransformOutput) -> Shape:
    """The shape of the network for these arrays; each vocabulary has one more id, for words that it lacks."""
    sizes = {i.name: transform.vocabulary_size_by_name(vocabulary_name(i.name)) + 1 for i in spec.categorical}
    return Shape(transformed[NUMERIC].shape[1], tuple((sizes[i.name], i.width) for i in spec.categorical))


def batches(inputs: Mapping[str, np.ndarray], labels: np.ndarray, batch_size: int, seed: int) -> tf.data.Dataset:
    """An endless dataset of shuffled whole batches, `(inputs, labels [batch, 1])`; rows are gathered in bulk.

    Every pass over the data has its own permutation, a function of the seed and the pass alone.  The few rows that do
    not fill a batch sit out one pass; the next permutation leaves out others.

    Args:
        inputs: `[rows, ...]` by name.
        labels: float32 `[rows]`.
        batch_size: rows per batch, at most all of them.
        seed: of the permutations.
    """
    columns = {name: tf.constant(values) for name, values in inputs.items()}
    targets = tf.constant(labels.reshape(-1, 1))
    rows = len(labels)
    full = rows // batch_size * batch_size

    def one_pass(number: tf.Tensor) -> tf.data.Dataset:
        order = tf.random.experimental.stateless_shuffle(
            tf.range(rows), tf.stack([tf.constant(seed, tf.int64), number])
        )
        return tf.data.Dataset.from_tensor_slices(tf.reshape(order[:full], [-1, batch_size]))

    def gather(chosen: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        return {name: tf.gather(values, chosen) for name, values in columns.items()}, tf.gather(targets, chosen)

    dataset = tf.data.Dataset.counter().flat_map(one_pass)
    return dataset.map(gather, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(tf.data.AUTOTUNE)


def logits(network: keras.Model, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
    """The network's output for every row, `[rows]`."""
    return network.predict(dict(inputs), batch_size=_INFERENCE_BATCH, verbose=0)[:, 0]


class _ValidationAveragePrecision(keras.callbacks.Callback):
    """Adds average precision on validation to the logs; Keras's own PR AUC bins scores and misses the rare tail."""

    def __init__(self, inputs: Mapping[str, np.ndarray], labels: np.ndarray) -> None:
        super().__init__()
        self._inputs, self._labels = inputs, labels

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        from sklearn.metrics import average_precision_score

        if logs is not None:
            scores = logits(self.model, self._inputs)
            logs["val_average_precision"] = (
                float(average_precision_score(self._labels, scores)) if self._labels.any() else 0.0
            )


def fit(
    train: tuple[Mapping[str, np.ndarray], np.ndarray],
    validation: tuple[Mapping[str, np.ndarray], np.ndarray],
    shape: Shape,
    config: TrainingConfig,
    strategy: tf.distribute.Strategy,
    log_dir: Path | None = None,
) -> Trained:
    """Trains the network and calibrates it on validation.

    Args:
        train: inputs by name and labels float32 `[rows]`.
        validation: likewise; early stopping and calibration read it.
        shape: what the network reads.
        config: how.
        strategy: where; gradients are averaged over its replicas.
        log_dir: TensorBoard logs go here.

    Raises:
        LogError: the training rows hold no fraud, so that there is nothing to learn.
        ConfigurationError: a batch has fewer rows than there are replicas.
    """
    frauds = int(train[1].sum())
    if frauds == 0:
        raise LogError(
            f"none of the {len(train[1])} training rows is a fraud; give a longer log or check the label's mapping"
        )
    inputs, labels = network_inputs(train[0], shape), train[1]
    size = _global_batch(min(config.batch_size, len(labels)), strategy.num_replicas_in_sync)
    # Keras numbers what has no name by how many the process has made, and the names are saved with the model.
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(config.seed)
    held_out = network_inputs(validation[0], shape)
    weight = positive_weight(labels, config.positive_weight)
    with strategy.scope():
        network = build_network(shape, config.units, config.dropout, config.seed)
        network.compile(keras.optimizers.Adam(config.learning_rate), weighted_cross_entropy(weight), jit_compile=False)
    callbacks: list[keras.callbacks.Callback] = [
        _ValidationAveragePrecision(held_out, validation[1]),
        keras.callbacks.EarlyStopping(
            "val_average_precision", mode="max", patience=config.patience, restore_best_weights=True
        ),
        keras.callbacks.ReduceLROnPlateau(
            "val_average_precision", mode="max", factor=0.3, patience=max(1, config.patience // 2)
        ),
    ]
    if log_dir is not None:
        callbacks.append(keras.callbacks.TensorBoard(str(log_dir), write_graph=False))
    history = network.fit(
        batches(inputs, labels, size, config.seed),
        steps_per_epoch=len(labels) // size,
        epochs=config.epochs,
        callbacks=callbacks,
        shuffle=False,
        verbose=0,
    )
    slope, intercept = fit_platt(logits(network, held_out), validation[1])
    return Trained(
        network,
        slope,
        intercept,
        weight,
        strategy.num_replicas_in_sync,
        {name: [float(value) for value in values] for name, values in history.history.items()},
    )


def _global_batch(rows: int, replicas: int) -> int:
    """Rows per step, cut so that every replica gets as many: gradients are averaged over replicas, not over rows."""
    if rows < replicas:
        raise ConfigurationError(
            f"batches of {rows} rows cannot be divided among {replicas} devices; "
            "use larger batches, more data or fewer devices"
        )
    return rows // replicas * replicas


def weighted_cross_entropy(weight: float) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """The loss: cross-entropy of labels `[batch, 1]` and logits `[batch, 1]`, frauds counted `weight` times; `[batch]`.

    Keras averages it over the batch, and over the replicas that share one.
    """

    def loss(labels: tf.Tensor, logit: tf.Tensor) -> tf.Tensor:
        labels = tf.cast(labels, logit.dtype)
        entropy = tf.nn.weighted_cross_entropy_with_logits(labels, logit, weight)
        return tf.reduce_mean(entropy, axis=-1)

    return loss


def train_and_export(
    examples_root: Path,
    spec: FeatureSpec,
    transform: tft.TFTransformOutput,
    config: TrainingConfig,
    threshold_config: ThresholdConfig,
    rules_digest: str,
    destination: Path,
    log_dir: Path,
) -> Trained:
    """Trains on the splits below `examples_root` and writes the SavedModel, with its bundle, to `destination`.

    Args:
        rules_digest: of the rule set beside which the model is to decide; part of its bundle.

    Raises:
        LogError: as `fit`.
        ConfigurationError: as `fit`, or TensorFlow already runs with other devices than those configured.
    """
    use_logical_cpus(config.logical_cpu_devices)
    train = transform_split(examples_root, "train", spec, transform)
    validation = transform_split(examples_root, "validation", spec, transform)
    shape = network_shape(train[0], spec, transform)
    trained = fit(train, validation, shape, config, strategy_for_this_machine(), log_dir)
    thresholds = choose_thresholds(
        validation[1],
        trained.probabilities(network_inputs(validation[0], shape)),
        threshold_config.alert_budget,
        threshold_config.block_precision,
    )
    reference = average_genuine(trained.network, network_inputs(train[0], shape), train[1])
    warm_up, _ = next(examples.read_batches(examples_root, "validation", spec))
    bundle = Bundle(spec, thresholds, rules_digest, reasons.VERSION)
    export_saved_model(trained, shape, bundle, transform, reference, warm_up, destination)
    return trained
