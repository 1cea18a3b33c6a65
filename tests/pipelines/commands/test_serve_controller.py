"""`fraudops serve controller` in a process of its own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pipelines.cli import main
from pipelines.workspace import Workspace
from serving.model_server.config import read_config_file

_BOUND_S = 120


@contextmanager
def started(workspace: Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    command = [sys.executable, "-m", "pipelines.cli", "serve", "controller", *options(workspace), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, process.communicate()[1]
            yield process, json.loads(line)
        finally:
            process.kill()


def options(workspace: Path) -> list[str]:
    # Nobody listens at the discard port: the controller bears that.
    return [
        *("--source", "simulated", "--model-server", "127.0.0.1:9"),
        *("--workspace", str(workspace), "--metrics-port", "0", "--poll-seconds", "0.05"),
    ]


def test_it_watches_the_registry_until_sigterm_and_is_the_only_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with started(tmp_path) as (process, said):
        with urllib.request.urlopen(said["metrics"], timeout=_BOUND_S) as response:
            assert "fraudops_rollout_state" in response.read().decode()
        assert read_config_file(Workspace.at(tmp_path).models_config) == ()
        assert main(["serve", "controller", *options(tmp_path)]) == 2
        assert "runs on" in capsys.readouterr().err
        process.send_signal(signal.SIGTERM)
        out, log = process.communicate(timeout=_BOUND_S)
    assert process.returncode == 0
    assert out == ""
    assert "Traceback" not in log
