"""One loaded version of a model: a graph and a session of its own, a callable per signature, and its warm-up."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import grpc
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import config_pb2
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from serving.model_server.status import Refusal, failed_precondition, invalid, of_tensorflow
from serving.model_server.tensors import Array, Input, pack

DEFAULT_SIGNATURE = "serving_default"
WARM_UP_REQUESTS = Path("assets.extra") / "tf_serving_warmup_requests"
_MOST_WARM_UP_REQUESTS = 1000
_RECORD_FRAME_BYTES = 16  # of a TFRecord: its length and two checksums
_METHODS = ("tensorflow/serving/predict", "tensorflow/serving/classify", "tensorflow/serving/regress")


class Servable(Protocol):
    """What can be asked once it is loaded."""

    @property
    def signature_defs(self) -> Mapping[str, Any]:
        """Every SignatureDef by name."""

    def predict(self, request: predict_pb2.PredictRequest, response: predict_pb2.PredictResponse) -> None:
        """Fills in the outputs that a request asks for; raises Refusal."""

    def close(self) -> None:
        """Gives back what it holds; nobody may be inside `predict`."""


class SavedModel:
    """A SavedModel behind TensorFlow 1's loader, which is that of TensorFlow Serving."""

    def __init__(self, path: Path) -> None:
        """Loads a SavedModel and replays its warm-up requests; takes from a fraction of a second to minutes.

        Raises:
            Refusal: it cannot be loaded, or refuses one of its warm-up requests.
        """
        self._session = _session()
        try:
            loaded = _load(self._session, path)
            self.signature_defs: Mapping[str, Any] = dict(loaded.signature_def)
            self._signatures = {
                name: _Signature(self._session, definition)
                for name, definition in self.signature_defs.items()
                if definition.method_name in _METHODS
            }
            for request in _warm_up_requests(path / WARM_UP_REQUESTS):
                self.predict(request, predict_pb2.PredictResponse())
        except tf.errors.OpError as error:
            self._session.close()
            raise of_tensorflow(error.error_code, error.message) from error
        except BaseException:
            self._session.close()
            raise

    def predict(self, request: predict_pb2.PredictRequest, response: predict_pb2.PredictResponse) -> None:
        """Fills in the outputs that a request asks for; any number of threads may call it at once.

        Raises:
            Refusal: FAILED_PRECONDITION without such a signature, INVALID_ARGUMENT for inputs that do not fit it, and
                what TensorFlow says of the rest.
        """
        name = request.model_spec.signature_name or DEFAULT_SIGNATURE
        signature = self._signatures.get(name)
        if signature is None:
            self._refuse(name)
        else:
            signature.run(request, response)

    def close(self) -> None:
        """Gives back the session; nobody may be inside `predict`."""
        self._signatures.clear()
        self._session.close()

    def _refuse(self, name: str) -> None:
        if name not in self.signature_defs:
            raise failed_precondition(f'Serving signature key "{name}" not found.')
        raise Refusal(
            grpc.StatusCode.INTERNAL,
            f"Expected prediction signature method_name to be one of {{{', '.join(_METHODS)}}}. Was: "
            f"{self.signature_defs[name].method_name}",
        )


class _Signature:
    """A SignatureDef and the session's callable for it."""

    def __init__(self, session: Any, definition: Any) -> None:
        self._inputs = [Input(name, info) for name, info in sorted(definition.inputs.items())]
        self._input_names = [i.name for i in self._inputs]
        self._outputs = sorted(definition.outputs)
        # Session.make_callable with feeds is Session.run in disguise and takes half as long again: this is what both
        # are made of.  Feeds and fetches come in the order in which they are named here.
        options = config_pb2.CallableOptions(
            feed=[definition.inputs[name].name for name in self._input_names],
            fetch=[definition.outputs[name].name for name in self._outputs],
        )
        self._call: Callable[..., Sequence[Array]] = session._make_callable_from_options(options)

    def run(self, request: predict_pb2.PredictRequest, response: predict_pb2.PredictResponse) -> None:
        """Checks the inputs, runs the graph and packs the outputs."""
        if len(request.inputs) != len(self._inputs) or any(name not in request.inputs for name in self._input_names):
            raise invalid(self._size_message(request))
        wanted = self._wanted(request.output_filter)
        arrays = [i.parse(request.inputs[i.name]) for i in self._inputs]
        try:
            results = self._call(*arrays)
        except tf.errors.OpError as error:
            raise of_tensorflow(error.error_code, error.message) from error
        for name, result in zip(self._outputs, results, strict=True):
            if name in wanted:
                pack(result, response.outputs[name])

    def _wanted(self, output_filter: Sequence[str]) -> Sequence[str]:
        for index, name in enumerate(output_filter):
            if name not in self._outputs:
                raise invalid(
                    f"output tensor alias not found in signature: {name} Outputs expected to be in the set "
                    f"{_braced(self._outputs)}."
                )
            if name in output_filter[:index]:
                raise invalid(f"duplicate output tensor alias: {name}")
        return output_filter or self._outputs

    def _size_message(self, request: predict_pb2.PredictRequest) -> str:
        sent, declared = sorted(request.inputs), self._input_names
        return (
            f"input size does not match signature: {len(sent)}!={len(declared)} len({_braced(sent)}) != "
            f"len({_braced(declared)}). Sent extra: {_braced(sorted(set(sent) - set(declared)))}. Missing but "
            f"required: {_braced(sorted(set(declared) - set(sent)))}."
        )


def _session() -> Any:
    # A graph for one row has nothing to do in parallel: its operations run in the caller's thread, which saves the way
    # to another one and lets requests, not operations, share the cores.
    config = tf.compat.v1.ConfigProto(inter_op_parallelism_threads=-1)
    config.gpu_options.allow_growth = True
    return tf.compat.v1.Session(graph=tf.Graph(), config=config)


def _load(session: Any, path: Path) -> Any:
    if not any((path / name).is_file() for name in ("saved_model.pb", "saved_model.pbtxt")):
        raise Refusal(
            grpc.StatusCode.NOT_FOUND,
            f"Could not find SavedModel .pb or .pbtxt at supplied export directory path: {path}",
        )
    try:
        with session.graph.as_default():
            return tf.compat.v1.saved_model.load(session, [tf.saved_model.SERVING], str(path))
    except tf.errors.OpError:
        raise
    except Exception as error:  # a damaged directory makes the loader fail in any way
        raise Refusal(grpc.StatusCode.UNKNOWN, f"{path} cannot be loaded: {type(error).__name__}: {error}") from error


def _warm_up_requests(path: Path) -> Iterator[predict_pb2.PredictRequest]:
    if not path.is_file():
        return
    read = 0
    for index, record in enumerate(tf.compat.v1.io.tf_record_iterator(str(path))):
        read += len(record) + _RECORD_FRAME_BYTES
        if index == _MOST_WARM_UP_REQUESTS:
            raise invalid(f"Number of warmup records exceeds the maximum ({_MOST_WARM_UP_REQUESTS}) at {path}")
        try:
            log = prediction_log_pb2.PredictionLog.FromString(record)
        except DecodeError as error:
            raise invalid(f"Failed to parse warmup record {index} from {path}") from error
        if log.WhichOneof("log_type") != "predict_log":
            raise Refusal(
                grpc.StatusCode.UNIMPLEMENTED, f"Unsupported log_type for warmup: {log.WhichOneof('log_type')}"
            )
        yield log.predict_log.request
    # The iterator takes a record that is cut short for the end of the file.
    if read != path.stat().st_size:
        raise Refusal(
            grpc.StatusCode.DATA_LOSS,
            f"truncated record at {read} of {path}. Please verify your warmup data is in TFRecord format.",
        )


def _braced(names: Sequence[str]) -> str:
    return "{" + ",".join(names) + "}"
