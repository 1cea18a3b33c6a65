"""A model server as a process: it is told why it does not start, and never outlives who started it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from components.model_server import serving
from schemas.errors import StackError

BOUND_S = 60
PROJECT = Path(__file__).parents[2]


def script(path: Path, body: str) -> Path:
    """A program in the place of `tensorflow_model_server`."""
    path.write_text(f"#!{sys.executable}\n{body}")
    path.chmod(0o755)
    return path


def sleeper(folder: Path) -> Path:
    """A program that says who it is in the file `pid`, and serves nothing."""
    pid = str(folder / "pid")
    return script(folder / "server", f"import os, time\nopen({pid!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)")


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + BOUND_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def has_begun(folder: Path) -> bool:
    file = folder / "pid"
    return file.exists() and bool(file.read_text())


def is_alive(folder: Path) -> bool:
    try:
        state = Path(f"/proc/{(folder / 'pid').read_text()}/stat").read_text()
    except FileNotFoundError:
        return False
    return state.rpartition(")")[2].split()[0] != "Z"


def test_a_server_that_ends_is_told_with_its_last_words_and_what_it_was_given(tmp_path):
    program = script(tmp_path / "server", "import sys; print(*sys.argv[1:], file=sys.stderr); sys.exit(3)")
    (tmp_path / "scratch").mkdir()
    with (
        pytest.raises(StackError, match="ended with code 3 before it served") as raised,
        serving(tmp_path / "model", program, tmp_path / "scratch", BOUND_S),
    ):
        pass
    words = str(raised.value).splitlines()[-1]
    scratch = tmp_path / "scratch"
    assert words == f"--port=0 --grpc_socket_path={scratch}/socket --model_name=fraud --model_base_path={scratch}/fraud"


def test_a_server_that_does_not_serve_in_time_is_ended(tmp_path):
    (tmp_path / "scratch").mkdir()
    with (
        pytest.raises(StackError, match="did not serve within 1 s"),
        serving(tmp_path / "model", sleeper(tmp_path), tmp_path / "scratch", 1.0),
    ):
        pass
    assert not has_begun(tmp_path) or not is_alive(tmp_path)


def test_a_server_ends_with_a_process_that_is_killed(tmp_path):
    sleeper(tmp_path)
    (tmp_path / "scratch").mkdir()
    code = (
        "from pathlib import Path; from components.model_server import serving\n"
        f"folder = Path({str(tmp_path)!r})\n"
        "with serving(folder / 'model', folder / 'server', folder / 'scratch', 600): pass"
    )
    starter = subprocess.Popen([sys.executable, "-c", code], cwd=PROJECT)
    try:
        until(lambda: has_begun(tmp_path))
        assert is_alive(tmp_path)
    finally:
        starter.kill()
        starter.wait(BOUND_S)
    until(lambda: not is_alive(tmp_path))


def test_what_was_started_after_its_starter_ended_does_not_begin():
    command = [sys.executable, "-P", "-m", "components.tether", "1", sys.executable, "-c", "print('began')"]
    ended = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (1, "")
