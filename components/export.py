"""The SavedModel: the transform and the calibrated network behind one graph, with the signatures that clients call."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import keras
import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from components.canonical import canonicalise
from components.examples import pack
from components.explanations import explain
from components.model import Shape, calibrate
from components.transform import CATEGORICAL, NUMERIC
from schemas.bundle import ASSETS_EXTRA, RECORDED_FILE, WARM_UP_FILE, Bundle
from schemas.features import FeatureSpec
from schemas.versions import MODEL_NAME

if TYPE_CHECKING:
    from tensorflow_serving.apis import predict_pb2

    from components.trainer import Trained

SCORE_PACKED, EXPLAIN = "score_packed", "explain"
SIGNATURES = ("serving_default", "score", SCORE_PACKED, EXPLAIN)
_RECORDED_ROWS = 256
# Of how many rows a signature is warmed up with.
_WARM_UP_SIZES = {SCORE_PACKED: (1, 8, 64), EXPLAIN: (1, 8)}


def export_saved_model(
    trained: Trained,
    shape: Shape,
    bundle: Bundle,
    transform: tft.TFTransformOutput,
    reference: Sequence[np.ndarray],
    rows: Mapping[str, np.ndarray],
    destination: Path,
) -> None:
    """Writes the SavedModel; what is at `destination` already, half-written by a run that died, is replaced.

    Signatures, each returning `score` float32 `[batch]`, a probability:
        serving_default: `examples` string `[batch]`, serialized `tf.Example`.
        score: one tensor per raw feature by name, `[batch]` or `[batch, k]`.
        score_packed: `numeric` float32 `[batch, F]` and `categorical` string `[batch, C]`, in the order of the feature
            specification in `assets.extra`; without text features `categorical` is `[batch, 0]`.
        explain: the same; returns `attributions` float32 `[batch, F + C]`, too, which sum to the log-odds of the score
            less those of the reference.

    Args:
        bundle: travels with the model in `assets.extra`; its specification fixes the model's inputs.
        reference: what attributions compare with, see `components.explanations.average_genuine`.
        rows: raw features of the validation split by name, its first rows in their order; some of them become the
            warm-up requests, and some are recorded with the scores that training gives them.
    """
    recorded = {name: values[:_RECORDED_ROWS] for name, values in rows.items()}
    with tempfile.TemporaryDirectory() as scratch:
        # Its functions are loaded in the order of their names, which TensorFlow gives at random.
        graph = Path(scratch) / "transform"
        shutil.copytree(Path(transform.transform_savedmodel_dir).parent, graph)
        canonicalise(graph / tft.TFTransformOutput.TRANSFORM_FN_DIR)
        scores = _export(trained, shape, bundle, tft.TFTransformOutput(str(graph)), reference, recorded, destination)
    bundle.write(destination)
    _write_warm_up(destination / ASSETS_EXTRA / WARM_UP_FILE, rows, bundle.spec)
    (destination / ASSETS_EXTRA / RECORDED_FILE).write_text(json.dumps(scores.tolist()), encoding="utf-8")


def _export(
    trained: Trained,
    shape: Shape,
    bundle: Bundle,
    transform: tft.TFTransformOutput,
    reference: Sequence[np.ndarray],
    recorded: Mapping[str, np.ndarray],
    destination: Path,
) -> np.ndarray:
    """Writes the graph, and gives the scores of the network as it is to the rows that are recorded, `[rows]`."""
    spec = bundle.spec
    model = calibrate(trained.network, trained.slope, trained.intercept)
    layer = transform.transform_features_layer()
    scored = [NUMERIC, CATEGORICAL] if shape.vocabularies else [NUMERIC]
    attributions = explain(trained.network, trained.slope, reference, spec)

    def read(raw: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        transformed = layer(dict(raw))
        return {name: transformed[name] for name in scored}

    def judge(inputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
        return tf.ensure_shape(model(inputs, training=False), [None])

    def score(raw: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return {"score": judge(read(raw))}

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

    def explain_packed(numeric: tf.Tensor, categorical: tf.Tensor) -> dict[str, tf.Tensor]:
        inputs = read(_unpack(numeric, categorical, spec))
        width = spec.numeric_width + spec.categorical_width
        return {"score": judge(inputs), "attributions": tf.ensure_shape(attributions(inputs), [None, width])}

    packed = [
        tf.TensorSpec([None, spec.numeric_width], tf.float32, name="numeric"),
        tf.TensorSpec([None, spec.categorical_width], tf.string, name="categorical"),
    ]
    archive = _archive()
    archive.track(model)
    archive.track(layer)
    archive.add_endpoint("serving_default", score_examples, [tf.TensorSpec([None], tf.string, name="examples")])
    archive.add_endpoint("score", score_named)
    archive.add_endpoint(SCORE_PACKED, score_packed, packed)
    archive.add_endpoint(EXPLAIN, explain_packed, packed)
    shutil.rmtree(destination, ignore_errors=True)
    archive.write_out(str(destination), verbose=False)
    canonicalise(destination)
    inputs = read({name: tf.constant(values) for name, values in recorded.items()})
    return trained.probabilities({name: tensor.numpy() for name, tensor in inputs.items()})


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
    """A request per signature and batch size, in the form that TensorFlow Serving replays when it loads a model."""
    from tensorflow_serving.apis import prediction_log_pb2

    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, sizes in _WARM_UP_SIZES.items():
            for size in sizes:
                request = packed_request(signature, {name: values[:size] for name, values in rows.items()}, spec)
                log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
                writer.write(log.SerializeToString(deterministic=True))


def packed_request(signature: str, rows: Mapping[str, np.ndarray], spec: FeatureSpec) -> predict_pb2.PredictRequest:
    """A request to a signature that takes packed inputs.

    Args:
        rows: raw features by name, `[batch]` or `[batch, k]`.
    """
    from tensorflow_serving.apis import model_pb2, predict_pb2

    numeric, categorical = pack(rows, spec)
    request = predict_pb2.PredictRequest(model_spec=model_pb2.ModelSpec(name=MODEL_NAME, signature_name=signature))
    request.inputs["numeric"].CopyFrom(tf.make_tensor_proto(numeric))
    request.inputs["categorical"].CopyFrom(tf.make_tensor_proto(categorical, dtype=tf.string, shape=categorical.shape))
    return request
