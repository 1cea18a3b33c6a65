"""Verdicts inside artifacts: what the gate decides is on disk and in ML Metadata, acceptances included."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from components.gate import Reason, decide
from components.steps.artifacts import GateVerdict
from components.steps.parameters import from_parameter, to_parameter
from components.steps.verdicts import read_verdict, write_verdict
from schemas.acceptance import Acceptance, read

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
STOPS = [Reason("schema", "stop", name, f"{name} is odd") for name in ("country", "channel")]


@pytest.fixture
def artifact(tmp_path: Path) -> GateVerdict:
    made = GateVerdict()
    made.uri = str(tmp_path / "verdict")
    return made


def test_a_stop_closes_the_gate_and_is_read_back(artifact: GateVerdict) -> None:
    write_verdict(artifact, STOPS, (), NOW)
    assert artifact.passed == 0
    assert artifact.get_int_custom_property("accepted") == 0
    assert not artifact.has_custom_property("acceptances")
    assert read_verdict(artifact.uri) == decide(STOPS)


def test_an_acceptance_opens_it_and_is_recorded_with_who_when_and_why(artifact: GateVerdict) -> None:
    write_verdict(artifact, STOPS, [read('schema=a "new" market', "m.keller")], NOW)
    assert artifact.passed == 1
    assert artifact.get_int_custom_property("accepted") == 2
    assert json.loads(artifact.get_string_custom_property("acceptances")) == [
        {
            "check": "schema",
            "subject": None,
            "reason": 'a "new" market',
            "by": "m.keller",
            "at": "2026-03-01T12:00:00+00:00",
        }
    ]
    assert [one.by for one in read_verdict(artifact.uri).acceptances] == ["m.keller"]


def test_the_same_words_are_the_same_parameter_whenever_they_are_said() -> None:
    said = [to_parameter([read("drift:channel=a new app", "m.keller")]) for _ in range(2)]
    assert said[0] == said[1]
    assert from_parameter(tuple[Acceptance, ...], said[0]) == (Acceptance("drift", "a new app", "m.keller", "channel"),)
    assert from_parameter(tuple[Acceptance, ...], to_parameter([])) == ()
