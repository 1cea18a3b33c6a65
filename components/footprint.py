"""What a SavedModel takes to serve: its size, and how long one row takes through the signature of the gateway."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from schemas.errors import ArtifactError

_WARM_UP_CALLS, _ROUNDS, _CALLS = 50, 5, 200


@dataclass(frozen=True)
class Footprint:
    """Bytes of all files, and milliseconds of a call with a single row, middle and 99 of 100."""

    size_bytes: int
    latency_p50_ms: float
    latency_p99_ms: float

    def to_json(self) -> str:
        """One JSON object with the fields as keys."""
        return json.dumps(asdict(self), indent=2)

    @staticmethod
    def from_json(text: str) -> Footprint:
        """Reads back `to_json`.

        Raises:
            ArtifactError: the text is something else.
        """
        try:
            return Footprint(**json.loads(text))
        except (ValueError, TypeError) as error:
            raise ArtifactError(f"not the footprint of a model: {error!r}; evaluate the model again") from error


def size_bytes(saved_model: Path) -> int:
    """Of all files below a directory."""
    return sum(file.stat().st_size for file in saved_model.rglob("*") if file.is_file())


def latencies_ms(call: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> tuple[float, float]:
    """Median and 99th percentile of the quietest of several rounds, in milliseconds.

    What else runs on a machine makes calls slower and never faster, so the best round says most about the model.

    Args:
        call: scores one row.
        clock: seconds, monotonic.
    """
    for _ in range(_WARM_UP_CALLS):
        call()
    rounds = []
    for _ in range(_ROUNDS):
        taken = []
        for _ in range(_CALLS):
            began = clock()
            call()
            taken.append(clock() - began)
        rounds.append(np.quantile(taken, [0.5, 0.99]) * 1_000)
    median, slow = min(rounds, key=lambda one: one[1])
    return float(median), float(slow)


def measure_footprint(saved_model: Path, examples_root: Path, split: str) -> Footprint:
    """Of an exported model, with the first row of a split."""
    import tensorflow as tf

    from components.examples import pack, read_batches
    from components.scoring import read_spec

    spec = read_spec(saved_model)
    features, _ = next(read_batches(examples_root, split, spec))
    numeric, categorical = pack({name: values[:1] for name, values in features.items()}, spec)
    model = tf.saved_model.load(str(saved_model))
    score = model.signatures["score_packed"]
    row = {"numeric": tf.constant(numeric), "categorical": tf.constant(categorical, tf.string, categorical.shape)}
    median, slow = latencies_ms(lambda: score(**row))
    return Footprint(size_bytes(saved_model), median, slow)
