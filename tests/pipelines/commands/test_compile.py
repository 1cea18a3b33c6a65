"""`fraudops compile` writes what a scheduler reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from pipelines.cli import main
from pipelines.manifest import Manifest
from tests.pipelines.airflow.manifests import GATES, NODES

DEFINITION = {"name": "fraud", "source": "simulated", "log": "days/{SPAN}.parquet", "workspace": "workspace"}


def test_the_manifest_for_airflow_says_what_the_definition_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    definition, out = tmp_path / "fraud.yaml", tmp_path / "manifests" / "fraud.json"
    definition.write_text(yaml.safe_dump(DEFINITION | {"nodes": {"trainer": {"retries": 5}}}))

    assert main(["compile", "airflow", "--pipeline", str(definition), "--out", str(out), "--json"]) == 0

    answer = json.loads(capsys.readouterr().out)
    manifest = Manifest.from_json(out.read_text())
    assert answer == {"path": str(out), "name": "fraud", "nodes": [node.id for node in manifest.nodes]}
    assert (manifest.name, manifest.definition, manifest.workspace, manifest.tracking_uri) == (
        "fraud",
        str(definition),
        str(tmp_path / "workspace"),
        None,
    )
    nodes = {node.id: node for node in manifest.nodes}
    # What the tests of Airflow go by is the training pipeline's form.
    assert [(id, node.upstream, node.under) for id, node in nodes.items()] == list(NODES)
    assert tuple(id for id, node in nodes.items() if node.is_gate) == GATES
    assert (nodes["trainer"].retries, nodes["evidence"].retries) == (5, 2)
    assert [one.name for one in out.parent.iterdir()] == ["fraud.json"]


def test_a_node_that_there_is_not_is_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    definition, out = tmp_path / "fraud.yaml", tmp_path / "fraud.json"
    definition.write_text(yaml.safe_dump(DEFINITION | {"nodes": {"trainnig": {"retries": 5}}}))
    assert main(["compile", "airflow", "--pipeline", str(definition), "--out", str(out), "--json"]) == 2
    assert "trainnig" in json.loads(capsys.readouterr().out)["error"]["message"]
    assert not out.exists()
