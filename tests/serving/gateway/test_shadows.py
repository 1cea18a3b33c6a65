"""What a candidate says aside is evidence in the log, and nobody waits for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import grpc

from schemas.decision import Arm, Outcome
from schemas.scoring_pb2 import PASS
from serving.rollout.routing import Routing
from tests.serving.gateway.gateways import (
    PATIENT,
    Gated,
    Models,
    asynchronous,
    eventually,
    fails,
    gateway,
    says,
    served,
)

SHADOW = Routing(0, served(1), served(2), shadow=True)


@asynchronous
async def test_the_answer_does_not_wait_for_what_the_candidate_says_aside(tmp_path: Path) -> None:
    gated = Gated(0.95)
    models = Models({1: says(0.1), 2: gated}, {"stable": 1, "canary": 2})
    async with gateway(tmp_path, SHADOW, models) as running:
        decision = await running.score()
        assert (decision.outcome, decision.model.version) == (PASS, 1)
        assert running.log.shadow_tally(2, 0).asked == 0
        gated.let_go()
        await eventually(lambda: running.log.shadow_tally(2, 0).asked == 1)
        tally = running.log.shadow_tally(2, 0)
        assert tally.outcomes == {(Outcome.PASS, Outcome.BLOCK): 1}
        assert tally.failures == 0
        assert tally.latency_ms
        asked = {"version": "2", "decided": "PASS", "outcome": "BLOCK"}
        assert running.metric("fraudops_gateway_shadow_outcomes_total", **asked) == 1


@asynchronous
async def test_a_candidate_that_fails_aside_is_on_record_and_harms_nobody(tmp_path: Path) -> None:
    models = Models({1: says(0.1), 2: fails(grpc.StatusCode.INTERNAL)}, {"stable": 1, "canary": 2})
    async with gateway(tmp_path, SHADOW, models) as running:
        assert not (await running.score()).HasField("degraded")
        await eventually(lambda: running.log.shadow_tally(2, 0).asked == 1)
        assert running.log.shadow_tally(2, 0).failures == 1
        assert running.metric("fraudops_gateway_shadow_failures_total", cause="MODEL_FAILED") == 1


@asynchronous
async def test_another_version_cannot_speak_for_the_candidate(tmp_path: Path) -> None:
    models = Models({1: says(0.1)}, {"stable": 1, "canary": 1})
    async with gateway(tmp_path, SHADOW, models) as running:
        await running.score()
        await eventually(lambda: running.log.shadow_tally(2, 0).asked == 1)
        assert running.log.shadow_tally(2, 0).failures == 1


@asynchronous
async def test_what_the_candidate_decides_is_not_asked_twice(tmp_path: Path) -> None:
    models = Models({1: says(0.1), 2: says(0.1)}, {"stable": 1, "canary": 2})
    async with gateway(tmp_path, replace(SHADOW, weight=1.0), models) as running:
        await running.score()
        assert running.models.asked() == ["canary"]
    assert running.models.asked() == ["canary"]  # nor at the end, when all that waits aside is done


@asynchronous
async def test_beside_the_rules_alone_a_candidate_is_heard_too(tmp_path: Path) -> None:
    models = Models({2: says(0.6)}, {"canary": 2})
    async with gateway(tmp_path, replace(SHADOW, stable=None), models) as running:
        decision = await running.score()
        assert not decision.HasField("model")
        await eventually(lambda: running.log.shadow_tally(2, 0).asked == 1)
        assert running.log.shadow_tally(2, 0).outcomes == {(Outcome.PASS, Outcome.REVIEW): 1}
        assert running.log.tally(Arm.STABLE, 0).failures == 0


@asynchronous
async def test_when_too_many_wait_aside_the_rest_go_without_and_are_counted(tmp_path: Path) -> None:
    gated = Gated(0.1)
    models = Models({1: says(0.1), 2: gated}, {"stable": 1, "canary": 2})
    async with gateway(tmp_path, SHADOW, models, settings=replace(PATIENT, max_shadows=2)) as running:
        for _ in range(5):
            await running.score()
        assert running.metric("fraudops_gateway_shadows_dropped_total") == 3
        gated.let_go()
        await eventually(lambda: running.log.shadow_tally(2, 0).asked == 2)
