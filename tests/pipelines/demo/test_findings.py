"""What the demonstration says of itself, on rollouts and decisions that were made up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from pipelines.demo.findings import Aside, Calls, CanaryShare, Findings, calls, gather
from schemas.decision import Arm, Outcome
from serving.decisions.log import DecisionLog
from serving.rollout.situation import Event, Situation
from serving.rollout.table import RolloutTable
from tests.serving.decisions.entries import entry, shadow

RUN = (
    Event(1, 1, 1, "shadow", 0, 0.0, 1, "it is loaded"),
    Event(2, 1, 1, "promoted", 0, 0.0, 2, "the shadow agreed"),
    Event(3, 2, 2, "shadow", 0, 0.0, 3, "it is loaded"),
    Event(4, 2, 2, "canary", 0, 0.25, 4, "the shadow agreed"),
    Event(5, 2, 2, "canary", 1, 0.50, 5, "the step agreed"),
    Event(6, 2, 2, "promoted", 1, 0.0, 6, "the step agreed"),
    Event(7, 3, 3, "shadow", 0, 0.0, 7, "it is loaded"),
    Event(8, 3, 3, "rolled_back", 0, 0.0, 8, "it blocks 8.00 times as many"),
)
AS_IT_SHOULD = Findings(
    good=(1, 2),
    skewed=3,
    champion=2,
    history=RUN,
    shares=(CanaryShare(2, 0.25, 2_000, 520, 1_000, 260),),
    asides=(Aside(3, 1_000, 40, 5),),
    outcomes=(),
    calls=Calls(3_000, {}),
)


@pytest.fixture
def table(tmp_path: Path) -> Iterator[RolloutTable]:
    with closing(RolloutTable(tmp_path / "rollout.sqlite")) as table:
        table.advance(Situation(), RUN)
        yield table


@pytest.fixture
def log(tmp_path: Path) -> Iterator[DecisionLog]:
    with closing(DecisionLog(tmp_path / "decisions.sqlite")) as log:
        yield log


def answers(file: Path, *errors: str | None) -> Path:
    file.write_bytes(b"".join(orjson.dumps({"transaction_id": "t", "error": error}) + b"\n" for error in errors))
    return file


def missed(found: Findings) -> list[str]:
    return [check.expected for check in found.checks if not check.holds]


def test_what_is_as_it_should_be_passes() -> None:
    assert missed(AS_IT_SHOULD) == []
    assert AS_IT_SHOULD.passed


def test_a_good_version_that_was_not_promoted_fails() -> None:
    found = replace(AS_IT_SHOULD, history=RUN[:5] + RUN[6:])
    assert not found.passed
    assert missed(found) == ["version 2 is promoted"]


def test_a_skewed_version_that_was_promoted_fails() -> None:
    found = replace(AS_IT_SHOULD, history=(*RUN[:7], replace(RUN[7], state="promoted")), champion=3)
    assert missed(found) == [
        "version 3, which was registered all the same, is rolled back once it has been judged",
        "version 2 is the champion",
    ]


def test_a_skewed_version_that_was_never_judged_does_not_count_as_thrown_out() -> None:
    found = replace(AS_IT_SHOULD, history=(*RUN[:6], replace(RUN[6], state="loading"), RUN[7]))
    assert missed(found) == ["version 3, which was registered all the same, is rolled back once it has been judged"]


@pytest.mark.parametrize("aside", [Aside(3, 1_000, 14, 5), Aside(3, 1_000, 0, 0), Aside(2, 1_000, 40, 5)])
def test_a_skewed_version_that_does_not_misbehave_fails(aside: Aside) -> None:
    assert missed(replace(AS_IT_SHOULD, asides=(aside,))) == [
        "version 3 blocks at least 3 times as many as what decides"
    ]


def test_a_skewed_version_may_be_thrown_out_before_what_decides_has_blocked_anything() -> None:
    assert replace(AS_IT_SHOULD, asides=(Aside(3, 257, 9, 0),)).passed


def test_a_share_of_cards_that_chance_does_not_explain_fails() -> None:
    # 1,000 cards at 25 % deviate by 1.4 percentage points.
    for canary_cards, as_wanted in ((200, True), (190, False), (310, False)):
        found = replace(AS_IT_SHOULD, shares=(CanaryShare(2, 0.25, 2_000, 500, 1_000, canary_cards),))
        assert found.passed is as_wanted


def test_a_canary_step_without_traffic_fails() -> None:
    assert not replace(AS_IT_SHOULD, shares=(CanaryShare(2, 0.25, 0, 0, 0, 0),)).passed
    assert not replace(AS_IT_SHOULD, shares=()).passed


@pytest.mark.parametrize("seen", [Calls(0, {}), Calls(3_000, {"UNAVAILABLE": 1})])
def test_calls_that_failed_or_were_never_made_fail(seen: Calls) -> None:
    assert missed(replace(AS_IT_SHOULD, calls=seen)) == ["calls were made, and none failed"]


def test_shares_and_shadows_are_read_off_the_decision_log(
    table: RolloutTable, log: DecisionLog, tmp_path: Path
) -> None:
    canary = [entry(f"c{n}", routed=Arm.CANARY, version=2, generation=4, card_id=f"a{n % 2}") for n in range(3)]
    stable = [entry(f"s{n}", generation=4, card_id=f"b{n}") for n in range(6)]
    elsewhen = [entry("e0", generation=3), entry("e1", generation=6)]
    said = [
        shadow("d-s0", version=3, generation=7, decided=Outcome.PASS, outcome=Outcome.BLOCK),
        shadow("d-s1", version=3, generation=7, decided=Outcome.BLOCK, outcome=Outcome.BLOCK),
        shadow("d-s2", version=3, generation=7, decided=Outcome.BLOCK, outcome=Outcome.REVIEW),
        shadow("d-s3", version=3, generation=7, decided=Outcome.BLOCK, outcome=Outcome.BLOCK),
        shadow("d-s4", version=3, generation=7, decided=Outcome.BLOCK, outcome=None),
        shadow("d-s5", version=3, generation=7, decided=Outcome.PASS, outcome=Outcome.PASS),
    ]
    log.append(canary + stable + elsewhen, said)

    found = gather(table, log, [answers(tmp_path / "answers-1.jsonl", None)], 2, [1, 2], 3)

    assert found.shares == (CanaryShare(2, 0.25, 9, 3, 8, 2), CanaryShare(2, 0.5, 0, 0, 0, 0))
    assert found.shares[0].of_decisions == pytest.approx(1 / 3)
    assert found.shares[0].of_cards == pytest.approx(1 / 4)
    assert found.asides == (Aside(1, 0, 0, 0), Aside(2, 0, 0, 0), Aside(3, 5, 3, 3))
    assert sum(one.decisions for one in found.outcomes) == 11
    assert found.history == RUN
    assert found.calls == Calls(1, {})


def test_calls_are_counted_over_all_files_and_unfinished_lines_left_out(tmp_path: Path) -> None:
    first = answers(tmp_path / "answers-1.jsonl", None, "UNAVAILABLE", None)
    second = answers(tmp_path / "answers-2.jsonl", "UNAVAILABLE", "DEADLINE_EXCEEDED")
    with second.open("ab") as file:
        file.write(b'{"transaction_id": "t", "err')
    assert calls([first, second]) == Calls(5, {"UNAVAILABLE": 2, "DEADLINE_EXCEEDED": 1})
