"""The model's own reasons in a decision: when they are asked for, and what a decision says without them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from schemas.errors import ConfigurationError
from schemas.reasons import packed_reasons
from schemas.scoring_pb2 import BLOCK, CANARY, PASS, REVIEW
from serving.gateway.settings import Settings
from serving.rollout.routing import Routing
from tests.serving.gateway.gateways import (
    BOUND_S,
    PATIENT,
    SPEC,
    Models,
    asynchronous,
    eventually,
    fails,
    gateway,
    says,
    served,
)

CODES = packed_reasons(SPEC)
EXPLAINING = replace(PATIENT, explain_deadline_s=BOUND_S)
Explain = Callable[[], Awaitable[list[float]]]


def weighing(**weights: float) -> Explain:
    """Attributions that give each code its weight, at the first input that speaks under it."""

    async def explain() -> list[float]:
        attributions = [0.0] * len(CODES)
        for code, weight in weights.items():
            attributions[CODES.index(code)] = weight
        return attributions

    return explain


def attributing(values: Sequence[float]) -> Explain:
    async def explain() -> list[float]:
        return list(values)

    return explain


def models(score: float, explain: Explain | None = None) -> Models:
    return Models({1: says(score)}, {"stable": 1}, explain=explain)


WEIGHTS = {"MODEL_DEVICE": 1.0, "MODEL_AMOUNT": 3.0, "MODEL_TIME": -2.0, "MODEL_CHANNEL": 0.1}


@pytest.mark.parametrize(("score", "outcome", "first"), [(0.6, REVIEW, "SCORE_REVIEW"), (0.95, BLOCK, "SCORE_BLOCK")])
def test_a_score_that_does_not_let_pass_is_explained(score: float, outcome: int, first: str, tmp_path: Path) -> None:
    @asynchronous
    async def scenario() -> None:
        async with gateway(tmp_path, models=models(score, weighing(**WEIGHTS)), settings=EXPLAINING) as running:
            decision = await running.score(transaction_id="a")
            assert decision.outcome == outcome
            assert list(decision.reason_codes) == [first, "MODEL_AMOUNT", "MODEL_DEVICE"]
            assert not decision.unexplained
            assert running.models.explained == [1]
            kept = running.log.find("a")
            assert kept is not None and kept.decision == decision

    scenario()


@asynchronous
async def test_a_score_that_lets_pass_is_not_asked_about(tmp_path: Path) -> None:
    async with gateway(tmp_path, models=models(0.1, weighing(**WEIGHTS)), settings=EXPLAINING) as running:
        decision = await running.score()
        assert (decision.outcome, list(decision.reason_codes), decision.unexplained) == (PASS, [], "")
        assert running.models.explained == []


@asynchronous
async def test_the_version_that_scored_explains_whatever_label_it_has(tmp_path: Path) -> None:
    two = Models({1: says(0.1), 2: says(0.6)}, {"stable": 1, "canary": 2}, explain=weighing(**WEIGHTS))
    routing = Routing(0, served(1), served(2), weight=1.0)
    async with gateway(tmp_path, routing, two, EXPLAINING) as running:
        decision = await running.score()
        assert (decision.arm, decision.outcome, running.models.explained) == (CANARY, REVIEW, [2])


@pytest.mark.parametrize(
    ("explain", "cause", "detail"),
    [
        (None, "MODEL_UNAVAILABLE", 'FAILED_PRECONDITION: Serving signature key "explain" not found.'),
        (attributing([1.0]), "MODEL_FAILED", "1 attributions, 1 of them finite"),
        (attributing([float("nan")] * len(CODES)), "MODEL_FAILED", "0 of them finite"),
    ],
)
def test_a_decision_stands_without_reasons_that_cannot_be_had(
    explain: Explain | None, cause: str, detail: str, tmp_path: Path
) -> None:
    @asynchronous
    async def scenario() -> None:
        async with gateway(tmp_path, models=models(0.6, explain), settings=EXPLAINING) as running:
            decision = await running.score()
            assert (decision.outcome, list(decision.reason_codes)) == (REVIEW, ["SCORE_REVIEW"])
            assert detail in decision.unexplained
            assert not decision.HasField("degraded")
            unexplained = "fraudops_gateway_unexplained_total"
            assert await asyncio.to_thread(running.metric, unexplained, version="1", cause=cause) == 1

    scenario()


class Waiting:
    """Attributions that do not come before they are let go."""

    def __init__(self) -> None:
        self.entered = 0
        self.gone = asyncio.Event()

    async def __call__(self) -> list[float]:
        self.entered += 1
        await self.gone.wait()
        return [1.0] * len(CODES)


@asynchronous
async def test_reasons_that_come_late_are_not_waited_for(tmp_path: Path) -> None:
    waiting = Waiting()
    settings = replace(EXPLAINING, explain_deadline_s=0.01)
    async with gateway(tmp_path, models=models(0.6, waiting), settings=settings) as running:
        decision = await running.score()
        assert (decision.outcome, list(decision.reason_codes)) == (REVIEW, ["SCORE_REVIEW"])
        assert decision.unexplained
        waiting.gone.set()


@asynchronous
async def test_of_more_than_may_wait_the_rest_go_without(tmp_path: Path) -> None:
    waiting = Waiting()
    async with gateway(tmp_path, models=models(0.6, waiting), settings=replace(EXPLAINING, max_explained=1)) as running:
        first = asyncio.create_task(running.score(card_id="first"))
        await eventually(lambda: waiting.entered == 1)
        second = await running.score(card_id="second")
        assert "too many others" in second.unexplained
        waiting.gone.set()
        explained = await first
        assert not explained.unexplained and len(explained.reason_codes) == 4
        third = await running.score(card_id="third")
        assert not third.unexplained


@asynchronous
async def test_where_no_model_scored_there_is_nothing_to_explain(tmp_path: Path) -> None:
    broken = Models({1: fails(grpc.StatusCode.INTERNAL)}, {"stable": 1}, explain=weighing(**WEIGHTS))
    async with gateway(tmp_path, models=broken, settings=EXPLAINING) as running:
        decision = await running.score()
        assert decision.HasField("degraded") and not decision.unexplained
        assert running.models.explained == []


def test_no_time_at_all_for_reasons_is_no_setting() -> None:
    with pytest.raises(ConfigurationError, match="explain_deadline_s"):
        Settings("", explain_deadline_s=0)
