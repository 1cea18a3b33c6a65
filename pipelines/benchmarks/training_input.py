"""Training input: the trainer's columns beside gzipped `tf.Example` records, as stock TFX feeds them to Keras.

Both sides hand over the epochs of a training in shuffled batches of transformed features with their labels.  Ours
reads Parquet, runs the transform graph once over whole row groups and gathers batches from memory; only that last
part is repeated in later epochs, so that the first is told apart from them.  Stock TFX (`TensorFlowDataset` of its
TFExampleRecord, then the transform layer, as in its templates) decompresses, shuffles, parses and transforms batch by
batch, in every epoch anew.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from apache_beam.options.pipeline_options import PipelineOptions
from tensorflow_transform.tf_metadata import schema_utils
from tfx.components.util.tfxio_utils import make_tfxio
from tfx.proto import example_gen_pb2

from components import examples
from components.features import compute_features, to_float32
from components.features.table import IN_MEMORY
from components.records import write_records
from components.schema import curated_schema
from components.trainer import TrainingConfig, transform_split
from components.training.batches import batches
from components.training.replicas import global_batch
from components.transform import preprocessing_fn
from pipelines.benchmarks.comparison import Columns, Contest, Result, Side, take_turns
from schemas.features import FeatureSpec
from schemas.transaction import LABEL

GOAL = "5 times the rows/s of tfx over the epochs of a training"
# Of the records that stock TFX shuffles at a time.
_SHUFFLE_BUFFER = 10_000
# Graphs may round differently in batches of other sizes, by some units of float32's last place.
_TOLERANCE = 1e-4
_SPLIT = "train"
_SEED = 7

Batch = tuple[dict[str, tf.Tensor], tf.Tensor]


def benchmark(transactions: pa.Table, spec: FeatureSpec, epochs: int | None, runs: int, folder: Path) -> Result:
    """Times a training's epochs from files on disk to the last batch, then the first alone, and one behind the first.

    The transform graph is loaded once for all, in the runs that do not count.
    Instead of a label each row carries its number, by which the shuffled rows of both sides are put in one order to be
    compared; to the input a label is a number like any other.

    Args:
        transactions: canonical, as ingest leaves them; the last that do not fill a batch are left out.
        spec: which features.
        epochs: of the training, each a pass over the rows; None takes as many as a training has.
        runs: runs of each side that count.
        folder: an empty one, for both sides' files and the transform graph.

    Raises:
        BenchmarkError: the sides hand over different rows.
    """
    config = TrainingConfig()
    size, epochs = global_batch(transactions.num_rows, config, 1), epochs or config.epochs
    rows = transactions.num_rows // size * size
    write_parquet(transactions.slice(0, rows), spec, folder)
    records = folder / "records.gz"
    # As stock TFX's ExampleGen writes them.
    write_records(folder, _SPLIT, spec, records)
    graph, steps = analyze(folder, spec), rows // size

    def ours(passes: int) -> tf.data.Dataset:
        return batches(*transform_split(folder, _SPLIT, spec, graph), size, _SEED).take(passes * steps)

    def tfx(passes: int) -> tf.data.Dataset:
        return stock_batches(records, spec, graph, size).repeat(passes)

    def side(dataset: Callable[[], Iterable[Batch]]) -> Side:
        # Of the last epoch, which is compared, batches are kept.
        return Side(lambda: deque(dataset(), maxlen=steps), _columns)

    def contest(passes: int, sides: Sequence[Side]) -> Contest:
        return take_turns(passes * rows, sides[0], {"tfx": sides[1]}, runs, _TOLERANCE)

    training, first = (contest(n, [side(partial(of, n)) for of in (ours, tfx)]) for n in (epochs, 1))
    loaded = [of(1) for of in (ours, tfx)]
    return Result(
        "training-input",
        training,
        GOAL,
        file_reading=True,
        further={
            "first_epoch": first,
            "later_epochs": contest(1, [side(partial(iter, dataset)) for dataset in loaded]),
        },
        facts={"batch_size": size, "epochs": epochs},
    )


def write_parquet(transactions: pa.Table, spec: FeatureSpec, root: Path) -> None:
    """Writes the features as the trainer reads them, with the rows' numbers in place of labels."""
    rows = transactions.num_rows
    features = to_float32(compute_features(transactions, spec))
    table = examples.to_examples(features.append_column(LABEL, pa.array(np.zeros(rows, np.bool_))), spec)
    numbers = pa.LargeListArray.from_arrays(
        pa.array(np.arange(rows + 1, dtype=np.int64)), pa.array(np.arange(rows, dtype=np.float32))
    )
    numbered = table.set_column(table.column_names.index(LABEL), LABEL, numbers)
    examples.write_split(root, _SPLIT, numbered, transactions.select(["transaction_id"]))


def analyze(root: Path, spec: FeatureSpec) -> tft.TFTransformOutput:
    """The transform graph that TFT makes of the split, written below `root`, as TFX's Transform does."""
    source = make_tfxio(
        str(root / f"Split-{_SPLIT}" / "*"),
        ["fraudops-bench"],
        example_gen_pb2.FORMAT_PARQUET,
        schema=curated_schema(spec),
        file_format="FILE_FORMAT_PARQUET",
    )
    output = root / "transform_graph"
    with (
        beam.Pipeline(options=PipelineOptions(list(IN_MEMORY))) as pipeline,
        tft_beam.Context(temp_dir=str(root / "scratch")),
    ):
        rows = pipeline | source.BeamSource()
        graph = (rows, source.TensorAdapterConfig()) | tft_beam.AnalyzeDataset(preprocessing_fn)
        _ = graph | tft_beam.WriteTransformFn(str(output))
    return tft.TFTransformOutput(str(output))


def stock_batches(records: Path, spec: FeatureSpec, graph: tft.TFTransformOutput, size: int) -> tf.data.Dataset:
    """One epoch of the records, as stock TFX's input function and its templates make it."""
    parsing = schema_utils.schema_as_feature_spec(curated_schema(spec)).feature_spec
    layer = graph.transform_features_layer()

    def transform(raw: dict[str, tf.Tensor]) -> Batch:
        transformed = dict(layer(raw))
        return transformed, transformed.pop(LABEL)

    dataset = tf.data.TFRecordDataset(str(records), "GZIP").shuffle(_SHUFFLE_BUFFER, _SEED).batch(size)
    return dataset.map(lambda batch: tf.io.parse_example(batch, parsing)).map(transform).prefetch(tf.data.AUTOTUNE)


def _columns(epoch: Sequence[Batch]) -> Columns:
    """Every column of an epoch, rows in the order of their numbers."""
    numbers = np.concatenate([labels.numpy().reshape(-1) for _, labels in epoch])
    order = np.argsort(numbers)
    columns = {LABEL: numbers[order]}
    for name in epoch[0][0]:
        values = np.concatenate([inputs[name].numpy() for inputs, _ in epoch])[order]
        columns |= {f"{name}[{place}]": values[:, place] for place in range(values.shape[1])}
    return columns
