"""The gateway from call to decision log, with models that do as they are told."""

from __future__ import annotations

from pathlib import Path

from schemas.scoring_pb2 import PASS, STABLE
from tests.serving.gateway.gateways import asynchronous, gateway


@asynchronous
async def test_a_transaction_gets_the_decision_of_the_stable_version(tmp_path: Path) -> None:
    async with gateway(tmp_path) as running:
        decision = await running.score(transaction_id="a")
        assert (decision.transaction_id, decision.outcome, decision.arm) == ("a", PASS, STABLE)
        assert decision.model.version == 1
        assert not decision.HasField("degraded")
        kept = running.log.find("a")
        assert kept is not None
        assert kept.decision == decision
