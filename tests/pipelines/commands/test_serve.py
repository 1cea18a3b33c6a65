"""`fraudops serve` in a process of its own: it says where, serves, and ends when it is told to."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from tensorflow_serving.apis import prediction_service_pb2_grpc

from pipelines.cli import main
from pipelines.workspace import Workspace
from schemas.scoring_pb2_grpc import ScoringStub
from serving.decisions.log import DecisionLog
from tests.redis_server import redis_server
from tests.serving.gateway.gateways import transaction
from tests.serving.model_server.models import BOUND_S, Constant, predict_request
from tests.serving.model_server.test_server import ROW


@contextmanager
def started(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """The command in a process, and the object it printed when it began to serve."""
    command = [sys.executable, "-m", "pipelines.cli", "serve", *arguments]
    ports = ["--port", "0", "--metrics-port", "0", "--json"]
    with subprocess.Popen([*command, *ports], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, process.communicate()[1]
            yield process, json.loads(line)
        finally:
            process.kill()


def test_the_server_serves_until_sigterm_and_answers_what_is_under_way(tmp_path: Path) -> None:
    Constant(0.25).save(tmp_path / "3")
    with started("model-server", "--model-base-path", str(tmp_path), "--model-name", "fraud") as (process, said):
        assert said["models"] == ["fraud"]
        assert said["metrics"].endswith("/metrics")
        answered = threading.Event()
        failures: set[grpc.StatusCode] = set()

        def ask() -> None:
            with grpc.insecure_channel(said["address"]) as channel:
                stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
                while not failures:
                    try:
                        response = stub.Predict(predict_request(ROW), timeout=BOUND_S)
                        assert response.model_spec.version.value == 3
                        answered.set()
                    except grpc.RpcError as error:
                        failures.add(error.code())

        caller = threading.Thread(target=ask)
        caller.start()
        assert answered.wait(BOUND_S)
        process.send_signal(signal.SIGTERM)
        out, log = process.communicate(timeout=BOUND_S)
        caller.join(BOUND_S)
        # The request behind the signal found nobody, or (CANCELLED) was on the wire and reached no thread.
        assert failures < {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
    assert process.returncode == 0
    assert out == ""
    assert "fraud version 3 is unloaded" in log


def test_a_model_needs_a_base_path_or_a_configuration_file(tmp_path: Path) -> None:
    assert main(["serve", "model-server"]) == 2
    assert main(["serve", "model-server", "--model-base-path", str(tmp_path / "absent")]) == 2


def test_a_file_that_is_no_configuration_is_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "models.config"
    file.write_text("nonsense", encoding="utf-8")
    assert main(["serve", "model-server", "--model-config-file", str(file)]) == 2
    assert "models.config" in capsys.readouterr().err


def test_the_gateway_decides_without_any_model_and_answers_what_is_under_way_at_sigterm(tmp_path: Path) -> None:
    options = ["--source", "simulated", "--model-server", "127.0.0.1:1", "--workspace", str(tmp_path)]
    with started("gateway", *options) as (process, said):
        decided: list[str] = []
        answered = threading.Event()
        failures: set[grpc.StatusCode] = set()

        def ask() -> None:
            with grpc.insecure_channel(said["address"]) as channel:
                stub: Any = ScoringStub(channel)
                while not failures:
                    try:
                        decision = stub.Score(transaction(), timeout=BOUND_S)
                        assert not decision.HasField("model")
                        decided.append(decision.transaction_id)
                        answered.set()
                    except grpc.RpcError as error:
                        failures.add(error.code())

        caller = threading.Thread(target=ask)
        caller.start()
        assert answered.wait(BOUND_S)
        with urllib.request.urlopen(said["metrics"], timeout=BOUND_S) as page:
            assert b"fraudops_gateway_decisions_total" in page.read()
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=BOUND_S)
        caller.join(BOUND_S)
        # The request behind the signal found nobody, or was on the wire.
        assert failures < {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
    assert process.returncode == 0
    assert out == ""
    with closing(DecisionLog(tmp_path / "serving" / "decisions.sqlite")) as log:
        assert all(log.find(transaction_id) for transaction_id in decided)
        assert log.count() - len(decided) in (0, 1)  # the last answer may not have come through


def test_a_gateway_keeps_its_features_in_redis_where_it_is_told_to(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("s3cret-of-a-test")
    with redis_server(tmp_path, "--requirepass", "s3cret-of-a-test") as redis:
        options = ["--source", "simulated", "--model-server", "127.0.0.1:1", "--workspace", str(tmp_path)]
        options += ["--feature-store", redis.url, "--feature-store-password-file", str(password)]
        with started("gateway", *options) as (process, said):
            with grpc.insecure_channel(said["address"]) as channel:
                stub: Any = ScoringStub(channel)
                decision = stub.Score(transaction(), timeout=BOUND_S)
            process.send_signal(signal.SIGTERM)
            _, log = process.communicate(timeout=BOUND_S)
        assert "s3cret" not in log
        with redis.client("s3cret-of-a-test") as client:
            assert list(client.scan_iter(f"fraudops:simulated:*:a{decision.transaction_id}"))
    assert not Workspace(tmp_path).feature_store("simulated").exists()


def test_a_gateway_says_what_its_rules_look_at_in_vain(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text(
        "rules: [{name: r, action: REVIEW, reason: LISTED, when: {field: device_id, '==': d}}]", encoding="utf-8"
    )
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        options = ["--source", "handbook", "--rules", str(rules), "--workspace", str(tmp_path), "--port", port]
        assert main(["serve", "gateway", "--model-server", "127.0.0.1:1", *options]) == 2
    said = capsys.readouterr().err
    assert "lacks: device_id" in said
    assert port in said
