from __future__ import annotations

from dataclasses import replace

import pytest

from schemas.bundle import Bundle
from schemas.features import FeatureSpec
from schemas.thresholds import Thresholds
from serving.rollout import machine
from serving.rollout.approvals import Standing
from serving.rollout.machine import Facts, routing_of, world
from serving.rollout.routing import Routing, Served
from serving.rollout.situation import Release, Rollout, Situation, State
from serving.rollout.table import Command

BUNDLE = Bundle(FeatureSpec((), (), ()), Thresholds(0.5, 0.9, 0.01, 0.8), "r" * 64, reason_vocabulary=1)
ONE, TWO = Served(1, BUNDLE), Served(2, BUNDLE)
STABLE = Release(1, "a" * 64, 1)
FIRST = Rollout(1, 1, "a" * 64, State.PROMOTED, 0, 5, "it went well")
WEIGHTS = (0.1, 0.5)
STANDING = Standing(2, "b" * 64, "approved by ann", (), "")


def facts(routing: Routing) -> Facts:
    return Facts(17, routing, WEIGHTS)


def walked(state: State, step: int = 0, stable: bool = True) -> tuple[Situation, Routing]:
    """The situation and routing of a rollout that has come to a state."""
    situation = Situation(stable=STABLE, rollout=FIRST) if stable else Situation()
    routing = Routing(5, stable=ONE if stable else None)
    change = machine.begin(situation, STANDING, facts(routing))
    while True:
        situation, routing = change.situation, change.routing or routing
        rollout = situation.running
        assert rollout is not None
        if (rollout.state, rollout.step) == (state, step):
            return situation, routing
        change = machine.advance(situation, "it went well", facts(routing), TWO)


def test_a_rollout_walks_through_all_states():
    situation, routing = walked(State.PROMOTING, step=1)
    assert (routing.weight, routing.generation) == (0.5, 8)  # shadow and two steps
    handed = machine.hand_over(situation, facts(routing))
    assert handed.routing == Routing(9, stable=TWO)
    assert handed.situation.stable == Release(2, "b" * 64, 2)
    assert handed.situation.previous == STABLE
    ended = machine.advance(handed.situation, "nothing else decides", facts(handed.routing))
    assert ended.situation.running is None
    assert ended.routing is None


def test_without_a_stable_version_the_shadow_leads_to_promotion():
    situation, routing = walked(State.SHADOW, stable=False)
    after = machine.advance(situation, "it went well", facts(routing)).situation.running
    assert after is not None and after.state is State.PROMOTING


def test_evidence_counts_from_the_generation_that_a_step_begins_with():
    for state, step in ((State.SHADOW, 0), (State.CANARY, 0), (State.CANARY, 1)):
        situation, routing = walked(state, step)
        assert situation.running is not None
        assert situation.running.since_generation == routing.generation


def test_a_card_that_the_candidate_has_stays_with_it_from_step_to_step():
    assert walked(State.CANARY, 0)[1].salt == walked(State.CANARY, 1)[1].salt


@pytest.mark.parametrize(
    ("state", "step"),
    [(State.PENDING, 0), (State.LOADING, 0), (State.SHADOW, 0), (State.CANARY, 1), (State.PROMOTING, 1)],
)
def test_stopping_takes_the_candidate_off_the_routing_at_once(state: State, step: int):
    situation, routing = walked(state, step)
    assert machine.stoppable(situation)
    change = machine.stop(situation, "it fails", facts(routing))
    after = change.routing or routing
    assert after.candidate is None
    assert after.stable == ONE
    assert change.situation.running is not None
    assert change.situation.running.state is State.ROLLING_BACK
    assert not machine.stoppable(change.situation)


def test_a_version_that_is_handed_over_is_not_stopped_any_more():
    situation, routing = walked(State.PROMOTING, step=1)
    handed = machine.hand_over(situation, facts(routing))
    assert handed.routing is not None
    told = machine.obey(handed.situation, Command(1, "abort", "bob", "late", 0), facts(handed.routing))
    assert told.situation == handed.situation
    assert [event.state for event in told.events] == ["ignored"]


@pytest.mark.parametrize("state", [State.LOADING, State.SHADOW, State.CANARY])
def test_withdrawing_the_stable_version_leaves_the_rules_alone_and_begins_again(state: State):
    situation, routing = walked(state)
    change = machine.withdraw(situation, "version 1 is revoked", facts(routing))
    assert change.routing == Routing(routing.generation + 1)
    assert change.situation.stable is None
    assert change.situation.running is not None
    assert change.situation.running.state is State.LOADING
    assert [(event.version, event.state) for event in change.events] == [(1, "rolled_back"), (2, "loading")]


def test_withdrawing_between_rollouts_ends_the_one_that_was_promoted():
    change = machine.withdraw(Situation(STABLE, rollout=FIRST), "revoked", facts(Routing(5, stable=ONE)))
    assert change.situation.rollout is not None
    assert change.situation.rollout.state is State.ROLLED_BACK
    assert [(event.version, event.state) for event in change.events] == [(1, "rolled_back")]
    assert change.routing == Routing(6)


def test_a_policy_with_fewer_steps_goes_on_with_its_last_one():
    situation, routing = walked(State.CANARY, 1)
    shorter = replace(facts(routing), weights=(0.2,))
    assert routing_of(situation, shorter).weight == 0.2
    after = machine.advance(situation, "it went well", shorter).situation.running
    assert after is not None and after.state is State.PROMOTING


def test_both_labels_name_the_new_version_before_any_routing_does():
    situation, routing = walked(State.PROMOTING, step=1)
    wanted = world(situation, "champion", "challenger")
    assert dict(wanted.desired.labels) == {"stable": 2, "canary": 2}
    assert wanted.desired.versions == {1, 2}
    assert routing.stable == ONE
    handed = machine.hand_over(situation, facts(routing)).situation
    assert world(handed, "champion", "challenger").desired.labels == {"stable": 2}
    assert world(handed, "champion", "challenger").aliases == {"champion": 2, "challenger": None}


def test_a_version_is_challenger_from_its_shadow_on():
    def challenger(state: State) -> int | None:
        return world(walked(state)[0], "champion", "challenger").aliases["challenger"]

    assert [challenger(state) for state in (State.PENDING, State.LOADING)] == [None, None]
    assert [challenger(state) for state in (State.SHADOW, State.CANARY)] == [2, 2]
