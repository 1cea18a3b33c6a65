"""`fraudops demo`: its replies, with a training that takes no time; tests/e2e/test_demo.py plays all of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from components.gate import Reason
from components.simulator import FRAUD_KINDS
from pipelines.cli import main
from pipelines.commands import demo
from pipelines.demo import logs
from pipelines.demo.findings import Aside, Calls, CanaryShare, Findings
from pipelines.run import Outcome
from schemas.decision import Arm
from schemas.decision import Outcome as DecisionOutcome
from serving.decisions.tallies import OutcomeCount
from serving.rollout.situation import Event

PASSED = Outcome(
    "passed", (), 7, {"read": 3, "dead": 0, "duplicate": 0}, {}, {"ingest": 0.1, "total": 0.1}, {"ingest": "ran"}, 1.0,
    Path("/reports/one.html"),
)  # fmt: skip
REFUSED = replace(
    PASSED, status="gate_failed", model_version=None, reasons=(Reason("drift", "stop", "rows", "too few rows"),)
)

Trained = list[tuple[Any, ...]]


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch) -> Callable[[Outcome], Trained]:
    """Sets what training runs come to, on a small bank, and gives the arguments of those that were made."""
    monkeypatch.setattr(logs, "CARDS", 50)
    monkeypatch.setattr(logs, "DAYS", 4)
    runs: Trained = []

    def comes_to(outcome: Outcome) -> Trained:
        def train(*arguments: Any) -> Outcome:
            runs.append(arguments)
            return outcome

        monkeypatch.setattr(demo, "train", train)
        return runs

    return comes_to


def play(workspace: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any], str]:
    code = main(["demo", "--training-only", "--workspace", str(workspace), "--json"])
    captured = capsys.readouterr()
    return code, json.loads(captured.out), captured.err


def test_training_alone_replies_as_a_run_does_and_says_what_was_simulated(
    training: Callable[[Outcome], Trained], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = training(PASSED)
    code, fields, _ = play(tmp_path, capsys)
    assert code == 0
    assert fields["model_version"] == 7
    assert list(fields["frauds"]) == list(FRAUD_KINDS)
    assert Path(fields["log"]).is_file()
    assert runs == [("simulated", Path(fields["log"]), None, tmp_path / "demo" / "first.yaml", tmp_path)]
    assert not (tmp_path / "features").exists()


def test_what_was_trained_is_not_trained_again(
    training: Callable[[Outcome], Trained], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = training(PASSED)
    _, first, _ = play(tmp_path, capsys)
    code, again, said = play(tmp_path, capsys)
    assert (code, again) == (0, first)
    assert len(runs) == 1
    assert "the first version is there already" in said


def test_a_gate_that_says_no_ends_the_demonstration_and_is_asked_again_the_next_time(
    training: Callable[[Outcome], Trained], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = training(REFUSED)
    code, fields, said = play(tmp_path, capsys)
    assert code == 1
    assert fields["status"] == "gate_failed"
    assert "too few rows" in said
    assert play(tmp_path, capsys)[0] == 1
    assert len(runs) == 2


def test_the_page_at_the_end_shows_rollouts_shares_decisions_and_what_did_not_hold() -> None:
    from rich.console import Console
    from rich.text import Text

    found = Findings(
        good=(1, 2),
        skewed=3,
        champion=3,
        history=(Event(0, 3, 3, "promoted", 1, 0.0, 9, "nobody noticed"),),
        shares=(CanaryShare(2, 0.25, 1_000, 249, 800, 203),),
        asides=(Aside(3, 1_000, 38, 5),),
        outcomes=(OutcomeCount(Arm.CANARY, 2, DecisionOutcome.REVIEW, "", 17),),
        calls=Calls(4_321, {"UNAVAILABLE": 2}),
    )
    console = Console(width=160)
    with console.capture() as capture:
        console.print(demo._page(found, Text("where to look")))
    shown = " ".join(capture.get().split())
    for part in (
        "00:00:00 3 promoted 0% nobody noticed",
        "2 25% 1,000 24.9% 800 25.4%",
        "3 1,000 38 3.80% 5 0.50% 7.6",
        "canary 2 REVIEW 17",
        "4,321 calls, 2 failed",
        "NO version 2 is the champion",
        "where to look",
    ):
        assert part in shown
