"""The whole demonstration, stopped in the middle and begun again."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from pipelines import supervision
from pipelines.workspace import Workspace

pytestmark = pytest.mark.slow
BOUND_S = 3_600


def demo(workspace: Path, said: Path) -> subprocess.Popen[str]:
    with said.open("w") as errors:
        return subprocess.Popen(
            [sys.executable, "-m", "pipelines.cli", "demo", "--workspace", str(workspace), "--json"],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )


def left(workspace: Path) -> list[psutil.Process]:
    """What still runs of a workspace: parts of its stack, and commands on its files."""
    found = list(supervision.members(Workspace.at(workspace).stack))
    for process in psutil.process_iter(["cmdline"]):
        if any(str(workspace) in word for word in process.info["cmdline"] or ()):
            found.append(process)
    return found


@pytest.mark.timeout(2 * BOUND_S)
def test_the_demonstration_ends_as_it_should_also_when_it_was_stopped_in_between(tmp_path: Path) -> None:
    workspace, said = tmp_path / "workspace", tmp_path / "said.txt"
    playing = demo(workspace, said)
    try:
        # The first version decides, and the second is in training.
        while playing.poll() is None and "version 1 promoted" not in said.read_text():
            try:
                playing.wait(1)
            except subprocess.TimeoutExpired:
                continue
        assert playing.poll() is None, said.read_text()
        playing.send_signal(signal.SIGTERM)
        assert playing.wait(BOUND_S) == 130, said.read_text()
        assert left(workspace) == []

        playing = demo(workspace, said)
        answer, _ = playing.communicate(timeout=BOUND_S)
        assert playing.returncode == 0, said.read_text()
        assert left(workspace) == []
    finally:
        playing.kill()
        playing.wait()
        supervision.stop(Workspace.at(workspace).stack)

    fields = json.loads(answer)
    assert "the first version is there already" in said.read_text()
    assert fields["metrics"]["test"]["average_precision"] < 0.95
    assert [check for check in fields["checks"] if not check["holds"]] == []
    assert fields["versions"] == {"good": [1, 2], "skewed": 3, "champion": 2}
    ends = [(e["version"], e["state"]) for e in fields["history"] if e["state"] in ("promoted", "rolled_back")]
    assert ends == [(1, "promoted"), (2, "promoted"), (3, "rolled_back")]
    assert [share["weight"] for share in fields["shares"]] == [0.01, 0.05, 0.25, 0.5]
    assert fields["shadows"][-1]["ratio"] >= 3
    assert fields["calls"]["errors"] == {}
