"""A transaction from call to decision log: answers, duplicates, refusals, overload, and the end of a gateway."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from schemas import scoring_pb2
from schemas.decision import Arm, Outcome
from schemas.errors import ArtifactError, ConfigurationError
from schemas.scoring_pb2 import BLOCK, CONTROL, PASS, REVIEW, STABLE, Degraded
from schemas.scoring_pb2_grpc import ScoringStub
from serving import rules
from serving.decisions.record import Entry, ShadowEntry
from serving.features import Features
from serving.gateway.server import Parts
from serving.gateway.settings import Settings
from serving.rollout.routing import Routing
from tests.serving.gateway.gateways import (
    BOUND_S,
    PATIENT,
    Gated,
    Models,
    asynchronous,
    eventually,
    gateway,
    says,
    served,
    transaction,
)

RULES = rules.parse(
    """
    rules:
      - name: large
        action: BLOCK
        reason: LARGE_AMOUNT
        when: {field: amount_base_minor, ">=": 100000}
      - name: again
        action: REVIEW
        reason: MANY_PAYMENTS
        when: {field: card_id_count_1h, ">=": 2}
      - name: unknown-card
        action: BLOCK
        reason: NEW_DEVICE
        when: {field: card_id_count_1h, is_missing: true}
    """,
    "the test's rules",
)


class Wrapped:
    """A part with something else in the place of some methods."""

    def __init__(self, part: Any, **methods: Any) -> None:
        self._part = part
        self.__dict__.update(methods)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._part, name)


@asynchronous
async def test_a_decision_says_all_that_it_rests_on_and_is_in_the_log(tmp_path: Path) -> None:
    async with gateway(tmp_path, rule_set=RULES) as running:
        for _ in range(2):
            await running.score(event_time=1_700_000_000_000_000, card_id="c")
        decision = await running.score(
            transaction_id="a", event_time=1_700_000_001_000_000, card_id="c", amount_minor=100_000, device_id="d"
        )
        assert decision.transaction_id == "a"
        assert decision.outcome == BLOCK
        assert list(decision.reason_codes) == ["LARGE_AMOUNT", "MANY_PAYMENTS"]
        assert [(hit.rule, hit.action) for hit in decision.rule_hits] == [("large", BLOCK), ("again", REVIEW)]
        assert (decision.model.name, decision.model.version, decision.arm) == ("fraud", 1, STABLE)
        assert decision.score == pytest.approx(0.1)
        assert decision.generation == 1
        assert {"country", "card_id_distance_km_since_last"} < set(decision.missing_features)
        assert "device_id_count_1h" not in decision.missing_features
        assert "card_id_amount_base_minor_recent_16" not in decision.missing_features  # one of its values is there
        kept = running.log.find("a")
        assert kept is not None
        assert kept.decision == decision
        assert kept.transaction["amount_base_minor"] == 100_000
        assert kept.features is not None


@asynchronous
async def test_the_same_transaction_again_gets_the_decision_that_stands(tmp_path: Path) -> None:
    message = transaction()
    async with gateway(tmp_path) as running:
        first = await running.score(message)
        assert await running.score(message) == first
        assert len(running.models.requests) == 1
    (tmp_path / "features.sqlite").unlink()  # a store recognises it only for a while
    async with gateway(tmp_path) as restarted:
        assert await restarted.score(message) == first
        assert restarted.log.count() == 1


@asynchronous
async def test_the_same_transaction_at_the_same_time_is_decided_once(tmp_path: Path) -> None:
    gated = Gated(0.1)
    message = transaction()
    async with gateway(tmp_path, models=Models({1: gated}, {"stable": 1})) as running:
        calls = [asyncio.create_task(running.score(message)) for _ in range(3)]
        await eventually(lambda: gated.entered == 1)
        other = scoring_pb2.Transaction()
        other.CopyFrom(message)
        other.amount_minor += 1
        code, _, field = await running.refused(running.stub.Score, other)
        assert (code, field) == (grpc.StatusCode.ALREADY_EXISTS, "transaction_id")
        gated.let_go()
        first, *others = await asyncio.gather(*calls)
        assert others == [first, first]
        assert gated.entered == 1


@asynchronous
async def test_an_id_that_belongs_to_another_transaction_is_refused(tmp_path: Path) -> None:
    async with gateway(tmp_path) as running:
        await running.score(transaction_id="a")
        code, message, field = await running.refused(running.stub.Score, transaction(transaction_id="a", card_id="b"))
        assert (code, field) == (grpc.StatusCode.ALREADY_EXISTS, "transaction_id")
        assert "'a'" in message
        assert running.log.count() == 1


@asynchronous
async def test_of_two_gateways_the_first_decision_in_the_log_stands(tmp_path: Path) -> None:
    gated = Gated(0.95)
    message = transaction()
    other = transaction(transaction_id=message.transaction_id, card_id="another")
    async with (
        gateway(tmp_path, models=Models({1: gated}, {"stable": 1})) as slow,
        gateway(tmp_path, settings=replace(PATIENT, model_name="fraud")) as fast,
    ):
        late = asyncio.create_task(slow.score(message))
        late_other = asyncio.create_task(slow.refused(slow.stub.Score, transaction(transaction_id="b")))
        await eventually(lambda: slow.metric("fraudops_gateway_in_work") == 2 and gated.entered > 0)
        first = await fast.score(message)
        await fast.score(transaction(transaction_id="b", card_id="another"))
        gated.let_go()
        assert (await late).outcome == first.outcome == PASS
        assert (await late_other)[0] == grpc.StatusCode.ALREADY_EXISTS
        assert slow.log.count() == 2
        assert (await slow.refused(slow.stub.Score, other))[0] == grpc.StatusCode.ALREADY_EXISTS


@asynchronous
async def test_bad_input_is_refused_and_the_field_is_named(tmp_path: Path) -> None:
    async with gateway(tmp_path) as running:
        for field, message in {
            "merchant_id": transaction(merchant_id=None),
            "amount_minor": transaction(amount_minor=-1),
            "currency": transaction(currency="XXQ"),
        }.items():
            code, text, named = await running.refused(running.stub.Score, message)
            assert (code, named) == (grpc.StatusCode.INVALID_ARGUMENT, field)
            assert field in text
        assert running.log.count() == 0


@asynchronous
async def test_a_stream_answers_each_batch_and_refuses_transactions_one_by_one(tmp_path: Path) -> None:
    async with gateway(tmp_path) as running:
        await running.score(transaction_id="known")
        batches = [
            scoring_pb2.ScoreBatch(batch_id=7, transactions=[transaction(transaction_id=f"s{n}") for n in range(40)]),
            scoring_pb2.ScoreBatch(
                batch_id=8,
                transactions=[
                    transaction(transaction_id="bad", amount_minor=None),
                    transaction(transaction_id="known", card_id="another"),
                    transaction(transaction_id="good"),
                ],
            ),
            scoring_pb2.ScoreBatch(batch_id=9),
        ]
        answers = {answer.batch_id: answer async for answer in running.stub.ScoreStream(iter(batches), timeout=BOUND_S)}
        assert sorted(answers) == [7, 8, 9]
        assert [one.decision.transaction_id for one in answers[7].results] == [f"s{n}" for n in range(40)]
        bad, known, good = answers[8].results
        assert (bad.refusal.transaction_id, bad.refusal.field) == ("bad", "amount_minor")
        assert known.refusal.field == "transaction_id"
        assert good.decision.transaction_id == "good"
        assert len(running.models.requests) < 20  # they went together


@asynchronous
async def test_a_batch_without_measure_is_refused(tmp_path: Path) -> None:
    async with gateway(tmp_path) as running:
        batch = scoring_pb2.ScoreBatch(batch_id=1, transactions=[scoring_pb2.Transaction()] * 1_001)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            [answer async for answer in running.stub.ScoreStream(iter([batch]), timeout=BOUND_S)]
        assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT


@asynchronous
async def test_when_too_much_waits_calls_are_refused_and_streams_wait(tmp_path: Path) -> None:
    gated = Gated(0.1)
    settings = replace(PATIENT, max_waiting=2)
    async with gateway(tmp_path, models=Models({1: gated}, {"stable": 1}), settings=settings) as running:
        calls = [asyncio.create_task(running.score()) for _ in range(2)]
        await eventually(lambda: running.metric("fraudops_gateway_in_work") == 2)
        assert (await running.refused(running.stub.Score, transaction()))[0] == grpc.StatusCode.RESOURCE_EXHAUSTED
        batch = scoring_pb2.ScoreBatch(transactions=[transaction() for _ in range(5)])
        stream = running.stub.ScoreStream(iter([batch]), timeout=BOUND_S)
        answer = asyncio.ensure_future(stream.read())
        gated.let_go()
        await asyncio.gather(*calls)
        assert [one.HasField("decision") for one in (await answer).results] == [True] * 5


@asynchronous
async def test_what_nobody_waits_for_any_more_is_not_scored(tmp_path: Path) -> None:
    entered, leave = threading.Event(), threading.Event()

    def hold(part: Any) -> Any:
        def observe_all(transactions: Sequence[Mapping[str, Any]]) -> list[Features]:
            entered.set()
            assert leave.wait(BOUND_S)
            return list(part.observe_all(transactions))

        return Wrapped(part, observe_all=observe_all)

    async with gateway(tmp_path, change=lambda parts: replace(parts, store=hold(parts.store))) as running:
        started = transaction(transaction_id="started")
        leaving = asyncio.create_task(running.refused(running.stub.Score, started, timeout=BOUND_S))
        await eventually(entered.is_set)
        code, *_ = await running.refused(running.stub.Score, transaction(transaction_id="waiting"), timeout=0.05)
        assert code == grpc.StatusCode.DEADLINE_EXCEEDED
        leaving.cancel()
        leave.set()
        # What has reached the feature store is decided and logged though its caller has left.
        await eventually(lambda: running.log.find("started") is not None)
        await eventually(lambda: running.metric("fraudops_gateway_in_work") == 0)
        assert running.log.find("waiting") is None


def broken(part: Any, error: Exception) -> Any:
    def observe_all(transactions: Sequence[Mapping[str, Any]]) -> list[Features]:
        raise error

    return Wrapped(part, observe_all=observe_all)


@asynchronous
async def test_without_features_everything_is_reviewed(tmp_path: Path) -> None:
    def change(parts: Parts) -> Parts:
        return replace(parts, store=broken(parts.store, ArtifactError("the disk is gone")))

    async with gateway(tmp_path, rule_set=RULES, change=change) as running:
        decision = await running.score()
        assert decision.outcome == REVIEW
        assert list(decision.reason_codes) == ["NO_MODEL"]
        assert decision.degraded.cause == Degraded.FEATURES_UNAVAILABLE
        assert decision.degraded.fallback == Degraded.REVIEW_ALL
        assert "the disk is gone" in decision.degraded.detail
        # Rules that need no features still speak, and those that look for missing ones do not.
        decision = await running.score(amount_minor=100_000)
        assert (decision.outcome, list(decision.reason_codes)) == (BLOCK, ["LARGE_AMOUNT", "NO_MODEL"])
        assert running.models.requests == []
        assert running.log.count() == 2


@asynchronous
async def test_a_feature_store_that_hangs_is_not_waited_for(tmp_path: Path) -> None:
    leave = threading.Event()

    def change(parts: Parts) -> Parts:
        def observe_all(transactions: Sequence[Mapping[str, Any]]) -> list[Features]:
            assert leave.wait(BOUND_S)
            return parts.store.observe_all(transactions)

        return replace(parts, store=Wrapped(parts.store, observe_all=observe_all))

    async with gateway(tmp_path, settings=replace(PATIENT, features_deadline_s=0.05), change=change) as running:
        decision = await running.score()
        leave.set()
        assert decision.degraded.fallback == Degraded.REVIEW_ALL
        assert "50 ms" in decision.degraded.detail


@asynchronous
async def test_one_transaction_that_the_store_chokes_on_does_not_harm_its_neighbours(tmp_path: Path) -> None:
    def change(parts: Parts) -> Parts:
        def observe_all(transactions: Sequence[Mapping[str, Any]]) -> list[Features]:
            if any(one["card_id"] == "poison" for one in transactions):
                raise ValueError("poison")
            return parts.store.observe_all(transactions)

        return replace(parts, store=Wrapped(parts.store, observe_all=observe_all))

    async with gateway(tmp_path, change=change) as running:
        calls = [running.score(card_id=card) for card in ("a", "b", "poison", "c", "d")]
        decisions = await asyncio.gather(*calls)
        assert [one.HasField("degraded") for one in decisions] == [False, False, True, False, False]


@asynchronous
async def test_no_decision_is_acknowledged_that_is_not_in_the_log(tmp_path: Path) -> None:
    def change(parts: Parts) -> Parts:
        def append(entries: Sequence[Entry], shadows: Sequence[ShadowEntry] = ()) -> list[scoring_pb2.Decision]:
            raise ArtifactError("the disk is full")

        return replace(parts, log=Wrapped(parts.log, append=append))

    async with gateway(tmp_path, change=change) as running:
        code, message, _ = await running.refused(running.stub.Score, transaction())
        assert code == grpc.StatusCode.UNAVAILABLE
        assert "the disk is full" in message


@asynchronous
async def test_a_share_of_what_would_be_blocked_passes_as_control(tmp_path: Path) -> None:
    blocking = Models({1: says(0.95)}, {"stable": 1})
    settings = replace(PATIENT, control_share=0.25)
    async with gateway(tmp_path, models=blocking, settings=settings, chance=0.24) as running:
        decision = await running.score(transaction_id="a")
        assert (decision.outcome, decision.arm, decision.control_propensity) == (PASS, CONTROL, 0.25)
        assert list(decision.reason_codes) == ["SCORE_BLOCK"]
        assert decision.model.version == 1
        tally = running.log.tally(Arm.STABLE, 0)
        assert tally.outcomes[Outcome.BLOCK] == 1
    (tmp_path / "other").mkdir()
    async with gateway(tmp_path / "other", models=blocking, settings=settings, chance=0.25) as running:
        decision = await running.score()
        assert (decision.outcome, decision.arm) == (BLOCK, STABLE)
        assert not decision.HasField("control_propensity")


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"control share 1\.5"):
        Settings("", control_share=1.5)
    with pytest.raises(ConfigurationError, match="model_deadline_s"):
        Settings("", model_deadline_s=0)


@asynchronous
async def test_a_gateway_that_stops_answers_what_is_in_work_and_takes_nothing_more(tmp_path: Path) -> None:
    gated = Gated(0.1)
    context = gateway(tmp_path, models=Models({1: gated}, {"stable": 1}))
    running = await context.__aenter__()
    async with grpc.aio.insecure_channel(running.addresses.scoring) as channel:
        stub: Any = ScoringStub(channel)
        health: Any = health_pb2_grpc.HealthStub(channel)
        states = health.Watch(health_pb2.HealthCheckRequest(service="fraudops.scoring.v1.Scoring"), timeout=BOUND_S)
        assert (await states.read()).status == health_pb2.HealthCheckResponse.SERVING
        call = asyncio.ensure_future(stub.Score(transaction(transaction_id="call"), timeout=BOUND_S))
        stream = stub.ScoreStream(timeout=BOUND_S)
        await stream.write(scoring_pb2.ScoreBatch(transactions=[transaction(transaction_id="streamed")]))
        await eventually(lambda: running.metric("fraudops_gateway_in_work") == 2)
        stopping = asyncio.create_task(context.__aexit__(None, None, None))
        assert (await states.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        gated.let_go()
        assert (await call).transaction_id == "call"
        assert (await stream.read()).results[0].decision.transaction_id == "streamed"
        assert await stream.code() == grpc.StatusCode.UNAVAILABLE
        states.cancel()
        await stopping
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.Score(transaction(), timeout=BOUND_S)


@asynchronous
async def test_a_taken_port_is_named(tmp_path: Path) -> None:
    async with gateway(tmp_path) as running:
        (tmp_path / "second").mkdir()
        taken = [
            int(address.removesuffix("/metrics").rpartition(":")[2])
            for address in (running.addresses.scoring, running.addresses.metrics)
        ]
        for port, metrics_port in ((taken[0], 0), (0, taken[1])):
            settings = replace(PATIENT, port=port, metrics_port=metrics_port)
            with pytest.raises(ConfigurationError, match=str(port or metrics_port)):
                async with gateway(tmp_path / "second", settings=settings):
                    pass


@asynchronous
async def test_metrics_tell_calls_decisions_latency_features_and_generation(tmp_path: Path) -> None:
    routing = Routing(0, served(1, rules_digest="another"))
    async with gateway(tmp_path, routing) as running:
        for amount in (100, 300):
            await running.score(amount_minor=amount, card_id="c")
        await running.refused(running.stub.Score, transaction(card_id=None))
        metric = running.metric
        assert metric("fraudops_gateway_calls_total", method="Score", code="OK") == 2
        assert metric("fraudops_gateway_calls_total", method="Score", code="INVALID_ARGUMENT") == 1
        assert metric("fraudops_gateway_decisions_total", outcome="PASS", arm="STABLE", version="1") == 2
        assert metric("fraudops_gateway_decision_seconds_count", arm="STABLE", version="1") == 2
        assert metric("fraudops_gateway_model_seconds_count", arm="STABLE", version="1") == 2
        assert metric("fraudops_gateway_generation") == 1
        assert metric("fraudops_gateway_rules_differ", version="1") == 1
        assert metric("fraudops_gateway_batch_size_count", stage="log") == 2
        assert metric("fraudops_gateway_feature_window") == 2
        assert metric("fraudops_gateway_feature_mean", feature="amount_base_minor") == 200
        assert metric("fraudops_gateway_feature_missing_share", feature="device_id_count_1h") == 1
        assert metric("fraudops_gateway_feature_missing_share", feature="card_id_count_1h") == 0
        assert metric("fraudops_gateway_feature_mean", feature="card_id_amount_base_minor_recent_16[0]") == 100
        running.models.say.clear()
        await running.score()
        assert metric("fraudops_gateway_degraded_total", cause="MODEL_UNAVAILABLE", fallback="RULES_ALONE") == 1
