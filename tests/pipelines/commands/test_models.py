"""`fraudops models`: what people and programs are told about versions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from components.registry import Registration, Signature, Tensor, register
from pipelines.cli import main
from pipelines.workspace import Workspace
from registry.client import connect
from schemas.digests import directory_digest


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which one version is registered."""
    root = tmp_path_factory.mktemp("workspace")
    saved_model, evidence = root / "exported", root / "evidence"
    for folder in (saved_model, evidence):
        folder.mkdir()
        (folder / "file").write_bytes(b"content")
    there = Workspace.at(root)
    registration = Registration(
        saved_model=saved_model,
        digest_saved_model=directory_digest(saved_model),
        digest_evaluation="e" * 64,
        digest_schema="s" * 64,
        data_span="2018-04-01 to 2018-09-30",
        code_version="0.1.0",
        mlmd_model_id=7,
        mlmd_statistics_id=4,
        gate="passed",
        signature=Signature("score", (Tensor("a", "float32", (-1,)),), (Tensor("score", "float32", (-1,)),)),
        evidence=evidence,
        description="**Purpose.** Finds [fraud] in payments.",
        run_name="handbook",
        metrics={"test/average_precision": 0.6123},
    )
    register(connect(there.tracking_uri), registration, there.artifact_root)
    return root


def test_list_shows_each_version_with_gate_and_approval(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "list", "--workspace", str(workspace)]) == 0
    shown = capsys.readouterr()
    assert shown.out == ""
    row = shown.err.splitlines()[1].split()
    assert (row[0], row[3:7]) == ("1", ["passed", "pending", "-", "0.612"])


def test_list_as_json_holds_all_that_the_registry_says(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "list", "--workspace", str(workspace), "--json"]) == 0
    (version,) = json.loads(capsys.readouterr().out)["versions"]
    assert (version["version"], version["gate"], version["approval"], version["aliases"]) == (
        1,
        "passed",
        "pending",
        [],
    )
    assert version["digests"]["saved_model"] == directory_digest(workspace / "exported")
    assert version["metrics"] == {"test/average_precision": 0.6123}


def test_show_prints_lineage_metrics_and_description(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "show", "1", "--workspace", str(workspace)]) == 0
    told = capsys.readouterr().err
    for said in (
        "mlmd.model_id",
        "digest.evaluation",
        "2018-04-01 to 2018-09-30",
        "0.6123",
        "Finds [fraud] in payments.",
    ):
        assert said in told
    assert main(["models", "show", "1", "--workspace", str(workspace), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["lineage"]["mlmd.model_id"] == "7"


def test_a_version_that_is_not_there_is_bad_input(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "show", "9", "--workspace", str(workspace), "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["type"] == "RegistryError"
    assert "version 9" in error["message"]


def test_a_workspace_that_is_not_there_is_named_and_not_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "list", "--workspace", str(tmp_path / "wrokspace")]) == 2
    assert "there is no workspace" in capsys.readouterr().err
    assert not (tmp_path / "wrokspace").exists()


def test_a_workspace_without_models_lists_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "list", "--workspace", str(tmp_path)]) == 0
    assert "no model version is registered" in capsys.readouterr().err
