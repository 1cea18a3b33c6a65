from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.approval import ApproversKey
from serving.rollout.routing import Routing, Served
from serving.rollout.situation import State
from tests.serving.rollout.scene import SPEC, WIDER_SPEC, Scene, shadow_tally, tally

KEY = ApproversKey(b"k" * 32)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path)
    yield scene
    scene.close()


@pytest.fixture
def with_stable(scene: Scene) -> Scene:
    """Version 1 decides."""
    scene.promote(1)
    return scene


def start_second(scene: Scene, state: State) -> None:
    """Version 2 is approved and comes as far as a state."""
    scene.registry.add(2)
    scene.registry.approve(2)
    scene.until_state(state, 2)


def assert_version_1_alone_decides(scene: Scene) -> None:
    assert scene.table.routing().stable is not None
    assert scene.table.routing() == Routing(scene.table.generation(), stable=scene.table.routing().stable)
    assert scene.server.labels == {"stable": 1}
    assert scene.server.available == {1}
    assert scene.registry.aliases == {"champion": 1}
    assert scene.placed() == {"1"}


def test_the_first_version_shadows_the_rules_and_is_promoted(scene: Scene):
    scene.evidence.shadow = shadow_tally(stable=False)
    scene.registry.add(1)
    scene.seconds(2)
    assert scene.story == []  # nobody has approved it
    scene.registry.approve(1)
    scene.until_state(State.SHADOW)
    routing = scene.table.routing()
    assert routing.stable is None
    assert routing.candidate is not None and routing.candidate.version == 1
    assert (routing.weight, routing.shadow) == (0.0, True)
    assert scene.registry.aliases == {"challenger": 1}
    scene.until_state(State.PROMOTED)
    assert [state for _, state in scene.story] == ["pending", "loading", "shadow", "promoting", "promoting", "promoted"]
    assert_version_1_alone_decides(scene)


def test_the_first_version_must_not_block_more_than_the_policy_allows(scene: Scene):
    scene.evidence.shadow = shadow_tally(blocked=900, stable=False)
    scene.registry.add(1)
    scene.registry.approve(1)
    scene.until_state(State.ROLLED_BACK)
    assert "blocks 9.00%" in scene.last_reason
    assert scene.table.routing().stable is None
    assert scene.registry.aliases == {}
    assert scene.server.available == set()
    assert scene.placed() == set()


def test_a_version_goes_through_shadow_and_each_canary_step(with_stable: Scene):
    scene = with_stable
    start_second(scene, State.SHADOW)
    assert scene.registry.aliases == {"champion": 1, "challenger": 2}
    assert scene.server.labels == {"stable": 1, "canary": 2}
    scene.until_state(State.PROMOTED, 2)
    history = [event for event in scene.table.history() if event.version == 2]
    assert [(event.state, event.step, event.weight) for event in history] == [
        ("pending", 0, 0.0),
        ("loading", 0, 0.0),
        ("shadow", 0, 0.0),
        ("canary", 0, 0.1),
        ("canary", 1, 0.5),
        ("promoting", 1, 0.5),
        ("promoting", 1, 0.0),
        ("promoted", 1, 0.0),
    ]
    assert scene.server.labels == {"stable": 2}
    assert scene.server.available == {2}
    assert scene.registry.aliases == {"champion": 2}
    assert scene.placed() == {"1", "2"}  # the one before is kept


def test_files_older_than_the_version_before_go(with_stable: Scene):
    with_stable.promote(2)
    with_stable.promote(3)
    assert with_stable.placed() == {"2", "3"}


def test_a_canary_that_blocks_three_times_as_many_is_rolled_back(with_stable: Scene):
    scene = with_stable
    start_second(scene, State.CANARY)
    scene.evidence.canary = tally(blocked=300)
    scene.second()
    assert scene.state in ("rolling_back", "rolled_back")
    assert scene.table.routing().candidate is None  # at once
    scene.until_state(State.ROLLED_BACK, 2)
    assert "blocks 3.00% of transactions and the stable model 1.00%" in scene.last_reason
    assert_version_1_alone_decides(scene)


def test_a_shadow_that_blocks_three_times_as_many_is_rolled_back(with_stable: Scene):
    with_stable.evidence.shadow = shadow_tally(blocked=300)
    start_second(with_stable, State.ROLLED_BACK)
    assert (2, "canary") not in with_stable.story
    assert_version_1_alone_decides(with_stable)


def test_what_was_rolled_back_is_not_tried_again_under_the_same_approval(with_stable: Scene):
    scene = with_stable
    scene.evidence.shadow = shadow_tally(blocked=300)
    start_second(scene, State.ROLLED_BACK)
    scene.evidence.shadow = shadow_tally()
    scene.restart()
    scene.seconds(10)
    assert scene.story.count((2, "pending")) == 1


def test_a_new_approval_starts_a_new_rollout_with_other_cards_first(with_stable: Scene):
    scene = with_stable
    scene.evidence.shadow = shadow_tally(blocked=300)
    start_second(scene, State.SHADOW)
    salt = scene.table.routing().salt
    scene.until_state(State.ROLLED_BACK)
    scene.evidence.shadow = shadow_tally()
    scene.registry.revoke(2)
    scene.seconds(2)
    scene.registry.approve(2, "thresholds were looked at again")
    scene.until_state(State.SHADOW, 2)
    assert scene.table.routing().salt != salt
    scene.until_state(State.PROMOTED, 2)


def test_a_replayed_approval_is_refused(with_stable: Scene):
    scene = with_stable
    start_second(scene, State.SHADOW)
    approved = scene.registry.tags(2)
    scene.registry.revoke(2)
    scene.until_state(State.ROLLED_BACK, 2)
    scene.registry.set_tags(2, approved)
    scene.seconds(5)
    assert scene.story.count((2, "pending")) == 1
    assert scene.story[-1] == (2, "refused")
    assert "taken back or replaced before" in scene.last_reason


def test_a_replayed_signature_is_refused(tmp_path: Path):
    scene = Scene(tmp_path, key=KEY)
    scene.evidence.shadow = shadow_tally(stable=False)
    scene.registry.add(1)
    scene.registry.approve(1, key=KEY)
    scene.until_state(State.PROMOTED)
    approved = scene.registry.tags(1)
    scene.registry.set_tags(1, {**approved, "approval": "revoked"})  # by hand, in MLflow's pages
    scene.until(lambda: scene.table.routing().stable is None)
    scene.registry.set_tags(1, approved)
    scene.seconds(10)
    assert scene.table.routing().stable is None
    assert scene.story[-1] == (1, "refused")
    scene.close()


def test_without_the_required_signature_nothing_begins_and_it_is_told_once(tmp_path: Path):
    scene = Scene(tmp_path, key=KEY)
    scene.registry.add(1)
    scene.registry.approve(1)
    scene.seconds(5)
    assert scene.story == [(1, "refused")]
    assert "without a signature" in scene.last_reason
    scene.close()


def test_a_version_whose_gate_failed_does_not_begin_whatever_its_tag_says(scene: Scene):
    scene.registry.add(1, gate="failed", approval="approved")
    scene.seconds(3)
    assert scene.story == [(1, "refused")]
    assert "gate" in scene.last_reason


def test_a_decision_that_is_being_written_waits(scene: Scene):
    scene.registry.add(1, SPEC, **{"approval": "approved", "approval.decision": "unfinished"})
    scene.seconds(3)
    assert scene.story == []
    tags = scene.registry.tags(1) | {"approval.decision": "approved", "approval.by": "ann", "approval.reason": "good"}
    scene.registry.set_tags(1, tags)
    scene.second()
    assert (1, "pending") in scene.story


def test_an_approval_in_the_middle_of_a_rollout_waits(with_stable: Scene):
    scene = with_stable
    start_second(scene, State.SHADOW)
    scene.registry.add(3)
    scene.registry.approve(3)
    scene.second()
    assert scene.table.situation().waiting == 3
    scene.until_state(State.PROMOTED, 2)
    scene.until_state(State.PROMOTED, 3)
    assert scene.table.situation().waiting is None


def test_a_newer_approval_takes_the_place_of_one_that_waits(with_stable: Scene):
    scene = with_stable
    start_second(scene, State.SHADOW)
    for version in (3, 4):
        scene.registry.add(version)
        scene.registry.approve(version)
        scene.second()
    assert scene.table.situation().waiting == 4
    scene.until_state(State.PROMOTED, 4)
    assert (3, "pending") not in scene.story


def test_who_waits_and_is_revoked_waits_no_longer(with_stable: Scene):
    scene = with_stable
    start_second(scene, State.SHADOW)
    scene.registry.add(3)
    scene.registry.approve(3)
    scene.second()
    scene.registry.revoke(3)
    scene.second()
    assert scene.table.situation().waiting is None
    scene.until_state(State.PROMOTED, 2)
    scene.seconds(3)
    assert (3, "pending") not in scene.story


def test_an_older_version_than_the_stable_one_is_left_alone(scene: Scene):
    scene.registry.add(1)
    scene.promote(2)
    scene.registry.approve(1)
    scene.seconds(3)
    assert (1, "pending") not in scene.story


@pytest.mark.parametrize("state", [State.LOADING, State.SHADOW, State.CANARY])
def test_revoking_stops_a_running_rollout(with_stable: Scene, state: State):
    start_second(with_stable, state)
    with_stable.registry.revoke(2, "complaints")
    with_stable.until_state(State.ROLLED_BACK, 2)
    assert "revoked by ann because 'complaints'" in with_stable.last_reason
    assert_version_1_alone_decides(with_stable)


def test_a_version_that_is_gone_from_the_registry_is_not_rolled_out(with_stable: Scene):
    start_second(with_stable, State.SHADOW)
    with_stable.registry.forget(2)
    with_stable.until_state(State.ROLLED_BACK, 2)
    assert "not in the registry any more" in with_stable.last_reason


def test_another_digest_on_the_registered_version_stops_its_rollout(with_stable: Scene):
    start_second(with_stable, State.SHADOW)
    with_stable.registry.set_tags(2, with_stable.registry.tags(2) | {"digest.saved_model": "0" * 64})
    with_stable.until_state(State.ROLLED_BACK, 2)
    assert "0" * 64 in with_stable.last_reason


def test_a_revoked_stable_version_stops_serving_and_the_one_before_shadows_again(with_stable: Scene):
    scene = with_stable
    scene.promote(2)
    scene.registry.revoke(2)
    scene.evidence.shadow = shadow_tally(stable=False)
    scene.second()
    assert scene.table.routing().stable is None
    [alarm] = [event for event in scene.table.history() if "ALARM" in event.reason]
    assert (alarm.version, alarm.state) == (2, "rolled_back")
    assert "the rules decide alone" in alarm.reason
    scene.until_state(State.SHADOW, 1)
    assert scene.registry.aliases == {"challenger": 1}
    scene.until_state(State.PROMOTED, 1)
    assert_version_1_alone_decides(scene)


def test_where_the_stable_version_is_revoked_a_rollout_begins_again_without_it(with_stable: Scene):
    scene = with_stable
    start_second(scene, State.CANARY)
    scene.evidence.shadow = shadow_tally(stable=False)
    scene.registry.revoke(1)
    scene.second()
    assert scene.table.routing() == Routing(scene.table.generation())
    scene.until_state(State.SHADOW, 2)
    assert scene.table.routing().stable is None
    scene.until_state(State.PROMOTED, 2)
    assert scene.server.available == {2}
    assert scene.registry.aliases == {"champion": 2}


def test_a_stable_version_that_the_registry_has_lost_goes_on_deciding(with_stable: Scene):
    with_stable.registry.forget(1)
    with_stable.seconds(5)
    assert with_stable.server.labels == {"stable": 1}
    assert with_stable.table.routing().stable is not None
    assert "not in the registry any more" in with_stable.table.status().note


def test_a_pause_holds_the_weight_and_resume_lets_it_go_on(with_stable: Scene):
    scene = with_stable
    start_second(scene, State.CANARY)
    scene.table.command("pause", "bob", "lunch", scene.now_us())
    scene.seconds(10)
    assert (scene.state, scene.table.routing().weight) == ("canary", 0.1)
    pause = scene.table.situation().pause
    assert pause is not None and (pause.by, pause.reason) == ("bob", "lunch")
    scene.table.command("resume", "bob", "", scene.now_us())
    scene.until_state(State.PROMOTED, 2)
    assert scene.story.count((2, "paused")) == scene.story.count((2, "resumed")) == 1


def test_a_paused_candidate_that_fails_is_rolled_back_and_the_pause_ends_with_it(with_stable: Scene):
    scene = with_stable
    start_second(scene, State.CANARY)
    scene.table.command("pause", "bob", "lunch", scene.now_us())
    scene.second()
    scene.evidence.canary = tally(blocked=300)
    scene.until_state(State.ROLLED_BACK, 2)
    assert scene.table.situation().pause is None


def test_a_pause_between_rollouts_holds_the_next_one_before_it_begins(with_stable: Scene):
    scene = with_stable
    scene.table.command("pause", "bob", "holidays", scene.now_us())
    start_second(scene, State.PENDING)
    scene.seconds(5)
    assert scene.state == "pending"
    assert scene.placed() == {"1"}


@pytest.mark.parametrize("state", [State.LOADING, State.SHADOW, State.CANARY])
def test_abort_rolls_back(with_stable: Scene, state: State):
    scene = with_stable
    start_second(scene, state)
    scene.table.command("abort", "bob", "it smells", scene.now_us())
    scene.until_state(State.ROLLED_BACK, 2)
    assert scene.last_reason == "abort asked for by bob because 'it smells'"
    assert_version_1_alone_decides(scene)
    scene.seconds(5)
    assert scene.story.count((2, "pending")) == 1


def test_a_command_is_executed_once(with_stable: Scene):
    scene = with_stable
    scene.table.command("abort", "bob", "it smells", scene.now_us())
    scene.seconds(2)
    assert scene.story[-1] == (0, "ignored")
    assert "no rollout runs" in scene.last_reason
    start_second(scene, State.PROMOTED)


def test_a_model_server_that_has_forgotten_everything_is_told_again(with_stable: Scene):
    scene = with_stable
    start_second(scene, State.CANARY)
    scene.server.forget()
    scene.until(lambda: scene.server.labels == {"stable": 1, "canary": 2}, check=False)
    scene.until_state(State.PROMOTED, 2)
    scene.server.forget()
    scene.until(lambda: bool(scene.server.labels), check=False)
    assert scene.server.labels == {"stable": 2}


def test_while_the_registry_is_down_nothing_advances_and_what_fails_is_still_stopped(with_stable: Scene):
    scene = with_stable
    start_second(scene, State.CANARY)
    scene.registry.kept.update(down=True)
    scene.seconds(10)
    assert (scene.state, scene.table.routing().weight) == ("canary", 0.1)
    assert "does not answer" in scene.table.status().note
    scene.evidence.canary = tally(blocked=300)
    scene.seconds(5)
    assert scene.table.routing().candidate is None
    assert scene.server.available == {1}
    assert scene.state == "rolling_back"  # an alias is left
    scene.registry.kept.update(down=False)
    scene.until_state(State.ROLLED_BACK, 2)
    assert_version_1_alone_decides(scene)


def test_while_the_model_server_is_down_everything_stays_as_it_is(with_stable: Scene):
    scene = with_stable
    start_second(scene, State.CANARY)
    scene.server.kept.update(down=True)
    scene.seconds(10)
    assert (scene.state, scene.table.routing().weight) == ("canary", 0.1)
    scene.server.kept.update(down=False)
    scene.until_state(State.PROMOTED, 2)


def test_while_the_decision_log_cannot_be_read_nothing_advances(with_stable: Scene):
    scene = with_stable
    start_second(scene, State.CANARY)
    scene.evidence.broken = True
    scene.seconds(10)
    assert (scene.state, scene.table.routing().weight) == ("canary", 0.1)
    scene.evidence.broken = False
    scene.until_state(State.PROMOTED, 2)


def test_a_version_that_cannot_be_loaded_is_given_up(with_stable: Scene):
    with_stable.server.kept.update(broken=[2])
    start_second(with_stable, State.ROLLED_BACK)
    assert "no graph in it" in with_stable.last_reason
    assert_version_1_alone_decides(with_stable)


def test_a_version_that_does_not_come_up_in_time_is_given_up(with_stable: Scene):
    with_stable.server.kept.update(slow=[2])
    start_second(with_stable, State.ROLLED_BACK)
    assert "within 20 s" in with_stable.last_reason
    assert_version_1_alone_decides(with_stable)


def test_a_model_that_reads_what_the_store_does_not_compute_is_refused(with_stable: Scene):
    with_stable.registry.add(2, WIDER_SPEC)
    with_stable.registry.approve(2)
    with_stable.until_state(State.ROLLED_BACK, 2)
    assert "channel" in with_stable.last_reason
    assert_version_1_alone_decides(with_stable)


def flip_a_byte(folder: Path) -> None:
    file = folder / "saved_model.pb"
    content = bytearray(file.read_bytes())
    content[0] ^= 1
    file.write_bytes(bytes(content))


def assert_both_digests(scene: Scene, version: int, reason: str) -> None:
    from schemas.digests import directory_digest

    registered = scene.registry.tags(version)["digest.saved_model"]
    assert registered in reason
    changed = scene.registry.artifact(version)
    copy = changed.with_name("changed")
    shutil.copytree(changed, copy)
    if directory_digest(copy) == registered:
        flip_a_byte(copy)
    assert directory_digest(copy) in reason


def test_a_byte_changed_in_the_registry_is_refused_with_both_digests(with_stable: Scene):
    with_stable.registry.add(2)
    flip_a_byte(with_stable.registry.artifact(2))
    with_stable.registry.approve(2)
    with_stable.until_state(State.ROLLED_BACK, 2)
    assert_both_digests(with_stable, 2, with_stable.last_reason)
    assert_version_1_alone_decides(with_stable)


def test_a_byte_changed_before_the_canary_label_moves_is_refused_with_both_digests(with_stable: Scene):
    start_second(with_stable, State.LOADING)
    flip_a_byte(with_stable.models / "2")
    with_stable.until_state(State.ROLLED_BACK, 2)
    assert (2, "shadow") not in with_stable.story
    assert_both_digests(with_stable, 2, with_stable.last_reason)
    assert_version_1_alone_decides(with_stable)


def test_a_byte_changed_before_the_stable_label_moves_is_refused_with_both_digests(with_stable: Scene):
    scene = with_stable
    start_second(scene, State.CANARY)
    scene.until(lambda: scene.table.routing().weight == 0.5)
    flip_a_byte(scene.models / "2")
    scene.until_state(State.ROLLED_BACK, 2)
    assert (2, "promoting") in scene.story
    assert_both_digests(scene, 2, scene.last_reason)
    assert_version_1_alone_decides(scene)


def test_a_stable_version_with_a_changed_byte_is_not_served_again(with_stable: Scene):
    scene = with_stable
    flip_a_byte(scene.models / "1")
    scene.seconds(3)
    assert scene.server.labels == {"stable": 1}  # the server has read it before
    scene.server.forget()
    scene.until(lambda: scene.table.routing().stable is None, check=False)
    assert scene.server.labels == {}
    assert "ALARM" in scene.last_reason
    assert_both_digests(scene, 1, scene.last_reason)
    scene.seconds(5)
    assert scene.story.count((1, "pending")) == 1


def test_nothing_is_taken_away_before_the_gateways_have_followed(with_stable: Scene):
    scene = with_stable
    start_second(scene, State.CANARY)
    followed = scene.table.generation()
    scene.gateways = ("a",)  # b hangs, but lives
    scene.evidence.canary = tally(blocked=300)
    for _ in range(5):
        scene.table.adopt("b", followed, scene.now_us() + 1_000_000)
        scene.second()
    assert scene.server.labels == {"stable": 1, "canary": 2}
    assert "gateway b decides under generation" in scene.table.status().note
    scene.seconds(6)  # b is dead by now
    assert_version_1_alone_decides(scene)


def test_what_was_published_by_hand_ends_with_the_first_controller(scene: Scene):
    scene.promote(1)
    stable = scene.table.routing().stable
    assert stable is not None
    other = Scene(scene.models.parent / "other")
    other.table.publish(Routing(0, stable=Served(9, stable.bundle)))
    other.second(check=False)
    assert other.table.routing() == Routing(2)
    assert other.story == [(0, "routed")]
    other.close()


def test_the_metrics_say_where_the_rollout_stands(with_stable: Scene):
    scene = with_stable
    start_second(scene, State.CANARY)
    scene.second()

    def value(name: str, **labels: str) -> float | None:
        return scene.controller.metrics.registry.get_sample_value(f"fraudops_rollout_{name}", labels)

    assert value("state", state="canary") == 1
    assert value("state", state="shadow") == 0
    assert value("weight") == 0.1
    assert value("version") == 2
    assert value("stable_version") == 1
    assert value("generation") == scene.table.generation()
    assert value("registry_age_seconds") == 0
    assert value("check", check="block_share") == pytest.approx(1.0)
    assert value("transitions_total", state="canary") == 1
    scene.registry.kept.update(down=True)
    scene.seconds(2)
    assert value("errors_total", kind="registry") == 2
    assert value("registry_age_seconds") == 2
