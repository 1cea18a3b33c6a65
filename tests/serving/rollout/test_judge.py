"""The judge: what passes, what fails, what waits, and how often chance alone decides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import pytest

from schemas.decision import Outcome
from serving.decisions.evidence import ShadowTally, Tally
from serving.rollout.judge import Check, Verdict, judge_bootstrap, judge_canary, judge_shadow
from serving.rollout.policy import CanaryStep, Policy, Step

PASS, REVIEW, BLOCK = Outcome.PASS, Outcome.REVIEW, Outcome.BLOCK
POLICY = Policy()
STEP = CanaryStep(weight=0.25, min_decisions=5_000, min_seconds=60)
LATENCY = {0.5: 3.0, 0.99: 9.0}
LONG = 1e6


def tally(
    decisions: int,
    blocks: int,
    reviews: int = 0,
    failures: int = 0,
    cards: int | None = None,
    latency_ms: Mapping[float, float] = LATENCY,
) -> Tally:
    """Decisions of an arm, each on a card of its own unless said otherwise."""
    outcomes = {BLOCK: blocks, REVIEW: reviews, PASS: decisions - blocks - reviews}
    return Tally(decisions, decisions if cards is None else cards, failures, outcomes, latency_ms)


def shadowed(
    agree: int,
    both: int = 0,
    only_candidate: int = 0,
    only_stable: int = 0,
    failures: int = 0,
    latency_ms: Mapping[float, float] = LATENCY,
) -> ShadowTally:
    """What a candidate blocked aside, where the two agree to let pass, to block, or do not agree."""
    outcomes = {
        (PASS, PASS): agree,
        (BLOCK, BLOCK): both,
        (PASS, BLOCK): only_candidate,
        (BLOCK, PASS): only_stable,
    }
    return ShadowTally(sum(outcomes.values()) + failures, failures, outcomes, latency_ms)


def of(verdict: Verdict, name: str) -> Check:
    (check,) = (check for check in verdict.checks if check.name == name)
    return check


def canary(stable: Tally, candidate: Tally, seconds: float = LONG) -> Verdict:
    return judge_canary(POLICY, STEP, stable, candidate, seconds)


def test_a_candidate_like_the_stable_one_passes_when_enough_was_seen_for_long_enough() -> None:
    stable, candidate = tally(15_000, 150, 300), tally(5_000, 52, 97)
    assert canary(stable, candidate).decision == "pass"
    early = canary(stable, candidate, seconds=59)
    assert (early.decision, of(early, "seconds").state) == ("wait", "wait")
    assert early.reason == "the step has lasted 59 s, and needs 60 s"
    few = canary(stable, tally(4_999, 52, 97))
    assert (few.decision, of(few, "decisions").state) == ("wait", "wait")
    assert "4,999" in few.reason


def test_sure_evidence_fails_a_candidate_long_before_the_step_is_over() -> None:
    verdict = canary(tally(3_000, 30), tally(1_000, 60), seconds=1)
    assert verdict.decision == "fail"
    check = of(verdict, "block_share")
    assert check.value == pytest.approx(6)
    assert check.bound == 1.5
    assert check.statement.startswith(
        "the candidate blocks 6.00% of transactions and the stable model 1.00%: 6.00 times as many ("
    )
    assert check.statement.endswith("with 99% confidence), and 0.67 to 1.50 times is allowed")
    assert check.statement in verdict.reason


def test_a_candidate_that_stops_blocking_is_as_wrong() -> None:
    verdict = canary(tally(15_000, 300), tally(5_000, 10))
    assert (verdict.decision, of(verdict, "block_share").state) == ("fail", "fail")
    assert canary(tally(15_000, 300), tally(5_000, 0)).decision == "fail"


def test_reviewing_far_more_fails_as_well() -> None:
    verdict = canary(tally(15_000, 150, 150), tally(5_000, 50, 300))
    assert of(verdict, "block_share").state == "pass"
    assert (verdict.decision, of(verdict, "alert_share").state) == ("fail", "fail")


def test_what_looks_wrong_and_may_be_chance_waits_for_more() -> None:
    verdict = canary(tally(15_000, 30), tally(5_000, 18))
    assert of(verdict, "block_share").value == pytest.approx(1.8)
    assert verdict.decision == "wait"
    assert "1.80 times as many" in verdict.reason


def test_too_few_blocks_to_tell_hold_nobody_up() -> None:
    assert canary(tally(15_000, 3), tally(5_000, 3)).decision == "pass"
    assert canary(tally(15_000, 3), tally(5_000, 0)).decision == "pass"


def test_without_any_block_on_either_side_there_is_nothing_to_hold_against_the_candidate() -> None:
    verdict = canary(tally(15_000, 0), tally(5_000, 0))
    assert verdict.decision == "pass"
    assert of(verdict, "block_share").value == 1


def test_blocks_beside_a_stable_model_that_never_blocks_fail_once_they_are_no_chance() -> None:
    assert of(canary(tally(15_000, 0), tally(5_000, 1)), "block_share").state == "pass"
    verdict = canary(tally(15_000, 0), tally(5_000, 30))
    assert (verdict.decision, of(verdict, "block_share").value) == ("fail", None)
    assert "infinitely many times as many" in verdict.reason


def test_few_cards_never_make_sure_evidence() -> None:
    stable = tally(15_000, 150, cards=15_000)
    assert canary(stable, tally(5_000, 200, cards=5_000)).decision == "fail"
    assert canary(stable, tally(5_000, 200, cards=10)).decision == "wait"


def test_a_candidate_that_does_not_answer_fails_and_its_share_is_told() -> None:
    verdict = canary(tally(3_000, 30, failures=3), tally(1_000, 10, failures=100), seconds=1)
    assert (verdict.decision, of(verdict, "failures").state) == ("fail", "fail")
    assert "100 of 1,000 times (10.00%), the stable model 0.10%, and at most 1.10% is allowed" in verdict.reason


def test_a_failing_candidate_is_caught_within_dozens() -> None:
    assert of(canary(tally(90, 1), tally(50, 0, failures=50), seconds=1), "failures").state == "fail"


def test_one_lost_batch_is_no_reason_to_fail_but_one_to_wait() -> None:
    assert of(canary(tally(3_000, 30), tally(8, 0, failures=8)), "failures").state == "wait"


def test_an_outage_of_all_models_is_not_the_candidates_fault() -> None:
    out = canary(tally(15_000, 150, failures=6_000), tally(5_000, 50, failures=2_000))
    assert of(out, "failures").state == "pass"


@pytest.mark.parametrize(
    ("stable", "candidate", "calls", "state"),
    [
        (9.0, 17.0, 20_000, "pass"),
        (9.0, 19.0, 20_000, "fail"),
        (9.0, 19.0, 2_000, "wait"),  # bursts of slow calls are no evidence yet
        (30.0, 51.0, 20_000, "fail"),  # beyond the budget
        (30.0, 49.0, 20_000, "pass"),
        (1.0, 4.9, 20_000, "pass"),  # fast enough, whatever the ratio
    ],
)
def test_a_slow_candidate(stable: float, candidate: float, calls: int, state: str) -> None:
    verdict = canary(
        tally(60_000, 600, latency_ms={0.5: 1.0, 0.99: stable}),
        tally(calls, calls // 100, latency_ms={0.5: 1.0, 0.99: candidate}),
    )
    assert of(verdict, "latency_p99").state == state
    assert of(verdict, "latency_p50").state == "pass"


def test_quantiles_of_too_few_calls_are_not_looked_at() -> None:
    verdict = canary(tally(15_000, 150), tally(500, 5, latency_ms={0.5: 40.0, 0.99: 900.0}))
    assert [check.name for check in verdict.checks if check.name.startswith("latency")] == ["latency_p50"]
    assert of(verdict, "latency_p50").state == "fail"


def test_on_the_same_transactions_much_less_evidence_is_enough() -> None:
    decided = tally(1_000, 10)
    verdict = judge_shadow(POLICY, shadowed(960, both=10, only_candidate=30), decided, 1)
    assert (verdict.decision, of(verdict, "block_share").value) == ("fail", pytest.approx(4))
    assert of(canary(tally(1_000, 10), tally(1_000, 40)), "block_share").state == "wait"


def test_disagreement_in_both_directions_is_no_shift() -> None:
    decided = tally(5_000, 60)
    verdict = judge_shadow(POLICY, shadowed(4_890, both=10, only_candidate=50, only_stable=50), decided, LONG)
    assert verdict.decision == "pass"


def test_a_shadow_that_blocks_nothing_fails() -> None:
    verdict = judge_shadow(POLICY, shadowed(4_950, only_stable=50), tally(5_000, 50), LONG)
    assert (verdict.decision, of(verdict, "block_share").value) == ("fail", 0)


def test_a_shadow_waits_for_its_minimum_and_is_judged_by_failures_and_latency_too() -> None:
    decided = tally(5_000, 50)
    assert judge_shadow(POLICY, shadowed(4_000, both=40), decided, LONG).decision == "wait"
    assert judge_shadow(POLICY, shadowed(4_950, both=50), decided, 599).decision == "wait"
    assert judge_shadow(POLICY, shadowed(4_950, both=50), decided, 600).decision == "pass"
    failing = judge_shadow(POLICY, shadowed(4_950, both=50, failures=1_000), decided, LONG)
    assert of(failing, "failures").state == "fail"
    slow = judge_shadow(POLICY, shadowed(4_950, both=50, latency_ms={0.5: 7.0}), decided, LONG)
    assert of(slow, "latency_p50").state == "fail"


def test_without_a_stable_model_the_shares_themselves_are_limited() -> None:
    decided = tally(6_000, 2, latency_ms={})
    modest = judge_bootstrap(POLICY, shadowed(5_950, only_candidate=50), decided, LONG)
    assert modest.decision == "pass"
    wild = judge_bootstrap(POLICY, shadowed(900, only_candidate=100), decided, 1)
    assert (wild.decision, of(wild, "block_share").state) == ("fail", "fail")
    assert "blocks 10.00% of transactions (" in wild.reason
    assert "at most 2.00% is allowed without a stable model" in wild.reason
    unsure = judge_bootstrap(POLICY, shadowed(5_870, only_candidate=130), decided, LONG)
    assert (unsure.decision, of(unsure, "block_share").state) == ("wait", "wait")


def test_nothing_seen_at_all_waits() -> None:
    nothing = Tally(0, 0, 0, {})
    assert canary(nothing, nothing, seconds=0).decision == "wait"
    assert judge_shadow(POLICY, ShadowTally(0, 0, {}), nothing, 0).decision == "wait"
    assert judge_bootstrap(POLICY, ShadowTally(0, 0, {}), nothing, 0).decision == "wait"


# Chance.  Alerts come in bursts on few cards, as frauds do.
PER_CARD = 5
BURST = 2
LOOKS = 10  # until a step's minimum is reached; as many again for every further time


def bursts(rng: np.random.Generator, decisions: int, share: float) -> int:
    """How many of some decisions are events, when every card that has any has a burst of them."""
    return BURST * int(rng.binomial(decisions // PER_CARD, share * PER_CARD / BURST))


def shadow_looks(rng: np.random.Generator, step: Step, blocks: float, ratio: float, times: int) -> Iterator[Verdict]:
    """The judge's looks at a shadow; of the stable model's blocks, three of four are the candidate's too."""
    each = step.min_decisions // LOOKS
    both = only_candidate = only_stable = 0
    for look in range(1, times * LOOKS + 1):
        both += bursts(rng, each, 0.75 * blocks)
        only_stable += bursts(rng, each, 0.25 * blocks)
        only_candidate += bursts(rng, each, (ratio - 0.75) * blocks)
        asked = look * each
        seen = shadowed(asked - both - only_stable - only_candidate, both, only_candidate, only_stable)
        yield judge_shadow(POLICY, seen, tally(asked, both + only_stable, cards=asked // PER_CARD), LONG)


def canary_looks(
    rng: np.random.Generator, step: CanaryStep, blocks: float, ratio: float, times: int
) -> Iterator[Verdict]:
    """The judge's looks at a canary step."""
    each = step.min_decisions // LOOKS
    beside = round(each * (1 - step.weight) / step.weight)
    ours = theirs = 0
    for look in range(1, times * LOOKS + 1):
        ours += bursts(rng, each, ratio * blocks)
        theirs += bursts(rng, beside, blocks)
        stable = tally(look * beside, theirs, cards=look * beside // PER_CARD)
        candidate = tally(look * each, ours, cards=look * each // PER_CARD)
        yield judge_canary(POLICY, step, stable, candidate, LONG)


def first_decision(looks: Iterator[Verdict]) -> str:
    """The first decision that is not to wait."""
    return next((verdict.decision for verdict in looks if verdict.decision != "wait"), "wait")


def rollout(rng: np.random.Generator, blocks: float, ratio: float, times: int) -> str:
    """How a whole rollout ends: `fail`, `pass`, or `wait` where a step is still undecided."""
    end = first_decision(shadow_looks(rng, POLICY.shadow, blocks, ratio, times))
    for step in POLICY.canary:
        if end == "pass":
            end = first_decision(canary_looks(rng, step, blocks, ratio, times))
    return end


@pytest.mark.parametrize("blocks", [0.002, 0.02])
def test_an_equal_model_is_rolled_back_in_less_than_one_of_a_hundred_rollouts(blocks: float) -> None:
    rng = np.random.default_rng(11)
    ends = [rollout(rng, blocks, 1.0, times=5) for _ in range(150)]
    assert ends.count("fail") / len(ends) < 0.01
    assert ends.count("pass") / len(ends) > 0.95


def test_a_model_that_blocks_three_times_as_many_fails_in_the_shadow_soon() -> None:
    rng = np.random.default_rng(12)
    ends = [first_decision(shadow_looks(rng, POLICY.shadow, 0.01, 3.0, times=2)) for _ in range(300)]
    assert ends.count("fail") / len(ends) > 0.99


def test_a_model_that_blocks_three_times_as_many_fails_as_a_canary_soon() -> None:
    rng = np.random.default_rng(13)
    ends = [first_decision(canary_looks(rng, POLICY.canary[3], 0.01, 3.0, times=2)) for _ in range(300)]
    assert ends.count("fail") / len(ends) > 0.99


def test_a_model_that_blocks_three_times_as_many_is_never_promoted() -> None:
    rng = np.random.default_rng(14)
    assert "pass" not in {rollout(rng, 0.002, 3.0, times=2) for _ in range(150)}


def test_a_model_right_at_the_limit_fails_as_rarely_as_the_confidence_says_however_often_it_is_looked_at() -> None:
    rng = np.random.default_rng(15)
    often = replace(POLICY.canary[2], min_decisions=2_000)
    failed = 0
    for _ in range(200):
        failed += any(verdict.decision == "fail" for verdict in canary_looks(rng, often, 0.02, 1.5, times=10))
    # Blocks and alerts are the same here, so that two checks are one; 5 of 200 is twice the standard error above 1 %.
    assert failed <= 5
