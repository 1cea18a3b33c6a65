"""`fraudops rollout`: what an operator is told, and what is left for the controller."""

from __future__ import annotations

import json
import os
import pwd
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from pipelines import console
from pipelines.cli import main
from pipelines.workspace import Workspace
from schemas.bundle import Bundle
from schemas.features import FeatureSpec
from schemas.thresholds import Thresholds
from serving.rollout.judge import Check
from serving.rollout.routing import Routing, Served
from serving.rollout.situation import Event, Pause, Release, Rollout, Situation, State
from serving.rollout.table import RolloutTable

BUNDLE = Bundle(FeatureSpec((), (), ()), Thresholds(0.5, 0.9, 0.01, 0.8), rules_digest="r" * 64, reason_vocabulary=1)
CHECK = Check("block_share", "wait", 1.8, 1.5, "the candidate blocks [1.80%] and stable 1.00%")
NOW_US = time.time_ns() // 1000
CANARY = Rollout(2, 4, "b" * 64, State.CANARY, NOW_US, 1, "the shadow agreed", step=1)
RUNNING = Situation(Release(3, "a" * 64, 1), None, CANARY, waiting=5)
BEGUN = Event(NOW_US, 2, 4, "canary", 1, 0.05, 1, "the shadow agreed")
BOUND_S = 60


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def table(workspace: Path) -> Iterator[RolloutTable]:
    table = RolloutTable(Workspace.at(workspace).rollout)
    yield table
    table.close()


@pytest.fixture
def running(table: RolloutTable) -> RolloutTable:
    """Version 4 decides for 5 % of the cards; a gateway follows; the controller was seen just now."""
    table.advance(RUNNING, [BEGUN], Routing(1, Served(3, BUNDLE), Served(4, BUNDLE), 0.05, salt="2"))
    table.adopt("gateway-1", 1, NOW_US)
    table.beat(time.time_ns() // 1000, "", [asdict(CHECK)])
    return table


def end(table: RolloutTable, state: State, version: int = 4) -> None:
    rollout = replace(CANARY, version=version, state=state, reason="that is how it ended")
    event = replace(BEGUN, version=version, state=state.value, reason="that is how it ended")
    table.advance(replace(RUNNING, rollout=rollout, waiting=None), [event])


def said(capsys: pytest.CaptureFixture[str], *args: str | Path) -> tuple[int, dict[str, Any]]:
    """The exit code and the object of `fraudops rollout ... --json`."""
    code = main(["rollout", *map(str, args), "--json"])
    return code, json.loads(capsys.readouterr().out)


def shown(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *args: str | Path) -> str:
    """What a person with a wide terminal reads."""
    monkeypatch.setenv("COLUMNS", "200")
    # Rich asks for the width once, and another test may have had it ask before.
    console.stderr.cache_clear()
    assert main(["rollout", *map(str, args)]) == 0
    console.stderr.cache_clear()
    captured = capsys.readouterr()
    assert captured.out == ""
    return " ".join(captured.err.split())


def test_status_as_json_says_where_the_rollout_stands_and_on_what_evidence(
    workspace: Path, running: RolloutTable, capsys: pytest.CaptureFixture[str]
) -> None:
    code, status = said(capsys, "status", "--workspace", workspace)
    assert code == 0
    assert (status["state"], status["version"], status["step"], status["generation"]) == ("canary", 4, 1, 1)
    assert status["weights"] == {"stable": 0.95, "canary": 0.05}
    assert (status["stable_version"], status["waiting_version"], status["paused"]) == (3, 5, None)
    assert status["checks"] == [asdict(CHECK)]
    assert [(gateway["name"], gateway["generation"]) for gateway in status["gateways"]] == [("gateway-1", 1)]
    assert status["controller"]["silent"] is False


def test_status_for_people_shows_all_of_it(
    workspace: Path, running: RolloutTable, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = shown(capsys, monkeypatch, "status", "--workspace", workspace)
    for part in (
        "version 4",
        "canary, step 2",
        "because the shadow agreed",
        "stable version 3",
        "95% stable, 5% canary",
        "version 5 waits",
        "block_share wait the candidate blocks [1.80%] and stable 1.00%",
    ):
        assert part in told
    assert "not been seen" not in told


def test_a_controller_that_is_silent_is_said_with_what_to_do(
    workspace: Path, running: RolloutTable, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    running.beat(time.time_ns() // 1000 - 60_000_000, "", [])
    assert "controller has not been seen for" in shown(capsys, monkeypatch, "status", "--workspace", workspace)
    assert said(capsys, "status", "--workspace", workspace)[1]["controller"]["silent"] is True


def test_gateways_that_lag_behind_and_a_pause_are_shown(
    workspace: Path, running: RolloutTable, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    running.adopt("gateway-2", 0, NOW_US)
    running.advance(replace(RUNNING, pause=Pause("ann", "a holiday", NOW_US)))
    told = shown(capsys, monkeypatch, "status", "--workspace", workspace)
    assert "1, which 1 of 2 gateways do not follow yet" in told
    assert "paused by ann" in told and "a holiday" in told
    assert said(capsys, "status", "--workspace", workspace)[1]["paused"]["reason"] == "a holiday"


def test_before_any_rollout_it_is_said_how_one_begins(
    workspace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = shown(capsys, monkeypatch, "status", "--workspace", workspace)
    assert "fraudops models approve" in told and "fraudops serve controller" in told
    code, status = said(capsys, "status", "--workspace", workspace)
    assert (code, status["state"], status["generation"], status["checks"]) == (0, None, 0, [])
    assert said(capsys, "history", "--workspace", workspace) == (0, {"events": []})


def test_history_is_told_oldest_first(
    workspace: Path, running: RolloutTable, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    end(running, State.ROLLED_BACK)
    _, history = said(capsys, "history", "--workspace", workspace)
    assert [(event["state"], event["version"], event["weight"]) for event in history["events"]] == [
        ("canary", 4, 0.05),
        ("rolled_back", 4, 0.05),
    ]
    assert history["events"][0]["time"].endswith("+00:00")
    told = shown(capsys, monkeypatch, "history", "--workspace", workspace)
    assert told.index("the shadow agreed") < told.index("that is how it ended")


def test_orders_are_left_for_the_controller_with_who_and_why(
    workspace: Path, running: RolloutTable, capsys: pytest.CaptureFixture[str]
) -> None:
    user = pwd.getpwuid(os.getuid()).pw_name
    code, told = said(capsys, "pause", "--reason", " odd [scores] ", "--workspace", workspace)
    assert (code, told["by"], told["reason"], told["controller_silent"]) == (0, user, "odd [scores]", False)
    assert said(capsys, "resume", "--by", "ann", "--workspace", workspace)[0] == 0
    assert said(capsys, "abort", "--reason", "odd", "--workspace", workspace)[0] == 0
    assert [(order.name, order.by, order.reason) for order in running.commands()] == [
        ("pause", user, "odd [scores]"),
        ("resume", "ann", ""),
        ("abort", user, "odd"),
    ]
    assert [order["command"] for order in said(capsys, "status", "--workspace", workspace)[1]["commands"]] == [
        "pause",
        "resume",
        "abort",
    ]


def test_an_order_that_would_change_nothing_is_refused(
    workspace: Path, table: RolloutTable, capsys: pytest.CaptureFixture[str]
) -> None:
    code, told = said(capsys, "abort", "--reason", "odd", "--workspace", workspace)
    assert (code, told["refused"]) == (1, "no rollout runs, so there is nothing to abort")
    code, told = said(capsys, "resume", "--workspace", workspace)
    assert (code, told["refused"]) == (1, "nothing is paused")
    assert table.commands() == ()


def test_an_order_that_holds_or_ends_a_rollout_needs_a_reason(
    workspace: Path, running: RolloutTable, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("pause", "abort"):
        assert main(["rollout", name, "--workspace", str(workspace)]) == 2
        assert "--reason" in capsys.readouterr().err
        code, told = said(capsys, name, "--reason", " ", "--workspace", workspace)
        assert (code, told["error"]["type"]) == (2, "ConfigurationError")
    assert running.commands() == ()


@pytest.mark.parametrize(("state", "code"), [(State.PROMOTED, 0), (State.ROLLED_BACK, 1)])
def test_watching_a_rollout_that_has_ended_says_how(
    workspace: Path, running: RolloutTable, capsys: pytest.CaptureFixture[str], state: State, code: int
) -> None:
    end(running, state)
    assert said(capsys, "watch", "--workspace", workspace)[0] == code


def watching(*args: str | Path) -> tuple[threading.Thread, list[int]]:
    """`fraudops rollout watch` in a thread, and its exit code once it has one."""
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(main(["rollout", "watch", *map(str, args)])), daemon=True)
    thread.start()
    return thread, codes


def test_watching_lasts_until_the_rollout_ends_and_tells_what_happens(
    workspace: Path, running: RolloutTable, capsys: pytest.CaptureFixture[str]
) -> None:
    thread, codes = watching("--workspace", workspace)
    heard = ""
    beats = time.monotonic() + BOUND_S
    # Events are told from the first look on: one is repeated until the watcher has heard it.
    while "half" not in heard and time.monotonic() < beats:
        running.advance(RUNNING, [replace(BEGUN, weight=0.5, reason="half of the cards")])
        time.sleep(0.05)
        heard += capsys.readouterr().err
    assert "version 4 canary at 50%: half of the cards" in heard
    assert codes == []
    end(running, State.PROMOTED)
    thread.join(BOUND_S)
    assert codes == [0]
    assert "that is how it ended" in " ".join(capsys.readouterr().err.split())


def test_watching_a_version_waits_for_its_own_rollout(
    workspace: Path, running: RolloutTable, capsys: pytest.CaptureFixture[str]
) -> None:
    end(running, State.PROMOTED)
    thread, codes = watching("--version", "5", "--workspace", workspace)
    heard = ""
    until = time.monotonic() + BOUND_S
    while "again" not in heard and time.monotonic() < until:
        running.advance(RUNNING, [replace(BEGUN, reason="again")])
        time.sleep(0.05)
        heard += capsys.readouterr().err
    assert codes == []
    end(running, State.ROLLED_BACK, version=5)
    thread.join(BOUND_S)
    assert codes == [1]


def test_a_workspace_that_is_not_there_is_named_and_not_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["rollout", "status", "--workspace", str(tmp_path / "wrokspace")]) == 2
    assert "there is no workspace" in capsys.readouterr().err
    assert not (tmp_path / "wrokspace").exists()
