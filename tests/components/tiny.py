"""A tiny log out of the simulator, its examples, what TFT learns of them, and a model trained on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from components.examples import read_batches, write_examples
from components.features import compute_features
from components.ingest import ingest
from components.simulator import simulate, write
from components.splits import Part, SplitConfig
from schemas import sources
from schemas.features import FeatureSpec, specify
from schemas.transaction import DAY_S

if TYPE_CHECKING:
    from components.trainer import Trained

SPLITS = SplitConfig(warm_up_s=5 * DAY_S)


@dataclass(frozen=True)
class ExampleSet:
    """Examples below `root`, and the transactions and features that they were cut from."""

    root: Path
    spec: FeatureSpec
    log: pa.Table
    features: pa.Table
    label_delay_s: int
    rows: dict[Part, int]


@dataclass(frozen=True)
class Model:
    """A model as `train_and_export` left it, on the examples and the transform graph that it was made of.

    `leftover` is a file that lay where the model was to be written.
    """

    saved_model: Path
    leftover: Path
    logs: Path
    examples: ExampleSet
    transform_graph: Path
    trained: Trained


def make_examples(folder: Path) -> ExampleSet:
    """Some 30,000 transactions of 400 cards in 45 days, through ingest and all features into splits."""
    mapping = sources.load("simulated")
    write(simulate(cards=400, days=45, seed=3), folder / "log.parquet")
    log = ingest(folder / "log.parquet", mapping, None).transactions
    spec = specify(mapping.provided)
    features = compute_features(log, spec)
    rows = write_examples(folder / "examples", log, features.to_batches(), spec, SPLITS, mapping.label_delay_s)
    return ExampleSet(folder / "examples", spec, log, features, mapping.label_delay_s, rows)


def analyze(examples: ExampleSet, folder: Path) -> None:
    """Writes the transform graph that TFT makes of the training rows, as TFX's Transform does."""
    from components.transform_graph import write_transform_graph

    write_transform_graph(examples.root, "train", examples.spec, folder)


RULES_DIGEST = "of the rules beside which the tiny model decides"


def train(examples: ExampleSet, transform_graph: Path, folder: Path) -> Model:
    """Trains a small network for three epochs and exports it."""
    import tensorflow_transform as tft

    from components.trainer import ThresholdConfig, TrainingConfig, train_and_export

    leftover = folder / "saved_model" / "variables" / "leftover"
    leftover.parent.mkdir(parents=True)
    leftover.write_bytes(b"half")
    config = TrainingConfig(units=(16, 8), batch_size=256, epochs=3, learning_rate=3e-3)
    trained = train_and_export(
        examples.root,
        examples.spec,
        tft.TFTransformOutput(str(transform_graph)),
        config,
        ThresholdConfig(),
        RULES_DIGEST,
        folder / "saved_model",
        folder / "logs",
    )
    return Model(folder / "saved_model", leftover, folder / "logs", examples, transform_graph, trained)


def with_odd_rows(rows: Mapping[str, np.ndarray], spec: FeatureSpec) -> dict[str, np.ndarray]:
    """Rows and behind them as many oddities: all numbers missing but the row's own, words empty, words never seen."""
    own = {i.name for i in spec.row_inputs}

    def odd(name: str, values: np.ndarray, is_text: bool) -> np.ndarray:
        if not is_text:
            return values if name in own else np.full_like(values, np.nan)
        return np.resize(np.array([b"", "nie gesehen \N{SNOWMAN}".encode()], object), values.shape)

    return {i.name: np.concatenate([rows[i.name], odd(i.name, rows[i.name], i.is_text)]) for i in spec.inputs}


def as_example(rows: Mapping[str, np.ndarray], row: int) -> bytes:
    """One row as a serialized `tf.Example`."""
    import tensorflow as tf

    example = tf.train.Example()
    for name, values in rows.items():
        feature = example.features.feature[name]
        kind = feature.bytes_list if values.dtype == object else feature.float_list
        kind.value.extend(values[row : row + 1].reshape(-1))
    return example.SerializeToString()


def read_split(root: Path, split: str, spec: FeatureSpec) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """A whole split: raw features by name and labels, as `read_batches` gives them by row group."""
    batches = list(read_batches(root, split, spec))
    features = {i.name: np.concatenate([batch[i.name] for batch, _ in batches]) for i in spec.inputs}
    return features, np.concatenate([labels for _, labels in batches])
