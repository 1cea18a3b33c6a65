from __future__ import annotations

import multiprocessing
from dataclasses import replace
from pathlib import Path

import pytest

from schemas.bundle import Bundle
from schemas.errors import ArtifactError, ConfigurationError
from schemas.features import FeatureSpec
from schemas.thresholds import Thresholds
from serving.rollout.routing import Routing, Served
from serving.rollout.situation import Event, Pause, Release, Rollout, Situation, State
from serving.rollout.table import Command, Decision, Gateway, RolloutTable

BUNDLE = Bundle(FeatureSpec((), (), ()), Thresholds(0.5, 0.9, 0.01, 0.8), rules_digest="r" * 64, reason_vocabulary=1)
SITUATION = Situation(
    stable=Release(1, "a" * 64, 1),
    previous=None,
    rollout=Rollout(2, 2, "b" * 64, State.CANARY, 17, 4, "the shadow passed", step=1),
    waiting=3,
    pause=Pause("ann", "lunch", 18),
)
EVENT = Event(17, 2, 2, "canary", 1, 0.05, 1, "the shadow passed")


@pytest.fixture
def table(tmp_path: Path):
    table = RolloutTable(tmp_path / "rollout.sqlite")
    yield table
    table.close()


def test_a_new_table_routes_nothing(table: RolloutTable):
    assert table.generation() == 0
    assert table.routing() == Routing(0)
    assert table.situation() == Situation()
    assert table.history() == ()


def test_what_is_published_gets_the_next_generation(table: RolloutTable):
    first = table.publish(Routing(0, stable=Served(1, BUNDLE)))
    second = table.publish(Routing(0, stable=Served(2, BUNDLE)))
    assert (first.generation, second.generation) == (1, 2)
    assert table.generation() == 2
    assert table.routing() == second


def test_a_step_is_found_again_by_who_opens_the_file_next(table: RolloutTable, tmp_path: Path):
    routing = Routing(1, stable=Served(1, BUNDLE), candidate=Served(2, BUNDLE), weight=0.05, salt="2")
    decision = Decision(2, "d" * 64, standing=True)
    table.advance(SITUATION, [EVENT], routing, [decision])
    other = RolloutTable(tmp_path / "rollout.sqlite")
    assert other.situation() == SITUATION
    assert other.routing() == routing
    assert other.history() == (EVENT,)
    assert other.decisions() == (decision,)
    other.close()


def test_a_step_is_written_whole_or_not_at_all(table: RolloutTable):
    asked = table.command("pause", "ann", "lunch", 1)
    with pytest.raises(ArtifactError, match="generation 7"):
        table.advance(SITUATION, [EVENT], Routing(7), [Decision(2, "d" * 64, True)], [asked])
    assert table.situation() == Situation()
    assert table.history() == ()
    assert table.decisions() == ()
    assert [command.id for command in table.commands()] == [asked]


def test_a_decision_is_remembered_once_and_as_it_was_last_written(table: RolloutTable):
    seen = Decision(2, "d" * 64, standing=True)
    table.advance(Situation(), decisions=[seen])
    table.advance(Situation(), decisions=[replace(seen, standing=False, refused="it blocked too much")])
    assert table.decisions() == (Decision(2, "d" * 64, False, "it blocked too much"),)


def test_a_command_is_listed_until_it_is_executed(table: RolloutTable):
    first = table.command("pause", "ann", "lunch", 1)
    second = table.command("abort", "bob", "it smells", 2)
    assert table.status().commands == (
        Command(first, "pause", "ann", "lunch", 1),
        Command(second, "abort", "bob", "it smells", 2),
    )
    table.advance(Situation(), executed=[first])
    assert [command.id for command in table.commands()] == [second]


def test_a_gateway_has_adopted_a_generation_since_it_first_said_so(table: RolloutTable):
    table.adopt("a", 1, 100)
    table.adopt("a", 1, 200)
    assert table.gateways() == (Gateway("a", 1, adopted_us=100, seen_us=200),)
    table.adopt("a", 2, 300)
    assert table.gateways() == (Gateway("a", 2, adopted_us=300, seen_us=300),)


def test_a_gateway_that_went_long_ago_is_forgotten(table: RolloutTable):
    day_us = 24 * 3600 * 1_000_000
    table.adopt("old", 1, 0)
    table.adopt("new", 1, day_us)
    table.beat(day_us + 1, "", [])
    assert [gateway.name for gateway in table.gateways()] == ["new"]


def test_the_status_says_what_the_controller_said_last(table: RolloutTable):
    assert table.status().controller_seen_us is None
    table.beat(5, "waits for the registry", [{"name": "errors", "state": "wait"}])
    table.beat(6, "", [{"name": "errors", "state": "pass"}])
    status = table.status()
    assert (status.controller_seen_us, status.note) == (6, "")
    assert status.checks == ({"name": "errors", "state": "pass"},)


def _try_to_lead(path: Path, answer: multiprocessing.SimpleQueue[str]) -> None:
    table = RolloutTable(path)
    try:
        with table.lead():
            answer.put("leads")
    except ConfigurationError as error:
        answer.put(str(error))


def test_there_is_one_controller_at_a_time(table: RolloutTable, tmp_path: Path):
    context = multiprocessing.get_context("spawn")
    answer: multiprocessing.SimpleQueue[str] = context.SimpleQueue()

    def other() -> str:
        process = context.Process(target=_try_to_lead, args=(tmp_path / "rollout.sqlite", answer))
        process.start()
        process.join()
        return answer.get()

    with table.lead():
        assert "a rollout controller runs" in other()
        with pytest.raises(ConfigurationError, match="a rollout controller runs"):
            table.publish(Routing(0))
    assert other() == "leads"


def test_a_file_that_is_none_is_refused(tmp_path: Path):
    (tmp_path / "rollout.sqlite").write_text("no database, but a text that is long enough to be taken for a header" * 9)
    with pytest.raises(ArtifactError, match="rollout table"):
        RolloutTable(tmp_path / "rollout.sqlite")
