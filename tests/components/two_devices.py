"""Trains on two logical CPU devices and prints what came of it; a program of its own, because TensorFlow counts its
devices when it starts.

Arguments: folder of the tiny examples, folder of their transform graph, folder for the model.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from components.devices import strategy_for_this_machine, use_logical_cpus
from components.model import Shape
from components.trainer import ThresholdConfig, TrainingConfig, fit, train_and_export
from components.training.replicas import Replicas
from schemas import sources
from schemas.errors import ConfigurationError
from schemas.features import specify
from tests.components import tiny

SHAPE = Shape(3, ((4, 1),))
# Without dropout, whose masks replicas draw for rows of their own.
ALIKE = TrainingConfig(units=(8, 4), dropout=0.0, batch_size=64, epochs=4, learning_rate=0.01)


def rows(count: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    rng = np.random.default_rng(1)
    numeric = rng.normal(size=(count, 3)).astype(np.float32)
    return {"numeric": numeric, "categorical": rng.integers(0, 4, (count, 1))}, (numeric[:, 0] > 1).astype(np.float32)


def trained_on(strategy: tf.distribute.Strategy) -> tuple[list[float], bool]:
    """Loss by epoch; and whether in the end each variable has a component per replica, and all components are equal."""
    inputs, labels = rows(2_000)
    replicas = Replicas(inputs, labels, SHAPE, ALIKE, 3.0, strategy)
    losses = [replicas.epoch(ALIKE.learning_rate) for _ in range(ALIKE.epochs)]
    for variable in replicas.network.variables:
        parts = [part.numpy() for part in strategy.experimental_local_results(variable.value)]
        if len(parts) != strategy.num_replicas_in_sync or not all(np.array_equal(parts[0], part) for part in parts):
            return losses, False
    return losses, True


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
    (one, _), (both, agree) = trained_on(tf.distribute.get_strategy()), trained_on(strategy)
    return {
        "replicas": trained.replicas,
        "replicas_in_sync": strategy.num_replicas_in_sync,
        "agree": agree,
        "course": trained.history["val_average_precision"],
        "losses": [one, both],
        "refusal": refusal(1, strategy),
        "other_number": other_number(),
    }


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
