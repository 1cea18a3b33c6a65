"""Programs under a real supervisord: small ones, that answer HTTP and can be told to die."""

from __future__ import annotations

import configparser
import os
import shlex
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipelines import supervision
from pipelines.supervision import SUPERVISOR, Program
from schemas.errors import StackError

BOUND_S = 120
# Serves from a child, as MLflow does: a killed parent leaves it behind with the port.
SERVE = (
    "import subprocess, sys; subprocess.run([sys.executable, '-m', 'http.server', '--bind', '127.0.0.1', sys.argv[1]])"
)
FAIL = "import sys; print('no such source'); sys.exit(2)"


def eventually(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + BOUND_S
    while not condition():
        assert time.monotonic() < end, "the condition does not come to hold"
        time.sleep(0.02)


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    supervision.stop(tmp_path)


def program(name: str, code: str = "") -> Program:
    """One that serves on a free port, or that runs other code."""
    (port,) = supervision.free_ports(1)
    url = f"http://127.0.0.1:{port}/"
    if not code:
        module = ["-m", "http.server", "--bind", "127.0.0.1", str(port)]
        return Program(name, (sys.executable, *module), ports=(port,), http=(url,))
    return Program(name, (sys.executable, "-c", code, str(port)), ports=(port,), http=(url,))


def start(stack: Path, *programs: Program) -> list[str]:
    supervision.launch(stack, programs)
    return list(supervision.wait_until_serving(stack, programs, BOUND_S))


def test_programs_start_and_all_of_them_end(stack: Path) -> None:
    one, two = program("one"), program("two")
    assert sorted(start(stack, one, two)) == ["one", "two"]
    assert sorted(supervision.members(stack).values()) == ["one", SUPERVISOR, "two"]
    assert supervision.stop(stack) == [SUPERVISOR, "one", "two"]
    assert supervision.members(stack) == {}
    assert not supervision.serves(one)
    assert supervision.stop(stack) == []


def test_a_program_that_is_killed_is_started_again(stack: Path) -> None:
    one = program("one")
    start(stack, one)
    before = supervision.leaders(stack)["one"]
    os.kill(before, signal.SIGKILL)
    eventually(lambda: supervision.leaders(stack).get("one", before) != before)
    eventually(lambda: supervision.serves(one))
    assert before not in {process.pid for process in supervision.members(stack)}


def test_a_killed_supervisord_leaves_programs_that_are_found_and_ended(stack: Path) -> None:
    one = program("one")
    start(stack, one)
    supervisor = supervision.supervisor_of(stack)
    assert supervisor is not None
    supervisor.kill()
    eventually(lambda: supervision.supervisor_of(stack) is None)
    assert set(supervision.members(stack).values()) == {"one"}
    assert supervision.stop(stack) == ["one"]
    assert start(stack, one) == ["one"]


def test_the_child_of_a_killed_program_is_known_to_its_successor(stack: Path) -> None:
    one = program("one", SERVE)
    start(stack, one)
    before = supervision.leaders(stack)["one"]
    (child,) = supervision.left_behind(before)
    os.kill(before, signal.SIGKILL)
    eventually(lambda: supervision.leaders(stack).get("one", before) != before)
    assert child in supervision.left_behind(supervision.leaders(stack)["one"])
    supervision.end([child])
    assert not child.is_running()


def test_two_stacks_do_not_know_each_other(stack: Path) -> None:
    (stack / "other").mkdir()
    start(stack, program("one"))
    assert supervision.members(stack / "other") == {}
    assert supervision.stop(stack / "other") == []
    assert len(supervision.members(stack)) == 2


def test_a_program_that_ends_at_its_start_is_an_error_with_its_last_words(stack: Path) -> None:
    with pytest.raises(StackError, match=r"(?s)broken ended at its start.*no such source"):
        start(stack, program("one"), program("broken", f"import time; time.sleep(1); {FAIL}"))


def test_a_program_that_does_not_serve_in_time_is_an_error(stack: Path) -> None:
    idle = program("idle", "import time; print('waiting for nothing', flush=True); time.sleep(600)")
    supervision.launch(stack, [idle])
    said = supervision.log_file(stack, "idle")
    eventually(lambda: said.exists() and "waiting for nothing" in said.read_text(encoding="utf-8"))
    with pytest.raises(StackError, match=r"(?s)idle does not serve after 0 seconds.*waiting for nothing"):
        list(supervision.wait_until_serving(stack, [idle], 0))


def test_a_port_that_is_taken_is_an_error_that_names_the_holder(stack: Path) -> None:
    one = program("one")
    with socket.create_server(("127.0.0.1", one.ports[0])), pytest.raises(StackError) as caught:
        supervision.launch(stack, [one])
    assert f"port {one.ports[0]}, for one, is taken by process {os.getpid()} " in str(caught.value)
    assert supervision.members(stack) == {}


def test_a_second_start_at_the_same_time_is_refused(stack: Path) -> None:
    with supervision.alone(stack), pytest.raises(StackError, match="another"), supervision.alone(stack):
        pass
    with supervision.alone(stack):
        pass


def test_the_configuration_gives_back_the_words_of_a_command(stack: Path) -> None:
    words = ("/bin/echo", "100%", "it's", 'a "b" c', "%(here)s", "")
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";", "#"), strict=False)
    parser.read_string(supervision.configuration(stack, [Program("one", words, ())]))
    command = parser["program:one"]["command"]
    assert shlex.split(command % {"here": "elsewhere"}) == list(words)


def test_what_the_configuration_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="begin a comment"):
        supervision.configuration(tmp_path / "a ;b", [])


def test_free_ports_differ() -> None:
    assert len(set(supervision.free_ports(20))) == 20
