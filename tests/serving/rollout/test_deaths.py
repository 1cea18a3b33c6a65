from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("play", ["first", "promoted", "rolled_back", "revoked"])
def test_a_rollout_ends_the_same_wherever_the_controller_dies(play: str, tmp_path: Path):
    command = [sys.executable, "-m", "tests.serving.rollout.dying", play, str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout)
    assert {"advance", "apply", "set_alias", "download", "rename"} <= set(told["acts"])
    assert told["differences"] == {}
