"""Examples as records: what stock components that cannot read Parquet get, and that the model scores them alike."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from components.records import write_records
from schemas.transaction import LABEL
from tests.components.tiny import ExampleSet, Model, read_split


def parsed(file: Path, examples: ExampleSet) -> dict[str, np.ndarray]:
    """The records of a file by column, in their order."""
    form = {
        i.name: tf.io.FixedLenFeature([] if i.width == 1 else [i.width], tf.string if i.is_text else tf.float32)
        for i in examples.spec.inputs
    }
    records = list(tf.data.TFRecordDataset(str(file), "GZIP").as_numpy_iterator())
    columns = tf.io.parse_example(records, form | {LABEL: tf.io.FixedLenFeature([], tf.float32)})
    return {name: column.numpy() for name, column in columns.items()}


def test_records_hold_the_rows_of_the_split_in_its_order(tiny_examples: ExampleSet, tmp_path: Path) -> None:
    file = tmp_path / "records.gz"
    assert write_records(tiny_examples.root, "test", tiny_examples.spec, file) == tiny_examples.rows["test"]
    features, labels = read_split(tiny_examples.root, "test", tiny_examples.spec)
    found = parsed(file, tiny_examples)
    assert found.keys() == {*features, LABEL}
    np.testing.assert_array_equal(found.pop(LABEL), labels)
    for name, values in found.items():
        np.testing.assert_array_equal(values, features[name], err_msg=name)


def canonical(record: bytes) -> bytes:
    """An example with its features in the order of their names; BulkInferrer leaves them in any."""
    return tf.train.Example.FromString(record).SerializeToString(deterministic=True)


@pytest.mark.slow
def test_stock_bulk_inferrer_gives_the_records_the_scores_of_the_training(tiny_model: Model, tmp_path: Path) -> None:
    import tensorflow_transform as tft
    from tensorflow_serving.apis import prediction_log_pb2
    from tfx import v1 as tfx
    from tfx.types import artifact_utils

    from components.trainer import transform_split

    examples = tiny_model.examples
    file = tmp_path / "examples" / "Split-test" / "records.gz"
    file.parent.mkdir(parents=True)
    write_records(examples.root, "test", examples.spec, file)
    shutil.copytree(tiny_model.saved_model, tmp_path / "model" / "Format-Serving")
    kinds = tfx.types.standard_artifacts
    records = tfx.dsl.Importer(
        str(tmp_path / "examples"),
        kinds.Examples,
        properties={"split_names": artifact_utils.encode_split_names(["test"])},
        custom_properties={"payload_format": "FORMAT_TF_EXAMPLE", "file_format": "tfrecords_gzip"},
    ).with_id("records")
    # Without a version TFX looks for the model where its first releases had it.
    model = tfx.dsl.Importer(
        str(tmp_path / "model"), kinds.Model, custom_properties={"tfx_version": tfx.__version__}
    ).with_id("model")
    inferrer = tfx.components.BulkInferrer(examples=records.outputs["result"], model=model.outputs["result"])
    pipeline = tfx.dsl.Pipeline(
        "bulk-inference",
        str(tmp_path / "artifacts"),
        tfx.orchestration.metadata.sqlite_metadata_connection_config(str(tmp_path / "metadata.sqlite")),
        [records, model, inferrer],
        beam_pipeline_args=["--direct_running_mode=in_memory"],
    )
    tfx.orchestration.LocalDagRunner().run(pipeline)

    [logs] = (tmp_path / "artifacts").glob("BulkInferrer/inference_result/*/prediction_logs*.gz")
    scores: dict[bytes, float] = {}
    for record in tf.data.TFRecordDataset(str(logs), "GZIP").as_numpy_iterator():
        log = prediction_log_pb2.PredictionLog.FromString(record).predict_log
        rows = tf.make_ndarray(log.request.inputs["examples"]).reshape(-1)
        scores |= zip(map(canonical, rows), tf.make_ndarray(log.response.outputs["score"]).reshape(-1), strict=True)
    graph = tft.TFTransformOutput(str(tiny_model.transform_graph))
    arrays, _ = transform_split(examples.root, "test", examples.spec, graph)
    # Beam keeps no order.
    found = [scores.get(record, np.nan) for record in tf.data.TFRecordDataset(str(file), "GZIP").as_numpy_iterator()]
    np.testing.assert_allclose(found, tiny_model.trained.probabilities(arrays), atol=1e-6)
