"""The feature store in a process of its own: the same answers, whatever happens to that process."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from schemas.errors import ArtifactError
from schemas.transaction import SECOND_US
from serving.features import EmbeddedStore, ProcessFeatureStore, TableFeatureStore
from tests.serving.features.writer import COUNTED, payment

ROOT = Path(__file__).parents[3]
BOUND_S = 120
OWNER = """
import sys
from pathlib import Path
from serving.features import EmbeddedStore, ProcessFeatureStore
from tests.serving.features.writer import COUNTED, payment
store = ProcessFeatureStore(EmbeddedStore(Path(sys.argv[1])), COUNTED)
store.observe(payment("owner", 0))
print(store.pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ProcessFeatureStore]:
    with closing(ProcessFeatureStore(EmbeddedStore(tmp_path / "store.sqlite"), COUNTED)) as store:
        yield store


def test_its_answers_are_those_of_the_embedded_store(store: ProcessFeatureStore, tmp_path: Path) -> None:
    payments = [payment("a", number) | {"event_time": number * SECOND_US} for number in range(20)]
    with closing(TableFeatureStore.embedded(tmp_path / "other.sqlite", COUNTED)) as embedded:
        assert repr(store.observe_all(payments[:12])) == repr(embedded.observe_all(payments[:12]))
        for one in payments[:3]:
            for each in (store, embedded):
                each.label(one, is_fraud=True, label_time=13 * SECOND_US)
        # NaN equals nothing, and reads alike.
        assert repr(list(map(store.observe, payments[12:]))) == repr(list(map(embedded.observe, payments[12:])))
    assert store.spec == COUNTED


def test_a_killed_process_is_followed_by_another_that_knows_all(store: ProcessFeatureStore) -> None:
    first = store.observe(payment("a", 0))
    for number in range(1, 4):
        killed = store.pid
        os.kill(killed, signal.SIGKILL)
        store.observe(payment("a", number))
        assert store.pid != killed
    assert repr(store.observe(payment("a", 0))) == repr(first)
    assert store.observe(payment("a", 9) | {"event_time": SECOND_US}).numbers[0] == 4


def test_one_that_dies_while_it_is_asked_is_asked_again(
    store: ProcessFeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.observe(payment("a", 0))
    # It takes the question, and is dead before it answers.
    os.kill(store.pid, signal.SIGSTOP)
    recv = Connection.recv

    def dying(connection: Connection) -> object:
        monkeypatch.setattr(Connection, "recv", recv)
        os.kill(store.pid, signal.SIGKILL)
        return recv(connection)

    monkeypatch.setattr(Connection, "recv", dying)
    store.observe(payment("a", 1))
    assert store.observe(payment("a", 2) | {"event_time": SECOND_US}).numbers[0] == 2


def test_one_that_cannot_come_back_is_told_with_the_file(store: ProcessFeatureStore, tmp_path: Path) -> None:
    store.observe(payment("a", 0))
    os.kill(store.pid, signal.SIGKILL)
    for file in tmp_path.glob("store.sqlite*"):
        file.write_bytes(b"no database" * 100)
    with pytest.raises(ArtifactError, match=r"store\.sqlite cannot be opened as a feature store"):
        store.observe(payment("a", 1))


def test_what_it_raises_reaches_the_caller_and_it_goes_on(store: ProcessFeatureStore, tmp_path: Path) -> None:
    broken = payment("a", 1)
    del broken["event_time"]
    with pytest.raises(KeyError, match="event_time"):
        store.observe_all([payment("a", 0), broken])
    # All of them or none.
    assert store.observe(payment("a", 2) | {"event_time": SECOND_US}).numbers[0] == 0
    (tmp_path / "text").write_text("no database")
    with pytest.raises(ArtifactError, match="text cannot be opened as a feature store"):
        ProcessFeatureStore(EmbeddedStore(tmp_path / "text"), COUNTED)


def test_a_signal_to_the_whole_group_ends_it_with_its_owner_only(store: ProcessFeatureStore) -> None:
    asked = store.pid
    for number in (signal.SIGTERM, signal.SIGINT):
        os.kill(asked, number)
    store.observe(payment("a", 0))
    assert store.pid == asked


def test_it_ends_when_its_owner_is_killed(tmp_path: Path) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path / "store.sqlite")],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        descriptor = os.pidfd_open(pid)
    finally:
        owner.kill()
        owner.communicate()
    try:
        assert _ended(descriptor)
    finally:
        os.close(descriptor)
    with closing(TableFeatureStore.embedded(tmp_path / "store.sqlite", COUNTED)) as embedded:
        assert embedded.observe(payment("reader", 0) | {"event_time": SECOND_US}).numbers[0] == 1


def _ended(descriptor: int) -> bool:
    readable, _, _ = select.select([descriptor], [], [], BOUND_S)
    return bool(readable)
