"""The SavedModel: the transform and the calibrated network behind one graph, with the signatures that clients call."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import keras
import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from components.canonical import canonicalise
from components.examples import pack
from components.model import Shape, calibrate
from components.transform import CATEGORICAL, NUMERIC
from schemas.bundle import ASSETS_EXTRA, WARM_UP_FILE, Bundle
from schemas.features import FeatureSpec

if TYPE_CHECKING:
    from components.trainer import Trained

_WARM_UP_SIZES = (1, 8, 64)


def export_saved_model(
    trained: Trained,
    shape: Shape,
    bundle: Bundle,
    transform: tft.TFTransformOutput,
    warm_up: Mapping[str, np.ndarray],
    destination: Path,
) -> None:
    """Writes the SavedModel; what is at `destination` already, half-written by a run that died, is replaced.

    Signatures, each returning `score` float32 `[batch]`, a probability:
        serving_default: `examples` string `[batch]`, serialized `tf.Example`.
        score: one tensor per raw feature by name, `[batch]` or `[batch, k]`.
        score_packed: `numeric` float32 `[batch, F]` and `categorical` string `[batch, C]`, in the order of the feature
            specification in `assets.extra`; without text features `categorical` is `[batch, 0]`.

    Args:
        bundle: travels with the model in `assets.extra`; its specification fixes the model's inputs.
        warm_up: raw feature rows by name; the first of them become the warm-up requests.
    """
    with tempfile.TemporaryDirectory() as scratch:
        # Its functions are loaded in the order of their names, which TensorFlow gives at random.
        graph = Path(scratch) / "transform"
        shutil.copytree(Path(transform.transform_savedmodel_dir).parent, graph)
        canonicalise(graph / tft.TFTransformOutput.TRANSFORM_FN_DIR)
        _export(trained, shape, bundle, tft.TFTransformOutput(str(graph)), destination)
    bundle.write(destination)
    _write_warm_up(destination / ASSETS_EXTRA / WARM_UP_FILE, warm_up, bundle.spec)


def _export(
    trained: Trained, shape: Shape, bundle: Bundle, transform: tft.TFTransformOutput, destination: Path
) -> None:
    spec = bundle.spec
    model = calibrate(trained.network, trained.slope, trained.intercept)
    layer = transform.transform_features_layer()
    scored = [NUMERIC, CATEGORICAL] if shape.vocabularies else [NUMERIC]

    def score(raw: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        transformed = layer(dict(raw))
        return {"score": tf.ensure_shape(model({name: transformed[name] for name in scored}, training=False), [None])}

    named = {
        i.name: tf.TensorSpec(
            [None] if i.width == 1 else [None, i.width], tf.string if i.is_text else tf.float32, name=i.name
        )
        for i in spec.inputs
    }
    parsing = {
        i.name: tf.io.FixedLenFeature([] if i.width == 1 else [i.width], tf.string if i.is_text else tf.float32)
        for i in spec.inputs
    }

    def score_examples(examples: tf.Tensor) -> dict[str, tf.Tensor]:
        return score(tf.io.parse_example(examples, parsing))

    @tf.function
    def score_named(**raw: tf.Tensor) -> dict[str, tf.Tensor]:
        return score(raw)

    # Keras takes keyword arguments only on a function that was traced already.
    score_named.get_concrete_function(**named)

    def score_packed(numeric: tf.Tensor, categorical: tf.Tensor) -> dict[str, tf.Tensor]:
        return score(_unpack(numeric, categorical, spec))

    archive = _archive()
    archive.track(model)
    archive.track(layer)
    archive.add_endpoint("serving_default", score_examples, [tf.TensorSpec([None], tf.string, name="examples")])
    archive.add_endpoint("score", score_named)
    archive.add_endpoint(
        "score_packed",
        score_packed,
        [
            tf.TensorSpec([None, spec.numeric_width], tf.float32, name="numeric"),
            tf.TensorSpec([None, spec.categorical_width], tf.string, name="categorical"),
        ],
    )
    shutil.rmtree(destination, ignore_errors=True)
    archive.write_out(str(destination), verbose=False)
    canonicalise(destination)


def _archive() -> keras.export.ExportArchive:
    """An archive that saves variables in the order of their names; Keras' own order is that of their addresses."""
    archive = keras.export.ExportArchive()
    track = archive._filter_and_track_resources

    def track_in_order() -> None:
        track()
        found = archive._tf_trackable
        found._all_variables = sorted(found._all_variables, key=lambda variable: variable.name)

    archive._filter_and_track_resources = track_in_order
    return archive


def _unpack(numeric: tf.Tensor, categorical: tf.Tensor, spec: FeatureSpec) -> dict[str, tf.Tensor]:
    raw = {}
    for declarations, packed in ((spec.numeric, numeric), (spec.categorical, categorical)):
        column = 0
        # Slicing would take any number of columns, and read the wrong ones.
        packed = tf.ensure_shape(packed, [None, sum(i.width for i in declarations)])
        for i in declarations:
            raw[i.name] = packed[:, column] if i.width == 1 else packed[:, column : column + i.width]
            column += i.width
    return raw


def _write_warm_up(path: Path, rows: Mapping[str, np.ndarray], spec: FeatureSpec) -> None:
    """One `score_packed` request per batch size, in the form that TensorFlow Serving replays when it loads a model."""
    from tensorflow_serving.apis import model_pb2, predict_pb2, prediction_log_pb2

    numeric, categorical = pack({name: values[: max(_WARM_UP_SIZES)] for name, values in rows.items()}, spec)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for size in _WARM_UP_SIZES:
            request = predict_pb2.PredictRequest(
                model_spec=model_pb2.ModelSpec(name="fraud", signature_name="score_packed")
            )
            request.inputs["numeric"].CopyFrom(tf.make_tensor_proto(numeric[:size]))
            request.inputs["categorical"].CopyFrom(
                tf.make_tensor_proto(categorical[:size], dtype=tf.string, shape=categorical[:size].shape)
            )
            log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
            writer.write(log.SerializeToString(deterministic=True))
