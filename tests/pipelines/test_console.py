"""How verbs reply, fail and leave standard output alone."""

import dataclasses
import datetime
import json
import os
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest

from pipelines import console
from schemas.errors import LogError


def verb(body):
    """A click command with `--json` around a function without arguments."""
    return click.command("verb")(console.json_option(body))


def failing_with(error):
    def body():
        raise error

    return verb(body)


def test_a_reply_for_people_leaves_standard_output_empty(capsys):
    command = verb(lambda: console.Reply({"rows": 3}, human="three rows"))
    assert console.run(command, []) == 0
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "three rows" in shown.err


def test_json_prints_one_object_and_not_what_people_read(capsys):
    command = verb(lambda: console.Reply({"rows": 3}, human="three rows"))
    assert console.run(command, ["--json"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out) == {"rows": 3}
    assert "three rows" not in shown.err


def test_what_remains_is_done_when_the_reply_is_out(capsys):
    seen = []
    reply = console.Reply({"rows": 3}, then=lambda: seen.append(capsys.readouterr().out))
    assert console.run(verb(lambda: reply), ["--json"]) == 0
    assert [json.loads(line) for line in seen] == [{"rows": 3}]


def test_what_remains_may_fail_and_json_stays_one_object(capsys):
    def fail():
        raise LogError("the log went away")

    assert console.run(verb(lambda: console.Reply({"rows": 3}, then=fail)), ["--json"]) == 2
    shown = capsys.readouterr()
    assert json.loads(shown.out) == {"rows": 3}
    assert "the log went away" in shown.err


def test_json_takes_what_verbs_have_at_hand(capsys):
    @dataclasses.dataclass(frozen=True)
    class Row:
        name: str

    fields = {
        "count": np.int64(3),
        "mean": np.float32(0.5),
        "missing": float("nan"),
        "weights": np.array([1.0, 2.0]),
        "path": Path("workspace/log.parquet"),
        "rows": (Row("a"),),
        "day": datetime.date(2026, 1, 2),
        "by_day": {1: "one"},
    }
    assert console.run(verb(lambda: console.Reply(fields)), ["--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "count": 3,
        "mean": 0.5,
        "missing": None,
        "weights": [1.0, 2.0],
        "path": "workspace/log.parquet",
        "rows": [{"name": "a"}],
        "day": "2026-01-02",
        "by_day": {"1": "one"},
    }


def test_a_gate_that_says_no_is_exit_code_1_with_the_whole_reply(capsys):
    command = verb(lambda: console.Reply({"status": "gate_failed"}, passed=False))
    assert console.run(command, ["--json"]) == 1
    assert json.loads(capsys.readouterr().out) == {"status": "gate_failed"}


@pytest.mark.parametrize(
    ("error", "code", "kind"),
    [
        (LogError("log.csv is empty"), 2, "LogError"),
        (click.BadParameter("log.csv is empty"), 2, "BadParameter"),
        (click.ClickException("log.csv is empty"), 2, "ClickException"),
        (ZeroDivisionError("log.csv is empty"), 70, "ZeroDivisionError"),
        (BrokenPipeError("log.csv is empty"), 70, "BrokenPipeError"),
        (SystemExit("log.csv is empty"), 70, "SystemExit"),
    ],
)
def test_an_error_has_its_exit_code_and_says_why_on_both_streams(error, code, kind, capsys):
    assert console.run(failing_with(error), ["--json"]) == code
    shown = capsys.readouterr()
    said = json.loads(shown.out)["error"]
    assert said["type"] == kind
    assert "log.csv is empty" in said["message"]
    assert "log.csv is empty" in shown.err
    assert ("Traceback" in shown.err) == (code == 70)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()])
def test_an_interrupt_is_130_without_a_traceback(error, capsys):
    assert console.run(failing_with(error), []) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_without_json_an_error_leaves_standard_output_empty(capsys):
    assert console.run(failing_with(LogError("log.csv is empty")), []) == 2
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "error: log.csv is empty\n")


def test_bad_usage_is_an_object_under_json(capsys):
    assert console.run(verb(lambda: console.Reply({})), ["--json", "--no-such-option"]) == 2
    assert "--no-such-option" in json.loads(capsys.readouterr().out)["error"]["message"]


@pytest.mark.parametrize("reply", [None, {"rows": 3}, console.Reply({"rows": object()})])
def test_a_reply_that_cannot_be_printed_is_a_bug_and_never_a_gate_that_said_no(reply, capsys):
    assert console.run(verb(lambda: reply), ["--json"]) == 70
    assert json.loads(capsys.readouterr().out)["error"]["type"] in {"TypeError", "JSONEncodeError"}


def test_brackets_and_long_lines_reach_people_as_they_are(capsys):
    line = "[red] is no markup " + "x" * 300
    console.say(line)
    assert capsys.readouterr().err == line + "\n"


NOISY_VERB = """
import os, sys, click
from pipelines import console

@click.command()
@console.json_option
def command():
    print("printed by a library")
    os.write(1, b"written by native code\\n")
    os.system("echo echoed by a child process")
    return console.Reply({"rows": 3})

sys.exit(console.run(command, sys.argv[1:]))
"""


def test_nothing_that_a_verb_prints_reaches_standard_output_under_json():
    ran = subprocess.run([sys.executable, "-c", NOISY_VERB, "--json"], capture_output=True, text=True, check=True)
    assert json.loads(ran.stdout) == {"rows": 3}
    for noise in ("printed by a library", "written by native code", "echoed by a child process"):
        assert noise in ran.stderr


@pytest.mark.parametrize(
    "arguments", [["-c", NOISY_VERB, "--json"], ["-m", "pipelines.cli", "--help"]], ids=["json", "help"]
)
def test_a_reader_that_left_is_no_failure(arguments):
    reader, writer = os.pipe()
    os.close(reader)
    try:
        ran = subprocess.run(
            [sys.executable, *arguments], stdout=writer, stderr=subprocess.PIPE, text=True, check=False
        )
    finally:
        os.close(writer)
    assert ran.returncode == 0
    assert "BrokenPipe" not in ran.stderr
