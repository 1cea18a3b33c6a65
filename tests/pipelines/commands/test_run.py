"""`fraudops run`: how people accept a stop, and what they are told of one."""

from __future__ import annotations

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console, Group

from components.gate import Reason
from pipelines.cli import main
from pipelines.commands import scheduled
from pipelines.commands.run import _reasons, told
from schemas.acceptance import Acceptance, read

STOP = Reason("drift", "stop", "amount_base_minor", "amounts are a hundredfold")


def test_a_stop_is_told_with_what_would_let_it_pass() -> None:
    assert told(STOP) == [
        "stop: drift: amounts are a hundredfold",
        "  to go on all the same, add --accept drift:amount_base_minor=REASON",
    ]
    assert read("drift:amount_base_minor=REASON", "m").covers(STOP.check, STOP.subject)


@pytest.mark.parametrize(
    "subject, named", [("channel = online", "drift"), ("of 7 d", "'drift:of 7 d'"), ("a's", "'drift:a'\"'\"'s'")]
)
def test_what_is_told_can_be_typed(subject: str, named: str) -> None:
    assert told(replace(STOP, subject=subject))[1].endswith(f"add --accept {named}=REASON")


def test_an_accepted_stop_says_who_accepted_it_and_a_firm_one_gives_no_way() -> None:
    accepted = Acceptance("drift", "new prices", "m.keller", at="2026-03-01T12:00:00+00:00")
    assert told(replace(STOP, accepted=accepted))[1] == (
        "  accepted by m.keller at 2026-03-01T12:00:00+00:00: new prices"
    )
    assert told(replace(STOP, acceptable=False))[1] == "  this cannot be accepted"
    assert len(told(replace(STOP, severity="warn"))) == 1


def test_where_nobody_stands_beside_the_run_the_definition_is_named() -> None:
    assert "list drift:amount_base_minor under `accept`" in told(STOP, scheduled.ACCEPT)[1]


def test_stops_come_last_and_whole_and_warnings_only_as_far_as_people_read() -> None:
    warnings = [Reason("drift", "warn", f"f{n}", f"f{n} moved") for n in range(30)]
    odd = replace(STOP, subject="amount_base_minor (CNY, EUR, GBP and 2 more)")
    console = Console(width=40, file=StringIO())
    console.print(Group(*_reasons([odd, *warnings], "add --accept {}=REASON")), crop=False)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert "30 warnings" in lines[0]
    assert sum("moved" in line for line in lines) == 10
    assert lines[-1].endswith("--accept 'drift:amount_base_minor (CNY, EUR, GBP and 2 more)'=REASON")


@pytest.mark.parametrize(
    "options, complaint",
    [
        (["--accept", "drift"], "gives no reason"),
        (["--accept", "drift:channel="], "the reason of an acceptance"),
        (["--accept", "weather=rain"], "there is no check 'weather'"),
        (["--accept", "evaluation=good enough"], "cannot be accepted"),
        (["--accept", "drift=why", "--by", ""], "the name of an acceptance"),
        (["--accept", "drift=why", "--by", "ui:me"], "without `ui:`"),
        (["--by", "m.keller"], "give --accept as well"),
    ],
)
def test_what_is_no_acceptance_is_bad_input_before_anything_runs(
    options: list[str], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = tmp_path / "workspace"
    there = ["--source", "simulated", "--log", str(tmp_path / "log.parquet"), "--workspace", str(workspace)]
    assert main(["run", *there, *options, "--json"]) == 2
    assert complaint in json.loads(capsys.readouterr().out)["error"]["message"]
    assert not workspace.exists()
