"""Models of a few operations, the messages that ask for them, and ways to wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import get_model_status_pb2, model_management_pb2, predict_pb2

BOUND_S = 60


class Gate:
    """Holds up the requests inside the signature `gated` until it is opened; only within this process."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.opened = threading.Event()

    def __call__(self, x: np.ndarray) -> np.ndarray:
        self.entered.release()
        assert self.opened.wait(BOUND_S)
        return x


class Constant(tf.Module):
    """Answers `score`, the same for every row of `x` float32 `[batch, 2]`."""

    def __init__(self, score: float, gate: Gate | None = None) -> None:
        super().__init__()
        self.score = tf.Variable(score)
        self.gate = gate or Gate()

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
    def predict(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"score": tf.fill([tf.shape(x)[0]], self.score), "rows": tf.shape(x)[0]}

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
    def gated(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        through = tf.ensure_shape(tf.numpy_function(self.gate, [x], tf.float32), [None, 2])
        return {"score": self.score + 0 * through[:, 0]}

    def save(self, path: Path) -> None:
        tf.saved_model.save(self, str(path), {"serving_default": self.predict, "gated": self.gated})


def predict_request(
    inputs: Mapping[str, np.ndarray],
    signature: str = "",
    name: str = "fraud",
    version: int | None = None,
    label: str | None = None,
) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = name
    request.model_spec.signature_name = signature
    if version is not None:
        request.model_spec.version.value = version
    if label is not None:
        request.model_spec.version_label = label
    for key, value in inputs.items():
        dtype = tf.string if value.dtype == object else None
        request.inputs[key].CopyFrom(tf.make_tensor_proto(value, dtype=dtype, shape=value.shape))
    return request


def status_request(name: str = "fraud", version: int | None = None) -> get_model_status_pb2.GetModelStatusRequest:
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = name
    if version is not None:
        request.model_spec.version.value = version
    return request


def reload_request(
    base_path: Path, versions: Sequence[int] = (), labels: Mapping[str, int] | None = None, name: str = "fraud"
) -> model_management_pb2.ReloadConfigRequest:
    """One model, its versions by number, or the policy `all` without any."""
    request = model_management_pb2.ReloadConfigRequest()
    model = request.config.model_config_list.config.add(
        name=name, base_path=str(base_path), model_platform="tensorflow"
    )
    if versions:
        model.model_version_policy.specific.versions.extend(versions)
    else:
        model.model_version_policy.all.SetInParent()
    for label, version in (labels or {}).items():
        model.version_labels[label] = version
    return request


def eventually(condition: Callable[[], bool]) -> None:
    """Waits until a condition holds, with a bound."""
    end = time.monotonic() + BOUND_S
    while not condition():
        assert time.monotonic() < end, "the condition does not come to hold"
        time.sleep(0.01)
