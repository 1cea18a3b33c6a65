"""Outcomes go into the log, from there into the features, and none is lost between the two."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from schemas.errors import ArtifactError
from schemas.scoring_pb2 import OutcomeReport
from serving.decisions.log import DecisionLog
from serving.gateway.server import Parts
from tests.serving.gateway.gateways import BOUND_S, SPEC, Gateway, asynchronous, gateway

NOW = 1_700_000_000_000_000
SECOND = 1_000_000


async def report(running: Gateway, **fields: Any) -> bool:
    message = OutcomeReport(**{"transaction_id": "a", "is_fraud": True, "label_time": NOW + SECOND, **fields})
    return bool((await running.stub.ReportOutcome(message, timeout=BOUND_S)).recorded)


async def frauds_of_the_card(running: Gateway, transaction_id: str) -> float:
    """As the next payment of the card sees them."""
    await running.score(transaction_id=transaction_id, card_id="c", event_time=NOW + 2 * SECOND)
    kept = running.log.find(transaction_id)
    assert kept is not None
    assert kept.features is not None
    place = 0
    for declared in SPEC.numeric:
        if declared.name == "card_id_fraud_count_30d":
            break
        place += declared.width
    return kept.features.numbers[place]


@asynchronous
async def test_an_outcome_is_recorded_once_and_seen_by_the_next_payment(tmp_path: Path) -> None:
    async with gateway(tmp_path) as running:
        await running.score(transaction_id="a", card_id="c", event_time=NOW)
        assert await report(running, reported_by="someone")
        assert not await report(running)
        assert await frauds_of_the_card(running, "b") == 1
        assert running.log.pending_labels() == []
        assert running.metric("fraudops_gateway_labels_total", is_fraud="true") == 1


@asynchronous
async def test_without_a_time_an_outcome_is_known_from_now_on(tmp_path: Path) -> None:
    async with gateway(tmp_path) as running:
        before = time.time_ns() // 1_000
        await running.score(transaction_id="a", event_time=NOW)
        message = OutcomeReport(transaction_id="a", is_fraud=False)
        assert (await running.stub.ReportOutcome(message, timeout=BOUND_S)).recorded
        # So the other outcome cannot have been known before.
        code, *_ = await running.refused(
            running.stub.ReportOutcome, OutcomeReport(transaction_id="a", is_fraud=True, label_time=before)
        )
        assert code == grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"is_fraud": True}, "transaction_id"),
        ({"transaction_id": "a"}, "is_fraud"),
        ({"transaction_id": "a", "is_fraud": True, "label_time": -1}, "label_time"),
        ({"transaction_id": "a", "is_fraud": True, "label_time": NOW - 1}, "label_time"),
        ({"transaction_id": "a", "is_fraud": True, "label_time": 4_000_000_000_000_000}, "label_time"),
    ],
)
def test_a_report_that_cannot_be_true_is_refused_and_the_field_named(
    fields: Mapping[str, Any], field: str, tmp_path: Path
) -> None:
    @asynchronous
    async def scenario() -> None:
        async with gateway(tmp_path) as running:
            await running.score(transaction_id="a", event_time=NOW)
            code, message, named = await running.refused(running.stub.ReportOutcome, OutcomeReport(**fields))
            assert (code, named) == (grpc.StatusCode.INVALID_ARGUMENT, field)
            assert field in message

    scenario()


@asynchronous
async def test_the_outcome_of_a_transaction_that_was_never_scored_is_not_found(tmp_path: Path) -> None:
    async with gateway(tmp_path) as running:
        message = OutcomeReport(transaction_id="never", is_fraud=True)
        code, text, named = await running.refused(running.stub.ReportOutcome, message)
        assert (code, named) == (grpc.StatusCode.NOT_FOUND, "transaction_id")
        assert "'never'" in text


@asynchronous
async def test_an_outcome_that_a_death_kept_from_the_features_gets_there_with_the_next_start(tmp_path: Path) -> None:
    async with gateway(tmp_path) as running:
        await running.score(transaction_id="a", card_id="c", event_time=NOW)
    log = DecisionLog(tmp_path / "decisions.sqlite")
    log.report("a", True, NOW + SECOND, None, NOW + SECOND)  # and then the gateway died
    log.close()
    async with gateway(tmp_path) as running:
        assert running.log.pending_labels() == []
        assert await frauds_of_the_card(running, "b") == 1


@asynchronous
async def test_an_outcome_that_the_features_do_not_take_is_kept_until_they_do(tmp_path: Path) -> None:
    works: list[bool] = []

    class Store:
        def __init__(self, store: Any) -> None:
            self._store = store

        def __getattr__(self, name: str) -> Any:
            return getattr(self._store, name)

        def label(self, *label: Any) -> None:
            if not works:
                raise ArtifactError("the disk is full")
            self._store.label(*label)

    def change(parts: Parts) -> Parts:
        return replace(parts, store=Store(parts.store))

    async with gateway(tmp_path, change=change) as running:
        await running.score(transaction_id="a", card_id="c", event_time=NOW)
        assert await report(running)
        assert len(running.log.pending_labels()) == 1
        works.append(True)
        assert not await report(running)  # the same again, and it says nothing new
        assert running.log.pending_labels() == []
        assert await frauds_of_the_card(running, "b") == 1
