"""What the demonstration happens on: the embedded stack, processes beside it, and people who approve."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from pipelines import supervision
from pipelines.registry import MlflowRegistry
from pipelines.stack import Settings, addresses, ports_of, prepare, programs
from pipelines.user import user
from pipelines.workspace import Workspace
from schemas import approval
from schemas.errors import StackError
from serving.rollout.situation import ENDED, Event
from serving.rollout.table import RolloutTable

_PAUSE_S = 0.3
_END_S = 60.0


class Child:
    """A `fraudops` command in a process of its own.

    It has a session of its own, so that Ctrl-C at the terminal does not reach it before it is told to end.

    Attributes:
        words: file of all that it says.
    """

    def __init__(self, words: Path, *arguments: str) -> None:
        self.words = words
        self._name = f"fraudops {' '.join(arguments[:2])}"
        with words.open("wb") as file:
            # -P: a folder's own modules must not come before ours.
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "pipelines.cli", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )

    def wait(self) -> None:
        """Waits until it has done its work.

        Raises:
            StackError: it failed.
        """
        if self._process.wait() != 0:
            raise self._ended()

    def demand_running(self) -> None:
        """Makes sure that it still works.

        Raises:
            StackError: it does not.
        """
        if self._process.poll() is not None:
            raise self._ended()

    def end(self) -> None:
        """Interrupts it, as Ctrl-C does, and waits until it has put its things in order."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _ended(self) -> StackError:
        said = self.words.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-10:]
        code = self._process.returncode
        return StackError("\n".join([f"`{self._name}` ended with code {code}; the end of {self.words}:", *said]))


@contextmanager
def child(words: Path, *arguments: str) -> Iterator[Child]:
    """Runs a `fraudops` command beside this process, and ends it at the latest when the block ends."""
    running = Child(words, *arguments)
    try:
        yield running
    finally:
        running.end()


@contextmanager
def stack(workspace: Workspace, source: str, policy: Path, say: Callable[[str], None]) -> Iterator[dict[str, str]]:
    """Starts the embedded stack on free ports, gives the addresses of its parts, and stops it when the block ends.

    Raises:
        StackError: it runs already, or a part of it does not start.
    """
    folder = workspace.stack
    folder.mkdir(exist_ok=True)
    with supervision.alone(folder):
        if supervision.supervisor_of(folder) is not None:
            raise StackError(f"the stack in {workspace.root} runs already; `fraudops down` first")
        supervision.stop(folder)
        ports = ports_of(workspace, supervision.free_ports)
        parts = programs(workspace, Settings(source, policy), ports)
        prepare(workspace, ports)
        try:
            supervision.launch(folder, parts)
            for name in supervision.wait_until_serving(folder, parts, timeout_s=300):
                say(f"{name} serves")
            yield addresses(ports)
        finally:
            supervision.stop(folder)


def approve(workspace: Workspace, version: int, reason: str) -> None:
    """Approves a version as `fraudops models approve` does; a second time changes nothing.

    Raises:
        ApprovalError: it may not be approved.
    """
    registry = MlflowRegistry(workspace.tracking_uri)
    tags = registry.version(version).tags
    made = approval.decide(
        approval.APPROVED, tags, version=version, by=user(), reason=reason, time=datetime.now(UTC), key=None
    )
    if made != approval.read(tags):
        registry.record(version, made)


def end_of(events: Sequence[Event], version: int) -> Event | None:
    """How the rollout of a version ended; None where it has not."""
    return next((event for event in events if event.version == version and event.state in ENDED), None)


def wait_for_end(table: RolloutTable, version: int, traffic: Child, timeout_s: float) -> Event | None:
    """Waits until the rollout of a version has ended; None where it has not in time.

    Raises:
        StackError: the traffic ended, without which no rollout does.
    """
    deadline = time.monotonic() + timeout_s
    while (end := end_of(table.history(), version)) is None and time.monotonic() < deadline:
        traffic.demand_running()
        time.sleep(_PAUSE_S)
    return end


@contextmanager
def narrated(table: RolloutTable, tell: Callable[[Event], None]) -> Iterator[None]:
    """Tells of every event of the rollouts as it happens, beside what the block does."""
    over = threading.Event()

    def follow() -> None:
        told = len(table.history())
        last = False
        while not last:
            last = over.wait(_PAUSE_S)
            history = table.history()
            for event in history[told:]:
                tell(event)
            told = len(history)

    follower = threading.Thread(target=follow, name="narration")
    follower.start()
    try:
        yield
    finally:
        over.set()
        follower.join()


@contextmanager
def stoppable() -> Iterator[None]:
    """Makes SIGTERM end the block as Ctrl-C does, so that what was started in it is stopped.

    Raises:
        KeyboardInterrupt: one of the two has ended it, whatever those who were at work then made of that.
    """
    told = False

    def interrupt(number: int, frame: object) -> None:
        nonlocal told
        told = True
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except Exception as error:
        if told:  # Beam, for one, makes an error of its own of what ends its worker
            raise KeyboardInterrupt from error
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
