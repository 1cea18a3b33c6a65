"""Versions load, serve and leave in the order that TensorFlow Serving's policy gives them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from serving.model_server.config import Every, Latest, ModelSettings, Specific
from serving.model_server.status import Refusal
from serving.model_server.versions import State, Version, Versions, to_load, to_unload
from tests.serving.model_server.models import BOUND_S, eventually


class FakeServable:
    def __init__(self) -> None:
        self.closed = threading.Event()
        self.signature_defs: Mapping[str, Any] = {}

    def predict(self, request: object, response: object) -> None:
        raise AssertionError("not asked for")

    def close(self) -> None:
        self.closed.set()


class Loader:
    """Loads whatever folder it is given, but fails, or waits, where told to."""

    def __init__(self) -> None:
        self.broken: dict[int, Exception] = {}
        self.held: dict[int, threading.Event] = {}
        self.order: list[int] = []

    def __call__(self, path: Path) -> FakeServable:
        number = int(path.name)
        self.order.append(number)
        if number in self.held:
            assert self.held[number].wait(BOUND_S)
        if number in self.broken:
            raise self.broken[number]
        return FakeServable()


@pytest.fixture
def loader() -> Loader:
    return Loader()


@contextmanager
def running(loader: Loader, *models: ModelSettings, allow_unavailable: bool = False) -> Iterator[Versions]:
    versions = Versions(loader, 0.01, allow_unavailable)
    versions.start(models)
    try:
        yield versions
    finally:
        for event in loader.held.values():
            event.set()
        versions.stop(BOUND_S)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    for number in (1, 2, 3):
        (tmp_path / str(number)).mkdir()
    return tmp_path


def states(versions: Versions, model: str = "fraud") -> dict[int, State]:
    return {status.version: status.state for status in versions.statuses(model)}


def used(versions: Versions, **choice: Any) -> int:
    with versions.use("fraud", **choice) as version:
        return version.number


def make_version(number: int, state: State, aspired: bool) -> Version:
    return Version("fraud", number, Path("base") / str(number), aspired, state)


def test_an_unwanted_version_stays_until_a_wanted_one_serves():
    old, new = make_version(1, State.AVAILABLE, False), make_version(2, State.LOADING, True)
    assert to_unload([old, new]) == []
    new.state = State.END
    assert to_unload([old, new]) == []
    new.state = State.AVAILABLE
    assert to_unload([old, new]) == [old]


def test_all_leave_when_nothing_is_wanted():
    old = make_version(1, State.AVAILABLE, False)
    assert to_unload([old, make_version(2, State.END, False)]) == [old]


def test_the_highest_wanted_version_is_loaded_first():
    versions = [
        make_version(1, State.START, True),
        make_version(3, State.START, False),
        make_version(2, State.START, True),
    ]
    chosen = to_load(versions)
    assert chosen is not None
    assert chosen.number == 2
    assert to_load([make_version(1, State.AVAILABLE, True)]) is None


def test_the_policies_choose_what_is_served(loader: Loader, base: Path):
    models = [
        ModelSettings("newest", base),
        ModelSettings("two", base, Latest(2)),
        ModelSettings("every", base, Every()),
        ModelSettings("named", base, Specific(frozenset({1, 9}))),
    ]
    with running(loader, *models) as versions:
        versions.wait_until_settled()
        served = {model.name: sorted(states(versions, model.name)) for model in models}
    assert served == {"newest": [3], "two": [2, 3], "every": [1, 2, 3], "named": [1]}


def test_folders_that_are_no_version_numbers_are_left_alone(loader: Loader, base: Path):
    for name in ("007", "-4", "incoming", ".5", "٣"):
        (base / name).mkdir()
    (base / "8").write_text("a file")
    with running(loader, ModelSettings("fraud", base, Every())) as versions:
        versions.wait_until_settled()
        assert sorted(states(versions)) == [1, 2, 3]


def test_a_version_that_is_renamed_into_place_is_found_and_replaces_the_latest(
    loader: Loader, base: Path, tmp_path: Path
):
    with running(loader, ModelSettings("fraud", base)) as versions:
        versions.wait_until_settled()
        incoming = tmp_path / "incoming"
        incoming.mkdir()
        incoming.rename(base / "4")
        eventually(lambda: states(versions) == {3: State.END, 4: State.AVAILABLE})
        assert used(versions) == 4


def test_while_a_version_loads_the_others_serve(loader: Loader, base: Path):
    loader.held[3] = threading.Event()
    model = ModelSettings("fraud", base, Specific(frozenset({2})))
    with running(loader, model) as versions:
        versions.wait_until_settled()
        versions.configure([ModelSettings("fraud", base, Specific(frozenset({3})))])
        eventually(lambda: states(versions).get(3) is State.LOADING)
        assert states(versions)[2] is State.AVAILABLE
        assert used(versions) == 2
        with pytest.raises(Refusal, match=r"Servable not found for request: Specific\(fraud, 3\)"):
            used(versions, number=3)
        loader.held[3].set()
        eventually(lambda: states(versions) == {2: State.END, 3: State.AVAILABLE})


def test_a_version_is_closed_only_when_the_last_request_has_left(loader: Loader, base: Path):
    with running(loader, ModelSettings("fraud", base, Specific(frozenset({1, 2})))) as versions:
        versions.wait_until_settled()
        with versions.use("fraud", number=1) as version:
            servable = version.servable
            assert isinstance(servable, FakeServable)
            versions.configure([ModelSettings("fraud", base, Specific(frozenset({2})))])
            eventually(lambda: states(versions)[1] is State.UNLOADING)
            assert not servable.closed.is_set()
            with pytest.raises(Refusal, match="Servable not found"):
                used(versions, number=1)
        eventually(lambda: states(versions)[1] is State.END)
        assert servable.closed.is_set()


def test_a_version_that_leaves_and_returns_is_loaded_again(loader: Loader, base: Path):
    both, one = Specific(frozenset({1, 2})), Specific(frozenset({2}))
    with running(loader, ModelSettings("fraud", base, both)) as versions:
        versions.wait_until_settled()
        versions.configure([ModelSettings("fraud", base, one)])
        eventually(lambda: states(versions)[1] is State.END)
        versions.configure([ModelSettings("fraud", base, both)])
        eventually(lambda: states(versions)[1] is State.AVAILABLE)
    assert loader.order.count(1) == 2


@pytest.mark.parametrize(
    ("error", "code"),
    [(Refusal(grpc.StatusCode.NOT_FOUND, "no model here"), 5), (MemoryError("no model here"), 2)],
)
def test_a_version_that_cannot_be_loaded_ends_with_its_error_and_the_others_serve(
    loader: Loader, base: Path, error: Exception, code: int
):
    loader.broken[3] = error
    with running(loader, ModelSettings("fraud", base, Every())) as versions:
        versions.wait_until_settled()
        assert states(versions) == {1: State.AVAILABLE, 2: State.AVAILABLE, 3: State.END}
        [status] = [status for status in versions.statuses("fraud") if status.version == 3]
        assert status.code == code
        assert "no model here" in status.message
        assert used(versions) == 2
    assert loader.order.count(3) == 1


def test_a_newer_version_that_is_broken_does_not_push_out_the_older(loader: Loader, base: Path):
    loader.broken[4] = Refusal(grpc.StatusCode.UNKNOWN, "broken")
    with running(loader, ModelSettings("fraud", base)) as versions:
        versions.wait_until_settled()
        (base / "4").mkdir()
        eventually(lambda: states(versions).get(4) is State.END)
        assert used(versions) == 3


def test_labels_move_with_the_configuration(loader: Loader, base: Path):
    with running(loader, ModelSettings("fraud", base, Every())) as versions:
        versions.wait_until_settled()
        versions.configure([ModelSettings("fraud", base, Every(), {"stable": 1, "canary": 2})])
        assert (used(versions, label="stable"), used(versions, label="canary")) == (1, 2)
        versions.configure([ModelSettings("fraud", base, Every(), {"stable": 2})])
        assert used(versions, label="stable") == 2
        with pytest.raises(Refusal, match="Unrecognized servable version label: canary"):
            used(versions, label="canary")


def test_a_label_on_a_version_that_does_not_serve_is_refused_and_nothing_changes(loader: Loader, base: Path):
    every = ModelSettings("fraud", base, Every(), {"stable": 1})
    with running(loader, ModelSettings("fraud", base, Every())) as versions:
        versions.wait_until_settled()
        versions.configure([every])
        with pytest.raises(
            Refusal, match="Request to assign label to fraud version 9, which is not currently"
        ) as refused:
            versions.configure([ModelSettings("fraud", base, Specific(frozenset({2})), {"stable": 9})])
        assert refused.value.code is grpc.StatusCode.FAILED_PRECONDITION
        assert used(versions, label="stable") == 1
        assert set(states(versions).values()) == {State.AVAILABLE}


def test_where_it_is_allowed_a_new_label_may_come_before_its_version_but_not_move_there(loader: Loader, base: Path):
    loader.held[3] = threading.Event()
    labelled = ModelSettings("fraud", base, Every(), {"stable": 3})
    with running(loader, labelled, allow_unavailable=True) as versions:
        with pytest.raises(Refusal, match=r"Servable not found for request: Specific\(fraud, 3\)"):
            used(versions, label="stable")
        with pytest.raises(Refusal, match="not currently available"):
            versions.configure([ModelSettings("fraud", base, Every(), {"stable": 9})])
        loader.held[3].set()
        versions.wait_until_settled()
        assert used(versions, label="stable") == 3


def test_a_model_that_is_no_longer_configured_is_unloaded(loader: Loader, base: Path):
    with running(loader, ModelSettings("fraud", base), ModelSettings("other", base)) as versions:
        versions.wait_until_settled()
        assert versions.configure([ModelSettings("fraud", base)]) == frozenset()
        eventually(lambda: states(versions, "other") == {3: State.END})
        assert versions.loaded() == [("fraud", 3)]


def test_a_base_path_that_is_not_there_refuses_a_configuration_and_stops_nobody(
    loader: Loader, base: Path, caplog: pytest.LogCaptureFixture
):
    with running(loader, ModelSettings("fraud", base)) as versions:
        versions.wait_until_settled()
        with pytest.raises(Refusal, match="Could not find base path"):
            versions.configure([ModelSettings("fraud", base / "absent")])
        moved = base.with_name("moved")
        base.rename(moved)
        eventually(lambda: "Could not find base path" in caplog.text)
        assert used(versions) == 3
        moved.rename(base)


def test_waiting_for_a_new_model_tells_which_of_its_versions_failed(loader: Loader, base: Path):
    loader.broken[3] = Refusal(grpc.StatusCode.UNKNOWN, "broken")
    with running(loader) as versions:
        new = versions.configure([ModelSettings("fraud", base)])
        assert new == {"fraud"}
        with pytest.raises(Refusal, match=r"did not become available: \{\{name: fraud version: 3\}\}"):
            versions.wait(new, BOUND_S)


def test_waiting_ends_with_the_deadline(loader: Loader, base: Path):
    loader.held[3] = threading.Event()
    with running(loader) as versions:
        new = versions.configure([ModelSettings("fraud", base)])
        with pytest.raises(Refusal) as refused:
            versions.wait(new, 0.01)
        assert refused.value.code is grpc.StatusCode.DEADLINE_EXCEEDED


def test_a_model_without_versions_holds_nothing_up(loader: Loader, tmp_path: Path):
    with running(loader, ModelSettings("fraud", tmp_path)) as versions:
        versions.wait_until_settled()
        versions.wait(frozenset({"fraud"}), BOUND_S)
        with pytest.raises(Refusal, match=r"Servable not found for request: Latest\(fraud\)"):
            used(versions)


def test_a_stop_ends_when_the_memory_of_every_version_is_given_back(base: Path):
    freed: list[int] = []

    class Heavy(FakeServable):
        def __del__(self) -> None:
            time.sleep(0.2)  # as a graph of a gigabyte; the interpreter must not be torn down meanwhile
            freed.append(1)

    versions = Versions(lambda path: Heavy(), 0, False)
    versions.start([ModelSettings("fraud", base, Every())])
    versions.wait_until_settled()
    versions.stop(BOUND_S)
    assert freed == [1, 1, 1]
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("unload")]
