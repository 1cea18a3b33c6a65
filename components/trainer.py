"""The training step: from the columns of the splits to a fitted network and its SavedModel."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from components import examples
from components.devices import is_chief, strategy_for_this_machine, use_logical_cpus
from components.explanations import average_genuine
from components.export import export_saved_model
from components.model import Shape, network_inputs
from components.thresholds import ThresholdConfig, choose_thresholds
from components.training import checkpoint as checkpoints
from components.training.config import TrainingConfig
from components.training.fit import Trained, fit, refit
from components.transform import CATEGORICAL, NUMERIC, vocabulary_name
from schemas import reasons
from schemas.bundle import Bundle
from schemas.features import FeatureSpec

__all__ = [
    "ThresholdConfig",
    "Trained",
    "TrainingConfig",
    "fit",
    "network_inputs",
    "network_shape",
    "refit",
    "train_and_export",
    "transform_split",
]


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


def train_and_export(
    examples_root: Path,
    spec: FeatureSpec,
    transform: tft.TFTransformOutput,
    config: TrainingConfig,
    threshold_config: ThresholdConfig,
    rules_digest: str,
    destination: Path,
    log_dir: Path,
    checkpoint: Path | None = None,
) -> Trained:
    """Trains on the splits below `examples_root` and writes the SavedModel, with its bundle, to `destination`.

    Of several workers, each calls this with the same splits and settings, and the chief alone writes.

    Args:
        rules_digest: of the rule set beside which the model is to decide; part of its bundle.
        checkpoint: as for `fit`; removed when the SavedModel is there.

    Raises:
        LogError: as `fit`.
        ConfigurationError: as `fit`, or TensorFlow already runs with other devices than those configured.
    """
    use_logical_cpus(config.logical_cpu_devices)
    # Of several workers, TensorFlow hears only before its first operation.
    strategy = strategy_for_this_machine()
    train = transform_split(examples_root, "train", spec, transform)
    validation = transform_split(examples_root, "validation", spec, transform)
    shape = network_shape(train[0], spec, transform)
    trained = fit(train, validation, shape, config, strategy, log_dir, checkpoint)
    if not is_chief(strategy):
        return trained
    thresholds = choose_thresholds(
        validation[1],
        trained.probabilities(network_inputs(validation[0], shape)),
        examples.read_rows(examples_root, "validation")["amount_base_minor"].to_numpy(),
        threshold_config,
    )
    reference = average_genuine(trained.network, network_inputs(train[0], shape), train[1])
    warm_up, _ = next(examples.read_batches(examples_root, "validation", spec))
    bundle = Bundle(spec, thresholds, rules_digest, reasons.VERSION)
    export_saved_model(trained, shape, bundle, transform, reference, warm_up, destination)
    if checkpoint is not None:
        checkpoints.remove(checkpoint)
    return trained
