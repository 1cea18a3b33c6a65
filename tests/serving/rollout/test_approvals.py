from __future__ import annotations

from datetime import UTC, datetime

import pytest

from schemas.approval import ApproversKey, decide
from schemas.versions import Version
from serving.rollout.approvals import Review, candidate, refused, review
from serving.rollout.situation import Release, Rollout, Situation, State
from serving.rollout.table import Decision

KEY = ApproversKey(b"k" * 32)
REGISTERED = {"gate": "passed", "digest.saved_model": "a" * 64}
APPROVED_BY_HAND = REGISTERED | {"approval": "approved"}


def approved(version: int = 2, reason: str = "finds more", key: ApproversKey | None = None) -> dict[str, str]:
    time = datetime(2026, 1, 2, tzinfo=UTC)
    made = decide("approved", REGISTERED, version=version, by="ann", reason=reason, time=time, key=key)
    return REGISTERED | {tag: value for tag, value in made.writes() if value}


def version(tags: dict[str, str], number: int = 2) -> Version:
    return Version("fraud", number, None, None, (), {}, {}, None, {}, datetime(2026, 1, 1, tzinfo=UTC), "", tags)


class Memory:
    """Looks at one version again and again."""

    def __init__(self) -> None:
        self.decisions: dict[str, Decision] = {}

    def look(self, tags: dict[str, str], key: ApproversKey | None = None) -> Review:
        found = review([version(tags)], self.decisions.values(), key)
        self.decisions |= {decision.decision: decision for decision in found.decisions}
        return found

    def may_start(self, tags: dict[str, str]) -> bool:
        return candidate(self.look(tags).standings, Situation()) is not None


def test_an_approved_version_may_start_and_a_pending_one_may_not():
    assert Memory().may_start(approved())
    assert not Memory().may_start(REGISTERED)


def test_what_does_not_change_is_not_remembered_twice():
    memory = Memory()
    assert len(memory.look(approved()).decisions) == 1
    assert memory.look(approved()).decisions == ()


@pytest.mark.parametrize("tags", [approved(), APPROVED_BY_HAND, approved(key=KEY)])
def test_an_approval_that_was_taken_back_does_not_count_when_it_is_put_back(tags: dict[str, str]):
    memory = Memory()
    assert memory.may_start(tags)
    assert not memory.may_start(tags | {"approval": "revoked"})
    assert not memory.may_start(tags)
    assert not memory.may_start(tags)
    assert memory.may_start(approved(reason="the complaints were about something else"))


def test_an_approval_that_was_replaced_does_not_count_when_it_is_put_back():
    memory = Memory()
    assert memory.may_start(approved())
    assert memory.may_start(approved(reason="signed", key=KEY))
    assert not memory.may_start(approved())


def test_a_refused_approval_may_not_start_again_though_it_may_serve():
    memory = Memory()
    memory.look(approved())
    for decision in refused(memory.decisions.values(), 2, "it blocked too much"):
        memory.decisions[decision.decision] = decision
    standing = memory.look(approved()).standings[2]
    assert standing.obstacles == ()
    assert standing.hold == "it blocked too much"
    assert not memory.may_start(approved())
    assert memory.may_start(approved(reason="thresholds were corrected"))


def test_tags_of_an_unfinished_decision_are_no_decision():
    memory = Memory()
    memory.look(approved())
    half = approved() | {"approval.decision": "unfinished", "approval.reason": "another"}
    assert not memory.may_start(half)
    assert memory.may_start(approved())  # which was not taken back meanwhile


def test_what_stands_against_an_approval_is_told_once():
    memory = Memory()
    assert [number for number, _ in memory.look(approved(), KEY).notices] == [2]
    assert memory.look(approved(), KEY).notices == ()
    assert memory.look(approved(key=KEY), KEY).notices == ()


def test_a_version_without_a_digest_may_not_serve():
    tags = approved()
    del tags["digest.saved_model"]
    [obstacle] = Memory().look(tags).standings[2].obstacles
    assert "digest.saved_model" in obstacle


def test_a_tag_that_is_no_state_may_not_serve():
    [obstacle] = Memory().look(REGISTERED | {"approval": "yes"}).standings[2].obstacles
    assert "'yes'" in obstacle


def test_the_candidate_is_the_newest_above_the_stable_one_that_does_not_run_already():
    found = review([version(approved(number), number) for number in (1, 2, 3, 4)], [], None)
    stable = Situation(stable=Release(2, "a" * 64, 1))
    running = Situation(stable=Release(2, "a" * 64, 1), rollout=Rollout(2, 4, "a" * 64, State.SHADOW, 0, 0, "approved"))

    def chosen(situation: Situation) -> int | None:
        standing = candidate(found.standings, situation)
        return standing.version if standing else None

    assert chosen(Situation()) == 4
    assert chosen(stable) == 4
    assert chosen(running) == 3
    assert chosen(Situation(stable=Release(4, "a" * 64, 1))) is None
