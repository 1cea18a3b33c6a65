"""Training: our input and loop beside stock TFX's records and Keras' `fit`, and the time to a score beside XGBoost's.

Both sides of the contest train the same network for the same number of steps, from files on disk on; what they read,
shuffle and transform is as in `training_input`.  The time to a score begins with the features in memory: an epoch or a
tree counts when validation average precision has been computed behind it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pyarrow as pa
import tensorflow as tf
import xgboost

from components.baselines import TREE_SETTINGS, tree_matrix
from components.examples import write_examples
from components.features import compute_features
from components.model import Shape, positive_weight
from components.records import write_records
from components.splits import SplitConfig
from components.trainer import TrainingConfig, fit, network_inputs, network_shape, transform_split
from components.training.fit import AVERAGE_PRECISION, binned
from components.training.replicas import Replicas, global_batch, network_of, weighted_cross_entropy
from components.transform import NUMERIC
from pipelines.benchmarks.comparison import Contest, Result, Side, Timing, take_turns
from pipelines.benchmarks.training_input import analyze, stock_batches
from schemas.features import specify
from schemas.sources import SourceMapping

GOAL = "faster than tfx with fit (its input alone: 5 times), and as good as xgboost"
# Of the lower of the two sides' best: that both reach it is certain, and when, is the question.
_TARGET_SHARE = 0.95
# Twice the baseline's trees at half its rate, for the best that it can do in a few seconds, on all cores.
_ROUNDS, _THREADS = 300, 0
_SETTINGS = {**TREE_SETTINGS, "learning_rate": 0.05, "seed": 7, "nthread": _THREADS}
_JUDGED = "validation"

Rows = tuple[dict[str, np.ndarray], np.ndarray]
# Seconds from the begin, and validation average precision by then.
Course = list[tuple[float, float]]


def benchmark(transactions: pa.Table, mapping: SourceMapping, epochs: int | None, runs: int, folder: Path) -> Result:
    """Times training both ways, then the way to a score.

    Args:
        transactions: canonical, as ingest leaves them.
        mapping: of their log.
        epochs: of the contest, each a pass over the training rows; None takes as many as a training has.
        runs: runs of each side of it that count.
        folder: an empty one, for both sides' files and the transform graph.

    Raises:
        BenchmarkError: the sides made different numbers of steps.
    """
    spec, config = specify(mapping.provided), TrainingConfig()
    epochs = epochs or config.epochs
    features = compute_features(transactions, spec).to_batches()
    write_examples(folder, transactions, features, spec, SplitConfig(), mapping.label_delay_s)
    records = folder / "records.gz"
    write_records(folder, "train", spec, records)
    graph = analyze(folder, spec)
    train, validation = (transform_split(folder, split, spec, graph) for split in ("train", "validation"))
    # Either side's network reads numbers in the same bins.
    shape = binned(network_shape(train[0], spec, graph), train[0][NUMERIC], config)
    size = global_batch(len(train[1]), config, 1)
    steps, weight = len(train[1]) // size, positive_weight(train[1], None)

    def ours() -> int:
        inputs, labels = transform_split(folder, "train", spec, graph)
        replicas = Replicas(network_inputs(inputs, shape), labels, shape, config, weight, tf.distribute.get_strategy())
        for _ in range(epochs):
            replicas.epoch(config.learning_rate)
        return replicas.steps_made

    def tfx() -> int:
        network = network_of(shape, config)
        optimizer = keras.optimizers.Adam(config.learning_rate)
        network.compile(optimizer, weighted_cross_entropy(weight), jit_compile=False)
        dataset = stock_batches(records, spec, graph, size).take(steps).repeat()
        network.fit(dataset, steps_per_epoch=steps, epochs=epochs, verbose=0)
        return int(optimizer.iterations.numpy())

    contest = take_turns(epochs * steps * size, Side(ours, _steps), {"tfx_with_fit": Side(tfx, _steps)}, runs)
    network, trees = _network_course(train, validation, shape, config), _trees_course(train, validation)
    target = _TARGET_SHARE * min(best(network), best(trees))
    to_target = Contest(
        _once(len(train[1]), seconds_to(network, target)),
        {"xgboost": _once(len(train[1]), seconds_to(trees, target))},
    )
    return Result(
        "training",
        contest,
        GOAL,
        file_reading=True,
        further={"time_to_target": to_target},
        facts={
            "batch_size": size,
            "epochs": epochs,
            "target_average_precision": target,
            "network_average_precision": best(network),
            "xgboost_average_precision": best(trees),
        },
    )


def best(course: Course) -> float:
    """The highest average precision of a course."""
    return max(value for _, value in course)


def seconds_to(course: Course, target: float) -> float:
    """When a course first reached a value; it has to have done so."""
    return next(seconds for seconds, value in course if value >= target)


def _steps(made: int) -> Mapping[str, np.ndarray]:
    return {"steps": np.array([made], np.float64)}


def _once(rows: int, seconds: float) -> Timing:
    return Timing(rows, seconds, (seconds,))


def _network_course(train: Rows, validation: Rows, shape: Shape, config: TrainingConfig) -> Course:
    course: Course = []
    began = time.perf_counter()

    def note(history: Mapping[str, Sequence[float]]) -> None:
        course.append((time.perf_counter() - began, history[AVERAGE_PRECISION][-1]))

    fit(train, validation, shape, config, tf.distribute.get_strategy(), on_epoch=note)
    return course


def _trees_course(train: Rows, validation: Rows) -> Course:
    watch = _Watch()
    learnt = tree_matrix(train, _THREADS)
    judged = tree_matrix(validation, _THREADS, learnt)
    xgboost.train(_SETTINGS, learnt, _ROUNDS, evals=[(judged, _JUDGED)], callbacks=[watch], verbose_eval=False)
    return watch.course


class _Watch(xgboost.callback.TrainingCallback):
    """Notes the course of trees, from when it is made."""

    def __init__(self) -> None:
        self.course: Course = []
        self._began = time.perf_counter()

    def after_iteration(self, model: xgboost.Booster, epoch: int, evals_log: dict[str, Any]) -> bool:
        (values,) = evals_log[_JUDGED].values()
        self.course.append((time.perf_counter() - self._began, float(values[-1])))
        return False
