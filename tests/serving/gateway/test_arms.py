"""Which version decides, what stands in for it, and what the decision says of that."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from schemas.decision import Arm
from schemas.features import Feature, FeatureSpec
from schemas.scoring_pb2 import BLOCK, CANARY, PASS, REVIEW, STABLE, Degraded
from serving.rollout.routing import Routing
from tests.serving.gateway.gateways import (
    PATIENT,
    SPEC,
    Gated,
    Models,
    Say,
    asynchronous,
    eventually,
    fails,
    gateway,
    numeric,
    says,
    served,
    transaction,
)

# Every card is with the candidate, or none is.
ALL = Routing(0, served(1), served(2), weight=1.0)
NONE = replace(ALL, weight=0.0)


def two(first: Say, second: Say) -> Models:
    return Models({1: first, 2: second}, {"stable": 1, "canary": 2})


@pytest.mark.parametrize(
    ("say", "cause"),
    [
        (fails(grpc.StatusCode.UNAVAILABLE), Degraded.MODEL_UNAVAILABLE),
        (fails(grpc.StatusCode.CANCELLED), Degraded.MODEL_UNAVAILABLE),
        (fails(grpc.StatusCode.NOT_FOUND), Degraded.MODEL_UNAVAILABLE),
        (fails(grpc.StatusCode.FAILED_PRECONDITION), Degraded.MODEL_UNAVAILABLE),
        (fails(grpc.StatusCode.DEADLINE_EXCEEDED), Degraded.MODEL_LATE),
        (fails(grpc.StatusCode.INTERNAL), Degraded.MODEL_FAILED),
        (fails(grpc.StatusCode.INVALID_ARGUMENT), Degraded.MODEL_FAILED),
        (says(float("nan")), Degraded.MODEL_FAILED),
        (says(1.5), Degraded.MODEL_FAILED),
        (says(-0.5), Degraded.MODEL_FAILED),
    ],
)
def test_without_a_score_the_rules_decide_alone_and_the_decision_says_why(
    say: Say, cause: Degraded.Cause, tmp_path: Path
) -> None:
    @asynchronous
    async def scenario() -> None:
        async with gateway(tmp_path, models=Models({1: say}, {"stable": 1})) as running:
            decision = await running.score()
            assert (decision.outcome, decision.arm) == (PASS, STABLE)
            assert not decision.HasField("model")
            assert not decision.HasField("score")
            assert (decision.degraded.cause, decision.degraded.fallback) == (cause, Degraded.RULES_ALONE)
            assert decision.degraded.detail
            assert running.log.tally(Arm.STABLE, 0).failures == 1

    scenario()


@asynchronous
async def test_as_many_scores_as_rows_or_none_counts(tmp_path: Path) -> None:
    models = Models({1: says(0.1)}, {"stable": 1}, rows=lambda rows: rows + 1)
    async with gateway(tmp_path, models=models) as running:
        decision = await running.score()
        assert decision.degraded.cause == Degraded.MODEL_FAILED
        assert "2 scores for 1 rows" in decision.degraded.detail


@asynchronous
async def test_a_model_server_that_is_gone_is_asked_again_when_it_is_back(tmp_path: Path) -> None:
    say: dict[int, Say] = {}
    async with gateway(tmp_path, models=Models(say, {"stable": 1})) as running:
        assert (await running.score()).degraded.cause == Degraded.MODEL_UNAVAILABLE
        say[1] = says(0.1)
        assert not (await running.score()).HasField("degraded")


@asynchronous
async def test_a_model_that_is_late_is_not_waited_for(tmp_path: Path) -> None:
    gated = Gated(0.1)
    settings = replace(PATIENT, model_deadline_s=0.05)
    async with gateway(tmp_path, models=Models({1: gated}, {"stable": 1}), settings=settings) as running:
        decision = await running.score()
        assert (decision.degraded.cause, decision.degraded.fallback) == (Degraded.MODEL_LATE, Degraded.RULES_ALONE)


@asynchronous
async def test_a_callers_deadline_bounds_the_model_too(tmp_path: Path) -> None:
    gated = Gated(0.1)
    settings = replace(PATIENT, reserve_s=19.5)  # of twenty seconds, half a one is for the model and all before it
    async with gateway(tmp_path, models=Models({1: gated}, {"stable": 1}), settings=settings) as running:
        decision = await running.stub.Score(transaction(), timeout=20)
        assert decision.degraded.cause == Degraded.MODEL_LATE


@asynchronous
async def test_the_card_decides_on_the_arm_and_the_answer_says_which_version(tmp_path: Path) -> None:
    async with gateway(tmp_path, ALL, two(says(0.1), says(0.6))) as running:
        decision = await running.score(transaction_id="a")
        assert (decision.arm, decision.model.version, decision.outcome) == (CANARY, 2, REVIEW)
        assert decision.score == pytest.approx(0.6)
        assert list(decision.reason_codes) == ["SCORE_REVIEW"]
        assert running.models.asked() == ["canary"]
        await running.route(NONE)
        decision = await running.score()
        assert (decision.arm, decision.model.version, decision.generation) == (STABLE, 1, 2)
        tally = running.log.tally(Arm.CANARY, 0)
        assert (tally.decisions, tally.failures) == (1, 0)
        assert tally.latency_ms


@asynchronous
async def test_stable_stands_in_for_a_candidate_that_fails(tmp_path: Path) -> None:
    async with gateway(tmp_path, ALL, two(says(0.95), fails(grpc.StatusCode.INTERNAL))) as running:
        decision = await running.score()
        assert (decision.arm, decision.model.version, decision.outcome) == (STABLE, 1, BLOCK)
        assert decision.degraded.cause == Degraded.MODEL_FAILED
        assert decision.degraded.fallback == Degraded.STABLE_MODEL
        tally = running.log.tally(Arm.CANARY, 0)
        assert (tally.decisions, tally.failures, dict(tally.latency_ms)) == (1, 1, {})


@asynchronous
async def test_the_rules_stand_in_for_both_and_the_first_cause_is_told(tmp_path: Path) -> None:
    models = two(fails(grpc.StatusCode.UNAVAILABLE), fails(grpc.StatusCode.INTERNAL))
    async with gateway(tmp_path, ALL, models) as running:
        degraded = (await running.score()).degraded
        assert (degraded.cause, degraded.fallback) == (Degraded.MODEL_FAILED, Degraded.RULES_ALONE)
        assert "INTERNAL" in degraded.detail
        assert "then stable: the model server said UNAVAILABLE" in degraded.detail


@asynchronous
async def test_before_the_first_promotion_the_rules_decide_and_nothing_is_degraded(tmp_path: Path) -> None:
    async with gateway(tmp_path, Routing(0)) as running:
        decision = await running.score()
        assert (decision.outcome, decision.arm) == (PASS, STABLE)
        assert not decision.HasField("model")
        assert not decision.HasField("degraded")
        assert running.models.requests == []
        assert running.log.tally(Arm.STABLE, 0).failures == 0


@asynchronous
async def test_the_answer_and_not_the_label_says_who_decided(tmp_path: Path) -> None:
    models = Models({1: says(0.1), 2: says(0.6)}, {"stable": 2, "canary": 2})
    async with gateway(tmp_path, replace(NONE, stable=served(1), candidate=served(2, review=0.7)), models) as running:
        decision = await running.score(transaction_id="a")
        assert (decision.arm, decision.model.version) == (CANARY, 2)
        assert decision.outcome == PASS  # by the thresholds of version 2
        kept = running.log.tally(Arm.STABLE, 0)
        assert kept.decisions == 1  # routed to stable all the same


@asynchronous
async def test_a_label_may_move_before_the_gateway_has_read_the_new_generation(tmp_path: Path) -> None:
    settings = replace(PATIENT, poll_s=PATIENT.grace_s)  # it does not look by itself
    async with gateway(tmp_path, settings=settings) as running:
        running.models.say[2] = says(0.6)
        running.models.labels["stable"] = 2
        running.table.publish(Routing(0, served(2, review=0.7)))
        decision = await running.score()
        assert (decision.arm, decision.model.version, decision.outcome) == (STABLE, 2, PASS)
        assert not decision.HasField("degraded")


@asynchronous
async def test_a_version_that_nobody_knows_has_not_answered(tmp_path: Path) -> None:
    models = Models({7: says(0.1)}, {"stable": 7})
    async with gateway(tmp_path, models=models) as running:
        degraded = (await running.score()).degraded
        assert degraded.cause == Degraded.MODEL_FAILED
        assert "version 7" in degraded.detail


@asynchronous
async def test_a_version_whose_label_is_gone_is_asked_by_its_number(tmp_path: Path) -> None:
    async with gateway(tmp_path, models=Models({1: says(0.1)}, {})) as running:
        decision = await running.score()
        assert decision.model.version == 1
        assert not decision.HasField("degraded")
        assert running.models.asked() == ["stable", "1"]


@asynchronous
async def test_a_transaction_is_decided_under_the_generation_in_which_it_came(tmp_path: Path) -> None:
    gated = Gated(0.6)
    async with gateway(tmp_path, ALL, two(says(0.1), gated)) as running:
        early = asyncio.create_task(running.score())
        await eventually(lambda: gated.entered == 1)
        await running.route(replace(NONE, candidate=served(2, review=None, block=None)))
        late = await running.score()
        gated.let_go()
        decision = await early
        assert (decision.generation, decision.arm, decision.outcome) == (1, CANARY, REVIEW)
        assert (late.generation, late.arm, late.outcome) == (2, STABLE, PASS)


@asynchronous
async def test_versions_with_other_inputs_get_theirs(tmp_path: Path) -> None:
    fewer = FeatureSpec(SPEC.row_inputs[:1], SPEC.features[:2], ())
    async with gateway(tmp_path, replace(ALL, candidate=served(2, spec=fewer)), two(says(0.1), says(0.2))) as running:
        await running.score()
        decision = await running.score(amount_minor=77)
        assert decision.model.version == 2
        # amount, payments of the card within an hour and a day
        assert numeric(running.models.requests[-1][1]).tolist() == [[77.0, 1.0, 1.0]]
        # An answer of one to the other's inputs would be nonsense.
        running.models.labels["canary"] = 1
        decision = await running.score()
        assert decision.degraded.cause == Degraded.MODEL_FAILED
        assert "inputs of version 2" in decision.degraded.detail
        assert decision.model.version == 1


@asynchronous
async def test_a_version_whose_inputs_cannot_be_computed_is_not_asked(tmp_path: Path) -> None:
    odd = FeatureSpec(SPEC.row_inputs, (Feature("card", "sum", column="amount_minor"),), ())
    async with gateway(tmp_path, Routing(0, served(1, spec=odd))) as running:
        degraded = (await running.score()).degraded
        assert (degraded.cause, degraded.fallback) == (Degraded.MODEL_FAILED, Degraded.RULES_ALONE)
        assert "card_id_amount_minor_sum_30d" in degraded.detail
        assert running.models.requests == []
        assert running.metric("fraudops_gateway_unusable", version="1") == 1


@asynchronous
async def test_a_table_that_does_not_answer_leaves_the_last_routing_in_force(tmp_path: Path) -> None:
    async with gateway(tmp_path) as running:
        running.table.close()
        assert (await running.score()).model.version == 1
