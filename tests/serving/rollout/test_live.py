"""The controller with a real model server, while somebody asks it all the time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import grpc
from tensorflow_serving.apis import prediction_service_pb2_grpc

from serving.model_server.config import read_config_file
from serving.model_server.server import ModelServer, Options
from serving.rollout.model_servers import ModelServers, ensure_config
from serving.rollout.policy import Step
from serving.rollout.routing import Routing
from serving.rollout.situation import State
from serving.rollout.table import RolloutTable
from tests.serving.model_server.models import BOUND_S, Constant, predict_request
from tests.serving.model_server.test_server import FREE, ROW
from tests.serving.rollout.scene import POLICY, Scene, shadow_tally, tally

_QUICK = replace(
    POLICY,
    shadow=Step(min_decisions=100, min_seconds=0.1),
    canary=tuple(replace(step, min_seconds=0.1) for step in POLICY.canary),
)
_STALL_S = 2.0


def now_us() -> int:
    return time.time_ns() // 1_000


class Payer(threading.Thread):
    """Asks for every label of the routing that it has taken up, as a gateway does, and notes what went wrong."""

    def __init__(self, table: Path, address: str) -> None:
        super().__init__()
        self.failures: list[str] = []
        self.answered: set[tuple[str, int]] = set()
        self.stop = threading.Event()
        self._table = RolloutTable(table)
        self._address = address

    def run(self) -> None:
        try:
            with grpc.insecure_channel(self._address) as channel:
                predict = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict
                while not self.stop.is_set():
                    began = time.monotonic()
                    routing = self._take_up()
                    for label, served in (("stable", routing.stable), ("canary", routing.candidate)):
                        if served is not None:
                            self._ask(predict, routing, label, began)
        finally:
            self._table.close()

    def _take_up(self) -> Routing:
        routing = self._table.routing()
        self._table.adopt("payer", routing.generation, now_us())
        return routing

    def _ask(self, predict: Callable[..., object], routing: Routing, label: str, began: float) -> None:
        failure = ""
        try:
            response = predict(predict_request(ROW, label=label), timeout=BOUND_S)
            version = response.model_spec.version.value  # type: ignore[attr-defined]
            if routing.served(version) is None and self._table.routing().served(version) is None:
                failure = f"version {version} answered for {label}"
            self.answered.add((label, version))
        except grpc.RpcError as error:
            failure = str(error)
        # Who was held up for so long had been given up as dead.
        if failure and time.monotonic() - began < _STALL_S:
            self.failures.append(f"{failure} under {routing}")


@contextmanager
def paid(scene_root: Path, address: str) -> Iterator[Payer]:
    payer = Payer(scene_root / "rollout.sqlite", address)
    payer.start()
    try:
        yield payer
    finally:
        payer.stop.set()
        payer.join(BOUND_S)


def tick_until(scene: Scene, condition: Callable[[], bool]) -> None:
    end = time.monotonic() + BOUND_S
    while not condition():
        assert time.monotonic() < end, f"{scene.story}; {scene.table.status().note}"
        scene.controller.tick()
        time.sleep(0.02)


def is_at(scene: Scene, version: int, state: State) -> bool:
    rollout = scene.table.situation().rollout
    return rollout is not None and (rollout.version, rollout.state) == (version, state)


def approve(scene: Scene, version: int) -> None:
    Constant(version / 8).save(scene.registry.artifact(version))
    scene.registry.add(version)
    scene.registry.approve(version)


@contextmanager
def model_server(config: Path, options: Options) -> Iterator[ModelServer]:
    with ModelServer(read_config_file(config), options) as server:
        yield server


def test_nobody_who_asks_is_failed_by_promotion_rollback_or_a_restarted_controller(tmp_path: Path):
    config = tmp_path / "models.config"
    ensure_config(config)
    with (
        model_server(config, FREE) as server,
        ModelServers((server.address,), "fraud", tmp_path / "models", config, BOUND_S) as servers,
    ):
        (tmp_path / "models").mkdir()
        scene = Scene(tmp_path, _QUICK, gateways=(), servers=servers, now_us=now_us)
        scene.settings = replace(scene.settings, drain_s=0.2, load_timeout_s=BOUND_S)
        scene.restart()
        with paid(tmp_path, server.address) as payer:
            scene.evidence.shadow = shadow_tally(stable=False)
            approve(scene, 1)
            tick_until(scene, lambda: is_at(scene, 1, State.PROMOTED))
            scene.evidence.shadow = shadow_tally()
            approve(scene, 2)
            tick_until(scene, lambda: is_at(scene, 2, State.CANARY))
            scene.restart()
            tick_until(scene, lambda: is_at(scene, 2, State.PROMOTED))
            approve(scene, 3)
            tick_until(scene, lambda: is_at(scene, 3, State.CANARY))
            scene.evidence.canary = tally(blocked=300)
            tick_until(scene, lambda: is_at(scene, 3, State.ROLLED_BACK))
        assert payer.failures == []
        assert {("stable", 1), ("stable", 2), ("canary", 2), ("canary", 3)} <= payer.answered
        assert next(iter(servers.states(2).values())).state == "AVAILABLE"
        assert scene.placed() == {"1", "2"}
        scene.close()


def test_a_model_server_that_starts_anew_serves_what_it_served(tmp_path: Path):
    config = tmp_path / "models.config"
    ensure_config(config)
    (tmp_path / "models").mkdir()
    with model_server(config, FREE) as server:
        address = server.address
        with ModelServers((address,), "fraud", tmp_path / "models", config, BOUND_S) as servers:
            scene = Scene(tmp_path, _QUICK, gateways=(), servers=servers, now_us=now_us)
            scene.settings = replace(scene.settings, drain_s=0.0, load_timeout_s=BOUND_S)
            scene.restart()
            scene.evidence.shadow = shadow_tally(stable=False)
            approve(scene, 1)
            tick_until(scene, lambda: is_at(scene, 1, State.PROMOTED))
            scene.close()
    again = replace(FREE, allow_labels_for_unavailable=True)
    with model_server(config, again) as server, grpc.insecure_channel(server.address) as channel:
        predict = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict
        assert predict(predict_request(ROW, label="stable"), timeout=BOUND_S).model_spec.version.value == 1
