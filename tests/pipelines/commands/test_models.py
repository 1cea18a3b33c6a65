"""`fraudops models`: what people and programs are told about versions."""

from __future__ import annotations

import dataclasses
import json
import os
import pwd
import shutil
from pathlib import Path
from typing import Any

import pytest

from components.registry.client import connect
from components.registry.registration import register
from pipelines.cli import main
from pipelines.registry import MlflowRegistry
from pipelines.workspace import Workspace
from schemas.acceptance import Acceptance
from schemas.approval import obstacles, read_approvers_key
from schemas.digests import directory_digest
from tests.registered import example


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which one version is registered."""
    root = tmp_path_factory.mktemp("workspace")
    there = Workspace.at(root)
    registration = dataclasses.replace(
        example(root, "fraud"),
        description="**Purpose.** Finds [fraud] in payments.",
        metrics={"test/average_precision": 0.6123},
        history={},
        acceptances=(Acceptance("drift", "a new app", "m.keller", "channel", "2026-03-01T12:00:00+00:00"),),
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


def test_what_people_accepted_is_told_with_the_version(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "show", "1", "--workspace", str(workspace)]) == 0
    told = " ".join(capsys.readouterr().err.split())
    assert "drift:channel, by m.keller at 2026-03-01T12:00:00+00:00: a new app" in told
    assert main(["models", "show", "1", "--workspace", str(workspace), "--json"]) == 0
    [accepted] = json.loads(capsys.readouterr().out)["accepted"]
    assert (accepted["check"], accepted["subject"], accepted["by"]) == ("drift", "channel", "m.keller")


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


def test_a_registry_that_is_named_needs_no_workspace(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = ("--tracking-uri", Workspace.at(workspace).tracking_uri, "--workspace", tmp_path / "none")
    code, listed = said(capsys, "list", *there)
    assert (code, [version["version"] for version in listed["versions"]]) == (0, [1])
    assert said(capsys, "show", "1", *there)[1]["lineage"]["mlmd.model_id"] == "7"
    code, told = said(capsys, "revoke", "1", "--reason", "not yet", *there)
    assert (code, told["approval"]) == (1, "pending")
    assert not (tmp_path / "none").exists()


def test_a_workspace_without_models_lists_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "list", "--workspace", str(tmp_path)]) == 0
    assert "no model version is registered" in capsys.readouterr().err


@pytest.fixture(scope="module")
def two_versions(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Version 1 passed its gate, and version 2 did not."""
    folder = tmp_path_factory.mktemp("two_versions")
    there = Workspace.at(folder / "workspace")
    client = connect(there.tracking_uri)
    passed, failed = (example(folder / gate, "fraud") for gate in ("passed", "failed"))
    for registration in (passed, dataclasses.replace(failed, gate="failed")):
        register(client, registration, there.artifact_root)
    return there


@pytest.fixture
def undecided(two_versions: Workspace, tmp_path: Path) -> Path:
    """A workspace of the test's own, with the two versions in its database."""
    there = Workspace.at(tmp_path / "workspace")
    source, copy = (workspace.tracking_uri.removeprefix("sqlite:///") for workspace in (two_versions, there))
    shutil.copyfile(source, copy)
    return there.root


def said(capsys: pytest.CaptureFixture[str], *args: str | Path) -> tuple[int, dict[str, Any]]:
    """The exit code and the object of `fraudops models ... --json`."""
    code = main(["models", *map(str, args), "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_an_approval_is_shown_with_who_why_and_when(undecided: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, made = said(capsys, "approve", "1", "--reason", "finds [more]", "--workspace", undecided)
    user = pwd.getpwuid(os.getuid()).pw_name
    assert (code, made["approval"], made["changed"], made["approval_by"]) == (0, "approved", True, user)
    code, shown = said(capsys, "show", "1", "--workspace", undecided)
    assert (shown["approval"], shown["approval_by"], shown["approval_reason"]) == ("approved", user, "finds [more]")
    assert shown["approval_time"] == made["approval_time"] != ""
    assert main(["models", "show", "1", "--workspace", str(undecided)]) == 0
    assert "finds [more]" in capsys.readouterr().err
    code, again = said(capsys, "approve", "1", "--reason", "finds [more]", "--by", "bob", "--workspace", undecided)
    assert (code, again) == (0, made | {"changed": False})


def test_a_version_goes_through_every_decision(undecided: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there = ("--by", "ada", "--workspace", undecided)
    steps = (("reject", "rejected"), ("approve", "approved"), ("revoke", "revoked"), ("approve", "approved"))
    for number, (verb, state) in enumerate(steps):
        code, made = said(capsys, verb, "1", "--reason", f"reason {number}", *there)
        assert (code, made["approval"], made["approval_by"]) == (0, state, "ada")
    _, listed = said(capsys, "list", "--workspace", undecided)
    assert [version["approval"] for version in listed["versions"]] == ["pending", "approved"]


def test_what_the_rules_refuse_is_a_no_and_changes_nothing(undecided: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, told = said(capsys, "approve", "2", "--reason", "we need it", "--workspace", undecided)
    assert (code, told["approval"]) == (1, "pending")
    assert "its gate says failed" in told["refused"]
    code, told = said(capsys, "revoke", "1", "--reason", "we do not", "--workspace", undecided)
    assert (code, told["approval"]) == (1, "pending")
    assert "reject it" in told["refused"]
    _, listed = said(capsys, "list", "--workspace", undecided)
    assert [version["approval"] for version in listed["versions"]] == ["pending", "pending"]


def test_a_decision_needs_a_reason_and_a_version(undecided: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "approve", "1", "--workspace", undecided)[0] == 2
    code, told = said(capsys, "approve", "1", "--reason", " ", "--workspace", undecided)
    assert (code, told["error"]["type"]) == (2, "ConfigurationError")
    code, told = said(capsys, "approve", "9", "--reason", "good", "--workspace", undecided)
    assert (code, told["error"]["type"]) == (2, "RegistryError")


def test_an_approval_can_be_signed(undecided: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key_file = tmp_path / "approvers.key"
    key_file.write_bytes(b"k" * 32)
    key_file.chmod(0o640)
    call = ("approve", "1", "--reason", "good", "--key-file", key_file, "--workspace", undecided)
    code, told = said(capsys, *call)
    assert code == 2 and "chmod 600" in told["error"]["message"]
    key_file.chmod(0o600)
    assert said(capsys, *call)[0] == 0
    key = read_approvers_key(key_file)
    tags = MlflowRegistry(Workspace.at(undecided).tracking_uri).version(1).tags
    assert obstacles(tags, 1, key) == ()
    assert main(["models", "show", "1", "--workspace", str(undecided)]) == 0
    assert f"under key {key.fingerprint}" in capsys.readouterr().err
