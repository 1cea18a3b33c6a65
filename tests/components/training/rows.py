"""Rows that a small network learns from within seconds, and settings to do so; run as a program, it trains on them.

Arguments of the program: JSON of the settings, a folder for checkpoint and logs, and the number of epochs after which
it kills itself, or 0.  It stands for one of several workers where `TF_CONFIG` says so.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from components.model import Shape
from components.training.config import TrainingConfig

SHAPE = Shape(3, ((4, 1),))
SMALL = TrainingConfig(units=(8,), batch_size=64, epochs=2, learning_rate=0.01)


def rows(count: int, seed: int, sign: int = 1) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Rows with three numbers and a word; `sign` times the first number decides, mostly."""
    rng = np.random.default_rng(seed)
    numeric = rng.normal(size=(count, 3)).astype(np.float32)
    labels = (sign * numeric[:, 0] + rng.normal(0, 0.3, count) > 1.3).astype(np.float32)
    return {"numeric": numeric, "categorical": rng.integers(0, 4, (count, 1))}, labels


def main(settings: str, folder: Path, last: int) -> None:
    from components.devices import is_chief, strategy_for_this_machine
    from components.training.fit import fit

    # Several workers are heard of only before TensorFlow's first operation.
    strategy = strategy_for_this_machine()
    began_with = []

    def on_epoch(history: Mapping[str, list[float]]) -> None:
        epochs = len(history["loss"])
        began_with.append(epochs - 1)
        if epochs == last:
            os.kill(os.getpid(), signal.SIGKILL)

    config = TrainingConfig(**json.loads(settings))
    checkpoint = folder / "checkpoint" / "epoch.npz"
    trained = fit(rows(1_000, 1), rows(500, 2), SHAPE, config, strategy, folder / "logs", checkpoint, on_epoch)
    weights = [weight.tolist() for weight in trained.network.get_weights()]
    found = {
        "history": trained.history,
        "weights": weights,
        "platt": [trained.slope, trained.intercept],
        "replicas": trained.replicas,
        "chief": is_chief(strategy),
        "first": began_with[0],
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
