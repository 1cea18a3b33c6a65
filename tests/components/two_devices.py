"""Trains on two logical CPU devices and prints what came of it; a program of its own, because TensorFlow counts its
devices when it starts.

Arguments: folder of the tiny examples, folder of their transform graph, folder for the model.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from components.devices import strategy_for_this_machine, use_logical_cpus
from components.model import Shape, build_network
from components.trainer import ThresholdConfig, TrainingConfig, batches, fit, train_and_export, weighted_cross_entropy
from schemas import sources
from schemas.errors import ConfigurationError
from schemas.features import specify
from tests.components import tiny

SHAPE = Shape(3, ((4, 1),))


def replicas_agree(network: keras.Model, strategy: tf.distribute.Strategy) -> bool:
    """Whether each variable has a component per replica, and all components are equal."""
    for variable in network.variables:
        parts = [part.numpy() for part in strategy.experimental_local_results(variable.value)]
        if len(parts) != strategy.num_replicas_in_sync or not all(np.array_equal(parts[0], part) for part in parts):
            return False
    return True


def rows(count: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    rng = np.random.default_rng(1)
    numeric = rng.normal(size=(count, 3)).astype(np.float32)
    return {"numeric": numeric, "categorical": rng.integers(0, 4, (count, 1))}, (numeric[:, 0] > 1).astype(np.float32)


def descended(strategy: tf.distribute.Strategy) -> tuple[list[np.ndarray], float]:
    """Weights and mean loss after three steps of plain gradient descent, whose steps are as long as its gradients."""
    keras.utils.set_random_seed(5)
    with strategy.scope():
        network = build_network(SHAPE, (8, 4), dropout=0.0, seed=5)
        network.compile(keras.optimizers.SGD(0.5), weighted_cross_entropy(3.0), jit_compile=False)
    history = network.fit(batches(*rows(96), 32, seed=5), steps_per_epoch=3, epochs=1, shuffle=False, verbose=0)
    return network.get_weights(), history.history["loss"][0]


def refusal(batch_size: int, strategy: tf.distribute.Strategy) -> str:
    try:
        fit(rows(96), rows(96), SHAPE, TrainingConfig(batch_size=batch_size, epochs=1), strategy)
    except ConfigurationError as error:
        return str(error)
    return ""


def other_number() -> str:
    try:
        use_logical_cpus(3)
    except ConfigurationError as error:
        return str(error)
    return ""


def main(examples: str, transform_graph: str, destination: str) -> dict[str, Any]:
    settings = TrainingConfig(units=(16, 8), batch_size=255, epochs=2, logical_cpu_devices=2)
    trained = train_and_export(
        Path(examples),
        specify(sources.load("simulated").provided),
        tft.TFTransformOutput(transform_graph),
        settings,
        ThresholdConfig(),
        tiny.RULES_DIGEST,
        Path(destination) / "saved_model",
        Path(destination) / "logs",
    )
    use_logical_cpus(2)  # asking again changes nothing
    strategy = strategy_for_this_machine()  # for a second training in this process
    one, two = descended(tf.distribute.get_strategy()), descended(strategy)
    return {
        "replicas": trained.replicas,
        "replicas_in_sync": strategy.num_replicas_in_sync,
        "agree": replicas_agree(trained.network, strategy),
        "course": trained.history["val_average_precision"],
        "largest_difference": max(float(np.abs(a - b).max()) for a, b in zip(one[0], two[0], strict=True)),
        "losses": [one[1], two[1]],
        "refusal": refusal(1, strategy),
        "other_number": other_number(),
    }


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
