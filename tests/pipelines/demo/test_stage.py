"""Processes beside the demonstration, and the waiting for rollouts."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from pipelines.demo.stage import Child, child, narrated, stoppable, wait_for_end
from schemas.errors import StackError
from serving.rollout.situation import Event, Situation
from serving.rollout.table import RolloutTable

BOUND_S = 120
BEGUN = Event(1, 1, 4, "shadow", 0, 0.0, 1, "it is loaded")
ENDED = Event(2, 1, 4, "rolled_back", 0, 0.0, 2, "it blocks too much")


@pytest.fixture
def table(tmp_path: Path) -> Iterator[RolloutTable]:
    with closing(RolloutTable(tmp_path / "rollout.sqlite")) as table:
        yield table


def left() -> list[psutil.Process]:
    return [process for process in psutil.Process().children(recursive=True) if "pipelines.cli" in process.cmdline()]


def test_a_command_that_does_its_work_is_waited_for(tmp_path: Path) -> None:
    with child(tmp_path / "words.txt", "--version") as running:
        running.wait()
    assert "fraudops" in (tmp_path / "words.txt").read_text()


def test_of_a_command_that_fails_the_last_words_are_told(tmp_path: Path) -> None:
    with child(tmp_path / "words.txt", "features", "load", "--source", "nowhere") as running:
        with pytest.raises(StackError, match=r"(?s)`fraudops features load` ended with code 2.*Missing option '--log'"):
            running.wait()
        with pytest.raises(StackError, match="ended with code 2"):
            running.demand_running()


def test_a_command_ends_with_its_block_also_when_that_fails(tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    with pytest.raises(ZeroDivisionError), _waiting(words) as running:
        running.demand_running()
        raise ZeroDivisionError
    assert left() == []


def _waiting(words: Path) -> AbstractContextManager[Child]:
    # Nobody listens there, and the client waits for whoever will.
    return child(words, "score", "--target", "127.0.0.1:1", "--timeout", "600", "--transaction", "{}")


def test_a_rollout_that_has_ended_is_not_waited_for(table: RolloutTable) -> None:
    table.advance(Situation(), [BEGUN, ENDED])
    assert wait_for_end(table, 4, _Traffic(), BOUND_S) == ENDED


def test_a_rollout_is_waited_for_until_it_ends(table: RolloutTable) -> None:
    table.advance(Situation(), [BEGUN])
    traffic = _Traffic(lambda: table.advance(Situation(), [ENDED]))
    assert wait_for_end(table, 4, traffic, BOUND_S) == ENDED


def test_a_rollout_that_does_not_end_in_time_has_no_end(table: RolloutTable) -> None:
    table.advance(Situation(), [BEGUN, replace(ENDED, version=3)])
    assert wait_for_end(table, 4, _Traffic(), 0.0) is None


def test_without_traffic_no_rollout_is_waited_for(table: RolloutTable) -> None:
    def end() -> None:
        raise StackError("the traffic ended")

    with pytest.raises(StackError, match="the traffic ended"):
        wait_for_end(table, 4, _Traffic(end), BOUND_S)


class _Traffic(Child):
    """Traffic without a process; `then` happens when somebody looks whether it is there."""

    def __init__(self, then: Callable[[], None] = lambda: None) -> None:
        self._then = then

    def demand_running(self) -> None:
        self._then()


def test_every_event_is_told_once_and_those_of_before_are_not(table: RolloutTable) -> None:
    table.advance(Situation(), [replace(BEGUN, version=1)])
    told: list[Event] = []
    first = threading.Event()

    def tell(event: Event) -> None:
        told.append(event)
        first.set()

    with narrated(table, tell):
        table.advance(Situation(), [BEGUN])
        assert first.wait(BOUND_S)
        table.advance(Situation(), [ENDED])
    assert told == [BEGUN, ENDED]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_end_a_block_alike(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), stoppable():
        os.kill(os.getpid(), number)
        threading.Event().wait(BOUND_S)
    assert signal.getsignal(number) is before


def test_an_interruption_that_somebody_turned_into_an_error_is_one_all_the_same() -> None:
    with pytest.raises(KeyboardInterrupt), stoppable():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            threading.Event().wait(BOUND_S)
        except KeyboardInterrupt as interrupt:
            raise RuntimeError("a worker ended") from interrupt


def test_an_error_without_an_interruption_stays_what_it_is() -> None:
    with pytest.raises(ZeroDivisionError), stoppable():
        raise ZeroDivisionError
