"""The consistency job beside a real gateway: what was loaded, scored and reported by commands agrees with batch."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.conftest import Answer
from tests.pipelines.decided import simulated

# A gateway's start, and several hundred transactions.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@contextmanager
def gateway(workspace: Path) -> Iterator[str]:
    """A gateway of the simulated source without a model server; gives its address."""
    free = ["--port", "0", "--metrics-port", "0", "--model-server", "127.0.0.1:1"]
    command = ["serve", "gateway", "--source", "simulated", "--workspace", str(workspace), *free, "--json"]
    process = subprocess.Popen(
        [sys.executable, "-m", "pipelines.cli", *command], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["address"]
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.communicate()


def test_what_a_gateway_logged_agrees_with_the_batch(tmp_path: Path, fraudops: Callable[[list[str]], Answer]) -> None:
    logs = simulated(tmp_path)
    workspace = tmp_path / "workspace"
    where = ["--source", "simulated", "--workspace", str(workspace), "--json"]
    assert fraudops(["features", "load", "--log", str(logs.file), *where]).code == 0
    with gateway(workspace) as address:
        # Few at once, so that most transactions of a card come one after the other.
        to = ["--target", address, "--concurrency", "2", "--timeout", "120", "--labels"]
        live = ["score", "--source", "simulated", "--log", str(logs.file.with_name("live.parquet"))]
        assert fraudops([*live, *to, "--json"]).code == 0
    found = fraudops(["features", "consistency", "--log", str(logs.file), "--alarm", "0", *where])
    assert (found.code, found.fields["above_alarm"]) == (0, [])
    # On a machine that stands still for a second, the store may give no answer in time.
    assert found.fields["compared"] + found.fields["unanswered"] == len(logs.live)
    assert found.fields["labels"] > 0
    strict = {name: of_feature["rows"] for name, of_feature in found.fields["features"].items()}
    assert min(strict["card_id_count_30d"], strict["card_id_recent_seconds_between_16"]) > len(logs.live) // 2
