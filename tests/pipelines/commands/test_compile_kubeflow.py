"""`fraudops compile kubeflow` writes what Kubeflow Pipelines reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.cli import main
from tests import kubeflow

DEFINITION = {
    "name": "fraud",
    "source": "simulated",
    "log": "days/{SPAN}.parquet",
    "workspace": "workspace",
    "cluster": {"image": "fraudops-pipeline:1", "volume": {"claim": "fraudops", "mount_path": "/data"}},
}


def call(folder: Path, definition: dict[str, Any], out: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, Any]:
    (folder / "fraud.yaml").write_text(yaml.safe_dump(definition), encoding="utf-8")
    code = main(["compile", "kubeflow", "--pipeline", str(folder / "fraud.yaml"), "--out", str(out), "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_the_pipeline_has_a_container_for_each_node_of_the_definition(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "compiled" / "fraud.yaml"
    nodes = {"trainer": {"resources": {"gpus": 1}}}
    code, answer = call(tmp_path, DEFINITION | {"nodes": nodes}, out, capsys)
    assert (code, answer["path"], answer["name"]) == (0, str(out), "fraud")
    spec, _ = kubeflow.load(out)
    executors = spec["deploymentSpec"]["executors"]
    # Kubeflow writes the names of executors with hyphens.
    assert executors.keys() == {f"exec-{name.replace('_', '-')}" for name in [*answer["nodes"], "report"]}
    assert [name for name, one in executors.items() if "resources" in one["container"]] == ["exec-trainer"]
    assert str(tmp_path / "fraud.yaml") in executors["exec-ingest"]["container"]["args"]


def test_a_definition_without_a_cluster_is_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bare = {key: value for key, value in DEFINITION.items() if key != "cluster"}
    code, answer = call(tmp_path, bare, tmp_path / "out.yaml", capsys)
    assert code == 2
    assert "cluster" in answer["error"]["message"]
    assert not (tmp_path / "out.yaml").exists()
