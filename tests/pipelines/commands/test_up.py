"""`fraudops up` and `down` where nothing has to be started; tests/e2e/test_stack.py starts all of it."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from pipelines.cli import main
from pipelines.stack import Ports, prepare
from pipelines.supervision import free_ports, members
from pipelines.workspace import Workspace


def test_down_where_nothing_runs_is_no_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["down", "--workspace", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"stopped": []}


def test_an_unknown_source_is_said_before_anything_starts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["up", "--source", "nowhere", "--workspace", str(tmp_path), "--json"]) == 2
    assert "nowhere" in json.loads(capsys.readouterr().out)["error"]["message"]


def test_a_taken_port_is_bad_input_and_nothing_is_left_running(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = Workspace.at(tmp_path)
    workspace.stack.mkdir()
    ports = Ports(*free_ports(6))
    prepare(workspace, ports)
    with socket.create_server(("127.0.0.1", ports.gateway)):
        assert main(["up", "--source", "simulated", "--workspace", str(tmp_path), "--json"]) == 2
    assert f"port {ports.gateway}, for gateway, is taken" in json.loads(capsys.readouterr().out)["error"]["message"]
    assert members(workspace.stack) == {}
