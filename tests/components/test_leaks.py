"""What labels that nobody could have had are worth: nothing where they are shuffled, much where they leak."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import average_precision_score

from components.examples import write_examples
from components.features import compute_features
from components.ingest import ingest
from components.simulator import simulate, write
from schemas import sources
from schemas.features import specify
from tests.components.tiny import SPLITS, ExampleSet, analyze

pytestmark = pytest.mark.slow
MAPPING = sources.load("simulated")
SPEC = specify(MAPPING.provided)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    path = tmp_path_factory.mktemp("log") / "log.parquet"
    write(simulate(cards=1_000, days=60, seed=5), path)
    return ingest(path, MAPPING, None).transactions


@pytest.fixture(scope="module")
def honest(log: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> ExampleSet:
    return examples(log, log, tmp_path_factory.mktemp("honest"))


def examples(log: pa.Table, known: pa.Table, folder: Path) -> ExampleSet:
    """Examples of a log with features of what is taken for known."""
    features = compute_features(known, SPEC)
    rows = write_examples(folder / "examples", log, features.to_batches(), SPEC, SPLITS, MAPPING.label_delay_s)
    return ExampleSet(folder / "examples", SPEC, log, features, MAPPING.label_delay_s, rows)


def on_test(examples: ExampleSet, folder: Path, shuffle: int | None = None) -> tuple[float, float]:
    """Average precision on the test split, and the share of frauds there; trained on shuffled labels with a seed."""
    import tensorflow as tf
    import tensorflow_transform as tft

    from components.trainer import TrainingConfig, fit, network_inputs, network_shape, transform_split

    if not folder.exists():
        analyze(examples, folder)
    transform = tft.TFTransformOutput(str(folder))
    train, validation, test = (
        transform_split(examples.root, split, SPEC, transform) for split in ("train", "validation", "test")
    )
    shape = network_shape(train[0], SPEC, transform)
    if shuffle is not None:
        random = np.random.default_rng(shuffle)
        train, validation = ((inputs, random.permutation(labels)) for inputs, labels in (train, validation))
    config = TrainingConfig(units=(64, 32), batch_size=512, epochs=8)
    trained = fit(train, validation, shape, config, tf.distribute.get_strategy())
    scores = trained.probabilities(network_inputs(test[0], shape))
    return float(average_precision_score(test[1], scores)), float(test[1].mean())


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("graphs") / "honest"


def test_shuffled_labels_rank_frauds_as_chance_does(honest: ExampleSet, graph: Path) -> None:
    precision, _ = on_test(honest, graph)
    shuffled, prevalence = zip(*(on_test(honest, graph, seed) for seed in range(2)), strict=True)
    assert precision > 20 * prevalence[0]
    assert np.mean(shuffled) < 3 * prevalence[0]


def test_labels_that_are_known_too_early_make_a_model_look_better(
    log: pa.Table, honest: ExampleSet, graph: Path, tmp_path: Path
) -> None:
    """By how much is why `features/future.py` asks every feature for it: the score alone would be welcome."""
    at_once = log.set_column(log.column_names.index("label_time"), "label_time", log["event_time"])
    leaking, _ = on_test(examples(log, at_once, tmp_path), tmp_path / "graph")
    precision, _ = on_test(honest, graph)
    assert leaking > precision + 0.05
