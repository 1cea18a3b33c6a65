"""The whole stack under supervision: it starts, survives the death of every part, and leaves nothing behind."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipelines import supervision
from pipelines.stack import Settings, addresses, ports_of, prepare, programs
from pipelines.supervision import Program
from pipelines.workspace import Workspace
from schemas import scoring_pb2, sources
from schemas.bundle import Bundle
from schemas.errors import ScoringError
from schemas.features import FeatureSpec, specify
from schemas.reasons import VERSION
from schemas.thresholds import Thresholds
from serving import rules
from serving.client import Client
from serving.decisions.log import DecisionLog
from serving.rollout.desired import Desired
from serving.rollout.model_servers import config, write_config
from serving.rollout.routing import STABLE_LABEL, Routing, Served
from serving.rollout.table import RolloutTable
from tests.e2e.conftest import Answer

# Up to a dozen starts of processes that import TensorFlow, one after another.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

# For one start of one part on a machine that is five times slower and busy with other things.
BOUND_S = 300
CALLERS = 10
PAUSE_S = 0.1  # of a caller, so that all of them together score about 100 transactions in a second


def eventually(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + BOUND_S
    while not condition():
        assert time.monotonic() < end, "the condition does not come to hold"
        time.sleep(0.05)


def leader(stack: Path, name: str) -> int:
    """The process that supervisord started for a program; 0 while there is none."""
    return supervision.leaders(stack).get(name, 0)


def kill(stack: Path, program: Program) -> None:
    """Kills a program's process and waits until another one serves."""
    before = leader(stack, program.name)
    os.kill(before, signal.SIGKILL)
    eventually(lambda: leader(stack, program.name) not in (0, before))
    eventually(lambda: supervision.serves(program))


def listens(port: int) -> bool:
    with socket.socket() as attempt:
        return attempt.connect_ex(("127.0.0.1", port)) == 0


def test_a_stack_starts_survives_and_leaves_nothing(tmp_path: Path, fraudops: Callable[[list[str]], Answer]) -> None:
    workspace = Workspace.at(tmp_path / "workspace")
    where = ["--workspace", str(workspace.root), "--json"]
    up = ["up", "--source", "simulated", "--wait", str(BOUND_S), *where]
    try:
        first = fraudops([*up, "--free-ports"])
        assert (first.code, first.fields["started"]) == (0, True), first.fields
        ports = ports_of(workspace, None)
        assert first.fields["addresses"] == addresses(ports)
        parts = programs(workspace, Settings("simulated"), ports)
        assert all(map(supervision.serves, parts))

        again = fraudops(up)
        assert (again.code, again.fields["started"], again.fields["silent"]) == (0, False, [])
        assert again.fields["addresses"] == first.fields["addresses"]
        other = fraudops(["up", "--source", "handbook", *where])
        assert other.code == 2
        assert "other options" in other.fields["error"]["message"]

        for part in parts:
            kill(workspace.stack, part)

        down = fraudops(["down", *where])
        assert down.code == 0
        assert set(down.fields["stopped"]) == {supervision.SUPERVISOR, *(part.name for part in parts)}
        assert supervision.members(workspace.stack) == {}
        assert not any(listens(port) for part in parts for port in part.ports)
        assert fraudops(["down", *where]).fields["stopped"] == []

        # Supervisord dies and leaves its programs behind: the next start ends them first.
        assert fraudops(up).fields["addresses"] == first.fields["addresses"]
        supervisor = supervision.supervisor_of(workspace.stack)
        assert supervisor is not None
        supervisor.kill()
        eventually(lambda: supervision.supervisor_of(workspace.stack) is None)
        assert fraudops(up).fields["started"] is True
        assert all(map(supervision.serves, parts))
    finally:
        supervision.stop(workspace.stack)


def save_model(spec: FeatureSpec, folder: Path) -> None:
    """A model that finds a transaction the more suspicious the more it is about; it has no warm-up."""
    import tensorflow as tf

    class Amount(tf.Module):
        @tf.function(
            input_signature=[
                tf.TensorSpec([None, spec.numeric_width], tf.float32, name="numeric"),
                tf.TensorSpec([None, spec.categorical_width], tf.string, name="categorical"),
            ]
        )
        def score(self, numeric: tf.Tensor, categorical: tf.Tensor) -> dict[str, tf.Tensor]:
            finite = tf.where(tf.math.is_finite(numeric), numeric, tf.zeros_like(numeric))
            return {"score": tf.sigmoid(tf.reduce_mean(finite, 1) * np.float32(1e-6))}

    model = Amount()
    tf.saved_model.save(model, str(folder), {"score_packed": model.score})


@contextmanager
def serving_stack(workspace: Workspace) -> Iterator[tuple[str, Sequence[Program]]]:
    """Model server and gateway, with version 1 as the stable model; gives the gateway's address and the two."""
    mapping = sources.load("simulated")
    spec = specify(mapping.provided)
    workspace.stack.mkdir()
    ports = ports_of(workspace, supervision.free_ports)
    prepare(workspace, ports)
    model = workspace.served_models / "fraud"
    save_model(spec, model / "1")
    write_config(workspace.models_config, config(Desired(frozenset({1}), {STABLE_LABEL: 1}), "fraud", model))
    bundle = Bundle(spec, Thresholds(0.9, 0.99, 0.01, 0.5), rules.load(None).digest, VERSION)
    table = RolloutTable(workspace.rollout)
    table.publish(Routing(0, stable=Served(1, bundle)))
    table.close()
    by_name = {program.name: program for program in programs(workspace, Settings("simulated"), ports)}
    gateway = by_name["gateway"]
    # On a busy machine too, it is the model that decides while it is there.
    parts = [by_name["model-server"], replace(gateway, command=(*gateway.command, "--model-deadline-ms", "5000"))]
    try:
        supervision.launch(workspace.stack, parts)
        for _ in supervision.wait_until_serving(workspace.stack, parts, BOUND_S):
            pass
        yield addresses(ports)["gateway"], parts
    finally:
        supervision.stop(workspace.stack)


class Load:
    """Callers that score until they are told to stop, and remember every answer."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.answers: dict[str, scoring_pb2.Decision] = {}
        self.failures: Counter[str] = Counter()
        self.stop = threading.Event()
        self._numbers = itertools.count()

    def call(self) -> None:
        with Client(self.target, timeout_s=BOUND_S) as client:
            while not self.stop.wait(PAUSE_S):
                number = next(self._numbers)
                transaction = {
                    "transaction_id": f"t{number}",
                    "event_time": time.time_ns() // 1_000,
                    "card_id": f"card-{number % 97}",
                    "merchant_id": f"merchant-{number % 13}",
                    "amount_minor": 100 + number,
                    "currency": "EUR",
                }
                try:
                    self.answers[f"t{number}"] = client.score(transaction)
                except ScoringError as error:
                    self.failures[error.code] += 1

    def answered(self, count: int, by_model: bool) -> Callable[[], bool]:
        """Whether there are so many answers beyond those of now, with or without a model."""
        before = set(self.answers)

        def reached() -> bool:
            new = [answer for name, answer in list(self.answers.items()) if name not in before]
            return sum(answer.HasField("model") or not by_model for answer in new) >= count

        return reached


def test_no_acknowledged_decision_is_lost_when_gateway_and_model_server_are_killed(tmp_path: Path) -> None:
    workspace = Workspace.at(tmp_path / "workspace")
    with serving_stack(workspace) as (target, (model_server, gateway)), ThreadPoolExecutor(CALLERS) as pool:
        load = Load(target)
        callers = [pool.submit(load.call) for _ in range(CALLERS)]
        try:
            eventually(load.answered(200, by_model=True))
            for _ in range(2):
                kill(workspace.stack, gateway)
                eventually(load.answered(100, by_model=True))
                kill(workspace.stack, model_server)
                eventually(load.answered(100, by_model=True))
        finally:
            load.stop.set()
        for caller in callers:
            caller.result()
    log = DecisionLog(workspace.decisions)
    lost = []
    for name, answer in load.answers.items():
        kept = log.find(name)
        if kept is None or kept.decision != answer:
            lost.append(name)
    log.close()
    arms = Counter("model" if answer.HasField("model") else "rules" for answer in load.answers.values())
    print(f"{len(load.answers)} decisions acknowledged ({dict(arms)}), {len(lost)} lost, failed: {dict(load.failures)}")
    assert lost == []
    assert set(load.failures) <= {"DEADLINE_EXCEEDED"}
    assert arms["model"] > 0
