"""The whole server, asked by the stock stubs: scores, errors, labels, loading and unloading under load."""

from __future__ import annotations

import dataclasses
import os
import shutil
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
)

from schemas.errors import ConfigurationError
from serving.model_server.config import Every, ModelSettings
from serving.model_server.servable import WARM_UP_REQUESTS, SavedModel
from serving.model_server.server import ModelServer, Options
from tests.serving.model_server.models import (
    BOUND_S,
    Constant,
    Gate,
    eventually,
    predict_request,
    reload_request,
    status_request,
)

State = get_model_status_pb2.ModelVersionStatus.State
FREE = Options(port=0, metrics_port=0, poll_wait_s=0.05, grace_s=BOUND_S)
ROW = {"x": np.array([[1.0, 2.0]], np.float32)}


class Client:
    """The stock stubs on one channel."""

    def __init__(self, address: str) -> None:
        self.channel = grpc.insecure_channel(address)
        prediction = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)
        model = model_service_pb2_grpc.ModelServiceStub(self.channel)
        self.predict = prediction.Predict
        self.metadata = prediction.GetModelMetadata
        self.reload = model.HandleReloadConfigRequest
        self.status = model.GetModelStatus

    def states(self) -> dict[int, int]:
        return {one.version: one.state for one in self.status(status_request()).model_version_status}


@contextmanager
def serving(base: Path, options: Options = FREE, load: Any = SavedModel) -> Iterator[tuple[ModelServer, Client]]:
    with ModelServer([ModelSettings("fraud", base, Every())], options, load) as server:
        client = Client(server.address)
        with client.channel:
            yield server, client


@pytest.fixture(scope="module")
def constants(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Versions 1 and 2, which score 0.25 and 0.5."""
    base = tmp_path_factory.mktemp("constants")
    for number in (1, 2):
        Constant(number / 4).save(base / str(number))
    return base


@pytest.fixture(scope="module")
def shared(constants: Path) -> Iterator[tuple[ModelServer, Client]]:
    """A server of both constants that no test changes."""
    with serving(constants) as pair:
        yield pair


@pytest.fixture(scope="module")
def client(shared: tuple[ModelServer, Client]) -> Client:
    return shared[1]


def refused(call: Any, request: Any, **options: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as error:
        call(request, timeout=options.pop("timeout", BOUND_S), **options)
    return error.value.code(), error.value.details() or ""


@pytest.fixture(scope="module")
def real(tiny_model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model as version 1, and as version 2 with another intercept, so that it scores otherwise."""
    import tensorflow_transform as tft

    from components.explanations import average_genuine
    from components.export import export_saved_model
    from components.model import network_inputs
    from components.trainer import network_shape, transform_split
    from schemas.bundle import Bundle
    from tests.components.tiny import read_split

    base = tmp_path_factory.mktemp("real")
    shutil.copytree(tiny_model.saved_model, base / "1")
    examples = tiny_model.examples
    transform = tft.TFTransformOutput(str(tiny_model.transform_graph))
    inputs, labels = transform_split(examples.root, "validation", examples.spec, transform)
    shape = network_shape(inputs, examples.spec, transform)
    rows, _ = read_split(examples.root, "validation", examples.spec)
    export_saved_model(
        dataclasses.replace(tiny_model.trained, intercept=tiny_model.trained.intercept + 1),
        shape,
        Bundle.read(base / "1"),
        transform,
        average_genuine(tiny_model.trained.network, network_inputs(inputs, shape), labels),
        rows,
        base / "2",
    )
    return base


def test_the_served_model_scores_as_it_does_without_a_server(real: Path, tiny_model: Any):
    from components.examples import pack
    from tests.components.tiny import as_example, read_split, with_odd_rows

    spec = tiny_model.examples.spec
    features, _ = read_split(tiny_model.examples.root, "test", spec)
    rows = with_odd_rows({name: values[:20] for name, values in features.items()}, spec)
    numeric, categorical = pack(rows, spec)
    requests: dict[str, Mapping[str, np.ndarray]] = {
        "score_packed": {"numeric": numeric, "categorical": categorical},
        "score": rows,
        "serving_default": {"examples": np.array([as_example(rows, row) for row in range(40)], object)},
    }
    seen = {}
    with serving(real) as (_, client):
        for number in (1, 2):
            direct = tf.saved_model.load(str(real / str(number)))
            for signature, inputs in requests.items():
                tensors = {n: tf.constant(v, tf.string if v.dtype == object else v.dtype) for n, v in inputs.items()}
                expected = direct.signatures[signature](**tensors)["score"].numpy()
                response = client.predict(predict_request(inputs, signature, version=number), timeout=BOUND_S)
                seen[number, signature] = tf.make_ndarray(response.outputs["score"])
                assert response.model_spec.version.value == number
                # The server fills a batch up, and float32 rounds other rows' way in a batch of another size.
                np.testing.assert_allclose(seen[number, signature], expected, rtol=1e-5, atol=1e-6)
    assert np.all(seen[1, "score_packed"] < seen[2, "score_packed"])


def test_the_response_says_which_model_version_and_signature_answered(client: Client):
    response = client.predict(predict_request(ROW))
    assert (response.model_spec.name, response.model_spec.signature_name) == ("fraud", "serving_default")
    assert response.model_spec.version.value == 2
    assert response.outputs["score"].dtype == tf.float32.as_datatype_enum
    assert list(response.outputs["score"].float_val) == [0.5]
    assert list(response.outputs["rows"].int_val) == [1]


def test_a_filter_chooses_outputs(client: Client):
    request = predict_request(ROW, version=1)
    request.output_filter.append("rows")
    assert set(client.predict(request).outputs) == {"rows"}
    request.output_filter.append("rows")
    assert refused(client.predict, request) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "duplicate output tensor alias: rows",
    )
    request.output_filter[:] = ["nothing"]
    code, message = refused(client.predict, request)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "output tensor alias not found in signature: nothing" in message


@pytest.mark.parametrize(
    ("request_", "code", "message"),
    [
        (predict_request(ROW, name="other"), "NOT_FOUND", "Servable not found for request: Latest(other)"),
        (predict_request(ROW, version=7), "NOT_FOUND", "Servable not found for request: Specific(fraud, 7)"),
        (predict_request(ROW, label="gold"), "INVALID_ARGUMENT", "Unrecognized servable version label: gold"),
        (predict_request(ROW, name=""), "INVALID_ARGUMENT", "ModelSpec has no name specified."),
        (predict_pb2.PredictRequest(), "INVALID_ARGUMENT", "Missing ModelSpec"),
        (predict_request(ROW, "nope"), "FAILED_PRECONDITION", 'Serving signature key "nope" not found.'),
        (
            predict_request({}),
            "INVALID_ARGUMENT",
            "input size does not match signature: 0!=1 len({}) != len({x}). Sent extra: {}. Missing but required: {x}.",
        ),
        (
            predict_request({"y": ROW["x"]}),
            "INVALID_ARGUMENT",
            "input size does not match signature: 1!=1 len({y}) != len({x}). Sent extra: {y}. "
            "Missing but required: {x}.",
        ),
        (predict_request({"x": np.ones((1, 2))}), "INVALID_ARGUMENT", "input x: expected float32, got float64"),
        (
            predict_request({"x": np.ones((1, 3), np.float32)}),
            "INVALID_ARGUMENT",
            "input x: expected shape [?,2], got [1,3]",
        ),
        (predict_request({"x": np.ones(2, np.float32)}), "INVALID_ARGUMENT", "input x: expected shape [?,2], got [2]"),
    ],
)
def test_what_cannot_be_answered_is_refused_as_tensorflow_serving_does(
    client: Client, request_: predict_pb2.PredictRequest, code: str, message: str
):
    assert refused(client.predict, request_) == (grpc.StatusCode[code], message)


def test_a_tensor_that_is_none_is_refused_by_its_name(client: Client):
    request = predict_request(ROW)
    request.inputs["x"].tensor_content = b"abc"
    assert refused(client.predict, request) == (grpc.StatusCode.INVALID_ARGUMENT, "tensor parsing error: x")
    request.inputs["x"].ClearField("tensor_content")
    request.inputs["x"].tensor_shape.dim[0].size = 1 << 40
    code, message = refused(client.predict, request)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert message.startswith("input x: ")
    request.inputs["x"].tensor_shape.dim[0].size = -1
    assert refused(client.predict, request) == (grpc.StatusCode.INVALID_ARGUMENT, "tensor parsing error: x")


def test_what_the_graph_refuses_keeps_its_code(real: Path):
    with serving(real) as (_, client):
        signature = client.metadata(metadata_request()).metadata["signature_def"]
        found = get_model_metadata_pb2.SignatureDefMap()
        signature.Unpack(found)
        widths = {n: i.tensor_shape.dim[1].size for n, i in found.signature_def["score_packed"].inputs.items()}
        inputs = {
            "numeric": np.zeros((2, widths["numeric"]), np.float32),
            "categorical": np.full((1, widths["categorical"]), b"", object),
        }
        code, message = refused(client.predict, predict_request(inputs, "score_packed"))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "Dimension 0" in message


def metadata_request(version: int | None = None, field: str = "signature_def") -> Any:
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=[field] if field else [])
    request.model_spec.CopyFrom(predict_request({}, version=version).model_spec)
    return request


def test_metadata_holds_the_signatures_of_a_version(client: Client):
    response = client.metadata(metadata_request(version=1))
    found = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(found)
    assert {"serving_default", "gated"} <= set(found.signature_def)
    assert found.signature_def["serving_default"].inputs["x"].dtype == tf.float32.as_datatype_enum
    assert (response.model_spec.name, response.model_spec.version.value) == ("fraud", 1)


def test_metadata_that_is_not_there_is_refused(client: Client):
    assert refused(client.metadata, metadata_request(version=9))[0] is grpc.StatusCode.NOT_FOUND
    assert refused(client.metadata, metadata_request(field="weights"))[0] is grpc.StatusCode.INVALID_ARGUMENT
    assert refused(client.metadata, metadata_request(field=""))[0] is grpc.StatusCode.INVALID_ARGUMENT


def test_the_status_of_what_is_unknown_is_not_found(client: Client):
    assert client.states() == {1: State.AVAILABLE, 2: State.AVAILABLE}
    assert refused(client.status, status_request(version=9)) == (
        grpc.StatusCode.NOT_FOUND,
        "Could not find version 9 of model fraud",
    )
    assert refused(client.status, status_request("other")) == (
        grpc.StatusCode.NOT_FOUND,
        "Could not find any versions of model other",
    )


def test_health_is_served(client: Client):
    health: Any = health_pb2_grpc.HealthStub(client.channel)
    for service in ("", "tensorflow.serving.PredictionService"):
        answer = health.Check(health_pb2.HealthCheckRequest(service=service))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_metrics_count_by_model_version_and_signature_and_trust_no_name_of_a_caller(constants: Path):
    with serving(constants) as (server, client):
        client.predict(predict_request(ROW, version=1))
        refused(client.predict, predict_request(ROW, "made-up"))
        refused(client.predict, predict_request(ROW, name="made-up"))
        with urllib.request.urlopen(server.metrics_address) as page:
            lines = page.read().decode().splitlines()
    labels = 'model="fraud",signature="serving_default",version="1"'
    assert f"fraudops_model_server_requests_total{{{labels}}} 1.0" in lines
    assert f"fraudops_model_server_latency_seconds_count{{{labels}}} 1.0" in lines
    assert any("errors_total" in line and 'code="FAILED_PRECONDITION",model="fraud"' in line for line in lines)
    assert 'fraudops_model_server_loaded{model="fraud",version="2"} 1.0' in lines
    assert not any("made-up" in line for line in lines)


def test_labels_move_under_load_without_a_failed_request(constants: Path):
    with serving(constants) as (_, client), ThreadPoolExecutor(4) as pool:
        client.reload(reload_request(constants, labels={"stable": 1}))
        done = threading.Event()

        def ask() -> set[tuple[int, float]]:
            seen = set()
            while not done.is_set():
                response = client.predict(predict_request(ROW, label="stable"), timeout=BOUND_S)
                seen.add((response.model_spec.version.value, response.outputs["score"].float_val[0]))
            return seen

        callers = [pool.submit(ask) for _ in range(4)]
        for move in range(20):
            now = 2 - move % 2
            client.reload(reload_request(constants, labels={"stable": now}))
            assert client.predict(predict_request(ROW, label="stable")).model_spec.version.value == now
        done.set()
        assert set.union(*(caller.result(BOUND_S) for caller in callers)) == {(1, 0.25), (2, 0.5)}


def test_a_label_on_a_version_that_does_not_serve_is_refused(constants: Path):
    with serving(constants) as (_, client):
        client.reload(reload_request(constants, labels={"stable": 1}))
        assert refused(client.reload, reload_request(constants, versions=[2], labels={"stable": 7})) == (
            grpc.StatusCode.FAILED_PRECONDITION,
            "Request to assign label to fraud version 7, which is not currently available for inference",
        )
        assert client.predict(predict_request(ROW, label="stable")).model_spec.version.value == 1


def test_a_configuration_that_cannot_be_served_is_refused(client: Client, constants: Path):
    assert refused(client.reload, model_management_pb2.ReloadConfigRequest())[0] is grpc.StatusCode.INVALID_ARGUMENT
    assert refused(client.reload, reload_request(constants / "absent"))[0] is grpc.StatusCode.INVALID_ARGUMENT
    assert client.states() == {1: State.AVAILABLE, 2: State.AVAILABLE}


def test_a_reload_waits_until_a_new_model_serves(constants: Path):
    with serving(constants) as (_, client):
        answer = client.reload(reload_request(constants, name="other"), timeout=BOUND_S)
        assert answer.status.error_code == 0
        assert client.predict(predict_request(ROW, name="other")).model_spec.version.value == 2
        assert refused(client.predict, predict_request(ROW))[0] is grpc.StatusCode.NOT_FOUND


def test_a_version_loads_under_load_and_disturbs_nobody(constants: Path, tmp_path: Path):
    shutil.copytree(constants / "1", tmp_path / "1")
    may_load = threading.Event()

    def load(path: Path) -> SavedModel:
        assert path.name == "1" or may_load.wait(BOUND_S)
        return SavedModel(path)

    with serving(tmp_path, load=load) as (_, client), ThreadPoolExecutor(4) as pool:
        done = threading.Event()

        def ask() -> int:
            answered = 0
            while not done.is_set():
                response = client.predict(predict_request(ROW, version=1), timeout=BOUND_S)
                assert list(response.outputs["score"].float_val) == [0.25]
                answered += 1
            return answered

        callers = [pool.submit(ask) for _ in range(4)]
        shutil.copytree(constants / "2", tmp_path / "incoming")
        (tmp_path / "incoming").rename(tmp_path / "2")
        eventually(lambda: client.states() == {1: State.AVAILABLE, 2: State.LOADING})
        assert refused(client.predict, predict_request(ROW, version=2))[0] is grpc.StatusCode.NOT_FOUND
        assert client.predict(predict_request(ROW)).model_spec.version.value == 1
        may_load.set()
        eventually(lambda: client.states() == {1: State.AVAILABLE, 2: State.AVAILABLE})
        assert client.predict(predict_request(ROW)).model_spec.version.value == 2
        done.set()
        assert all(caller.result(BOUND_S) > 0 for caller in callers)


@contextmanager
def gated_server(tmp_path: Path, options: Options = FREE) -> Iterator[tuple[ModelServer, Client, Gate]]:
    """Serves two versions, of which 1 holds up the requests to its signature `gated`."""
    model = Constant(0.25, Gate())
    model.save(tmp_path / "1")
    Constant(0.5).save(tmp_path / "2")
    with serving(tmp_path, options) as (server, client):
        try:
            yield server, client, model.gate
        finally:
            model.gate.opened.set()


def test_unloading_waits_for_the_requests_inside(tmp_path: Path):
    with gated_server(tmp_path) as (_, client, gate):
        inside = client.predict.future(predict_request(ROW, "gated", version=1), timeout=BOUND_S)
        assert gate.entered.acquire(timeout=BOUND_S)
        client.reload(reload_request(tmp_path, versions=[2]))
        eventually(lambda: client.states()[1] == State.UNLOADING)
        assert refused(client.predict, predict_request(ROW, version=1))[0] is grpc.StatusCode.NOT_FOUND
        assert client.predict(predict_request(ROW)).model_spec.version.value == 2
        gate.opened.set()
        assert list(inside.result().outputs["score"].float_val) == [0.25]
        eventually(lambda: client.states()[1] == State.END)


def test_stopping_answers_the_requests_inside(tmp_path: Path):
    with gated_server(tmp_path) as (server, client, gate):
        inside = client.predict.future(predict_request(ROW, "gated", version=1), timeout=BOUND_S)
        assert gate.entered.acquire(timeout=BOUND_S)
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        with grpc.insecure_channel(server.address) as late:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(late)

            def closed() -> bool:
                try:
                    stub.Predict(predict_request(ROW), timeout=BOUND_S)
                except grpc.RpcError as error:
                    return error.code() is grpc.StatusCode.UNAVAILABLE
                return False

            eventually(closed)
        gate.opened.set()
        assert list(inside.result().outputs["score"].float_val) == [0.25]
        stopping.join(BOUND_S)
        assert not stopping.is_alive()


def test_a_request_whose_deadline_passed_while_it_waited_does_not_run(tmp_path: Path):
    with gated_server(tmp_path, dataclasses.replace(FREE, threads=1)) as (_, client, gate):
        inside = client.predict.future(predict_request(ROW, "gated", version=1), timeout=BOUND_S)
        assert gate.entered.acquire(timeout=BOUND_S)
        code, _ = refused(client.predict, predict_request(ROW, "gated", version=1), timeout=0.05)
        assert code is grpc.StatusCode.DEADLINE_EXCEEDED
        gate.opened.set()
        inside.result()
        client.predict(predict_request(ROW))  # behind the late one
        assert not gate.entered.acquire(blocking=False)


def test_a_message_beyond_the_limit_is_refused(constants: Path):
    with serving(constants, dataclasses.replace(FREE, max_message_bytes=1000)) as (_, client):
        rows = {"x": np.ones((200, 2), np.float32)}
        assert refused(client.predict, predict_request(rows))[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert client.predict(predict_request(ROW)).outputs["score"].float_val[0] == 0.5


def damage_nothing_there(path: Path) -> None:
    path.mkdir()


def damage_graph(path: Path) -> None:
    path.mkdir()
    (path / "saved_model.pb").write_bytes(b"\x00 not a graph")


def damage_variables(path: Path) -> None:
    Constant(1.0).save(path)
    for file in (path / "variables").iterdir():
        os.truncate(file, 3)


def damage_warm_up(path: Path) -> None:
    Constant(1.0).save(path)
    (path / WARM_UP_REQUESTS).parent.mkdir()
    (path / WARM_UP_REQUESTS).write_bytes(b"no record, nor the beginning of one")


def damage_end_of_warm_up(path: Path) -> None:
    Constant(1.0).save(path)
    write_warm_up(path, predict_request(ROW))
    os.truncate(path / WARM_UP_REQUESTS, 9)


def damage_warm_up_request(path: Path) -> None:
    Constant(1.0).save(path)
    write_warm_up(path, predict_request({"x": np.ones((1, 3), np.float32)}))


def write_warm_up(path: Path, request: predict_pb2.PredictRequest) -> None:
    (path / WARM_UP_REQUESTS).parent.mkdir()
    with tf.io.TFRecordWriter(str(path / WARM_UP_REQUESTS)) as writer:
        log = prediction_log_pb2.PredictLog(request=request)
        writer.write(prediction_log_pb2.PredictionLog(predict_log=log).SerializeToString())


@pytest.mark.parametrize(
    "damage",
    [
        damage_nothing_there,
        damage_graph,
        damage_variables,
        damage_warm_up,
        damage_end_of_warm_up,
        damage_warm_up_request,
    ],
)
def test_a_broken_version_ends_with_its_error_and_takes_nobody_down(constants: Path, tmp_path: Path, damage: Any):
    shutil.copytree(constants / "1", tmp_path / "1")
    damage(tmp_path / "2")
    with serving(tmp_path) as (_, client):
        [_, broken] = client.status(status_request()).model_version_status
        assert (broken.version, broken.state) == (2, State.END)
        assert broken.status.error_code != 0
        assert broken.status.error_message
        assert client.predict(predict_request(ROW)).model_spec.version.value == 1


def test_warm_up_requests_are_replayed_before_the_version_is_available(tmp_path: Path):
    model = Constant(0.25, Gate())
    model.save(tmp_path / "1")
    write_warm_up(tmp_path / "1", predict_request(ROW, "gated"))
    with ThreadPoolExecutor(1) as pool:
        server = ModelServer([ModelSettings("fraud", tmp_path)], FREE)
        starting = pool.submit(server.start)
        assert model.gate.entered.acquire(timeout=BOUND_S)
        assert not starting.done()
        model.gate.opened.set()
        starting.result(BOUND_S)
        try:
            with grpc.insecure_channel(server.address) as channel:
                stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
                assert stub.Predict(predict_request(ROW)).model_spec.version.value == 1
        finally:
            server.stop()


def test_a_taken_port_is_bad_input(constants: Path, shared: tuple[ModelServer, Client]):
    taken = int(shared[0].address.rpartition(":")[2])
    server = ModelServer([ModelSettings("fraud", constants)], dataclasses.replace(FREE, port=taken))
    with pytest.raises(ConfigurationError, match=str(taken)):
        server.start()
