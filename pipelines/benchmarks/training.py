"""Training: our input and loop beside stock TFX's records and Keras' `fit`, and the time to a score beside LightGBM's.

Both sides of the contest train the same network for the same number of steps, from files on disk on; what they read,
shuffle and transform is as in `training_input`.  The time to a score begins with the features in memory: an epoch or a
tree counts when validation average precision has been computed behind it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import keras
import lightgbm
import numpy as np
import pyarrow as pa
import tensorflow as tf

from components.examples import write_examples
from components.features import compute_features
from components.model import Shape, positive_weight
from components.records import write_records
from components.splits import SplitConfig
from components.trainer import TrainingConfig, fit, network_inputs, network_shape, transform_split
from components.training.fit import AVERAGE_PRECISION, binned
from components.training.replicas import Replicas, network_of, weighted_cross_entropy
from components.transform import CATEGORICAL, NUMERIC
from pipelines.benchmarks.comparison import Contest, Result, Side, Timing, take_turns
from pipelines.benchmarks.training_input import analyze, stock_batches
from schemas.features import FeatureSpec, specify
from schemas.sources import SourceMapping

GOAL = "faster than tfx with fit (its input alone: 5 times), and as good as lightgbm"
# Of the lower of the two sides' best: that both reach it is certain, and when, is the question.
_TARGET_SHARE = 0.95
_ROUNDS = 300
_LIGHTGBM = {
    "objective": "binary",
    "metric": "average_precision",
    "learning_rate": 0.05,
    "num_leaves": 31,
    "seed": 7,
    "verbose": -1,
}
# Its threads wait by spinning: on a machine that does something else, too, one alone may be several times as fast.
_LIGHTGBM_THREADS = {"lightgbm": 0, "lightgbm_one_thread": 1}

Rows = tuple[dict[str, np.ndarray], np.ndarray]
# Seconds from the begin, and validation average precision by then.
Course = list[tuple[float, float]]


def benchmark(transactions: pa.Table, mapping: SourceMapping, epochs: int, runs: int, folder: Path) -> Result:
    """Times training both ways, then the way to a score.

    Args:
        transactions: canonical, as ingest leaves them.
        mapping: of their log.
        epochs: of the contest, each a pass over the training rows.
        runs: runs of each side of it that count.
        folder: an empty one, for both sides' files and the transform graph.

    Raises:
        BenchmarkError: the sides made different numbers of steps.
    """
    spec = specify(mapping.provided)
    features = compute_features(transactions, spec).to_batches()
    write_examples(folder, transactions, features, spec, SplitConfig(), mapping.label_delay_s)
    records = folder / "records.gz"
    write_records(folder, "train", spec, records)
    graph = analyze(folder, spec)
    train, validation = (transform_split(folder, split, spec, graph) for split in ("train", "validation"))
    shape, config = network_shape(train[0], spec, graph), TrainingConfig()
    # Either side's network reads numbers in the same bins.
    shape = binned(shape, train[0][NUMERIC], config)
    size = min(config.batch_size, len(train[1]))
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
    network = _network_course(train, validation, shape, config)
    trees = {name: _trees_course(train, validation, spec, threads) for name, threads in _LIGHTGBM_THREADS.items()}
    target = _TARGET_SHARE * min(best(course) for course in (network, *trees.values()))
    to_target = Contest(
        _once(len(train[1]), seconds_to(network, target)),
        {name: _once(len(train[1]), seconds_to(course, target)) for name, course in trees.items()},
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
            "lightgbm_average_precision": best(trees["lightgbm"]),
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


def _trees_course(train: Rows, validation: Rows, spec: FeatureSpec, threads: int) -> Course:
    course: Course = []
    began = time.perf_counter()

    def note(state: lightgbm.callback.CallbackEnv) -> None:
        for _, _, value, *_ in state.evaluation_result_list or ():
            course.append((time.perf_counter() - began, float(value)))

    words = list(range(train[0][NUMERIC].shape[1], train[0][NUMERIC].shape[1] + spec.categorical_width))
    rows, held_out = (np.hstack([inputs[NUMERIC], inputs[CATEGORICAL]]) for inputs, _ in (train, validation))
    learnt = lightgbm.Dataset(rows, train[1], categorical_feature=words)
    judged = lightgbm.Dataset(held_out, validation[1], reference=learnt)
    callbacks: list[Callable[..., None]] = [note]
    lightgbm.train({**_LIGHTGBM, "num_threads": threads}, learnt, _ROUNDS, valid_sets=[judged], callbacks=callbacks)
    return course
