"""The manifest of a scheduled pipeline says what the definition and the compiled pipeline say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines.definition import Definition, Limits, Resources
from pipelines.manifest import Manifest, manifest
from pipelines.nodes import plan
from pipelines.quiet import quiet
from pipelines.runner import PlannedNode
from schemas.errors import ArtifactError, ConfigurationError

DEFINITION = Definition(
    "nightly", "simulated", "/data/{SPAN}.csv", Path("/data/workspace"),
    limits=Limits(retries=1), nodes={"b": Limits(timeout_s=60, resources=Resources(gpus=1))},
)  # fmt: skip
NODES = (PlannedNode("a", (), (), True), PlannedNode("b", ("a",), ("a",), False))


def test_it_is_read_back_as_it_was_written() -> None:
    made = manifest(DEFINITION, Path("/data/nightly.yaml"), NODES)
    assert Manifest.from_json(made.to_json()) == made
    a, b = made.nodes
    assert (a.is_gate, a.retries, a.resources.gpus) == (True, 1, 0)
    assert (b.upstream, b.under, b.timeout_s, b.resources.gpus) == (("a",), ("a",), 60, 1)
    assert made.definition == "/data/nightly.yaml"


def test_limits_of_a_node_that_there_is_not_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="names nodes that there are not: b; nodes are a"):
        manifest(DEFINITION, Path("/data/nightly.yaml"), NODES[:1])


def test_another_format_and_what_is_no_manifest_are_refused() -> None:
    fields = json.loads(manifest(DEFINITION, Path("/data/nightly.yaml"), NODES).to_json())
    for text in ("", "{}", json.dumps(fields | {"format": 2}), json.dumps(fields | {"nodes": [{"id": "a"}]})):
        with pytest.raises(ArtifactError, match="compile it again"):
            Manifest.from_json(text)


def test_the_training_pipeline_has_five_gates_and_what_stands_under_them() -> None:
    with quiet():  # as the command does: TFX uses what protobuf has deprecated
        nodes = {node.name: node for node in plan(DEFINITION)}
    gates = ("ingest", "gate", "evaluator", "model_gate", "infra")
    assert tuple(name for name, node in nodes.items() if node.is_gate) == gates
    assert nodes["ingest"].upstream == nodes["ingest"].under == ()
    assert nodes["trainer"].under == ("ingest", "gate")
    assert nodes["registration"].under == gates
    order = list(nodes)
    for name, node in nodes.items():
        assert all(order.index(one) < order.index(name) for one in (*node.upstream, *node.under))
