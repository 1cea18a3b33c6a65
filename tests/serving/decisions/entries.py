"""Entries of a decision log, and a process that appends some.

python -m tests.serving.decisions.entries LOG NAME COUNT BATCH [MAX_BYTES]

It appends the transactions t0, t1, ... in batches, and prints after each batch, per transaction, its id and that of
the decision that stands.  It begins when a line comes on standard input.  MAX_BYTES bounds the files that it may write,
as a full disk does; it then prints the error and ends.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path
from typing import Any

from schemas import scoring_pb2
from schemas.decision import Arm, Outcome
from schemas.errors import ArtifactError
from serving.decisions.log import DecisionLog
from serving.decisions.record import Entry, ShadowEntry
from serving.features import Features

SECOND_US = 1_000_000


def transaction(transaction_id: str, **columns: Any) -> dict[str, Any]:
    return {
        "transaction_id": transaction_id,
        "event_time": 10 * SECOND_US,
        "card_id": "k1_card",
        "merchant_id": "m",
        "amount_minor": 1_250,
        "amount_base_minor": 1_250,
    } | columns


def entry(
    transaction_id: str,
    *,
    decision_id: str | None = None,
    card_id: str = "k1_card",
    routed: Arm = Arm.STABLE,
    arm: Arm | None = None,
    version: int | None = 1,
    generation: int = 1,
    outcome: Outcome = Outcome.PASS,
    intended: Outcome | None = None,
    cause: str = "",
    model_us: int | None = 2_000,
    features: Features | None = None,
    **columns: Any,
) -> Entry:
    """An entry of which only what matters is said; a control passes whatever was intended."""
    decision = scoring_pb2.Decision(
        decision_id=decision_id or f"d-{transaction_id}",
        transaction_id=transaction_id,
        outcome=outcome.name,
        arm=(arm or routed).name,
        generation=generation,
    )
    if version is not None:
        decision.model.name, decision.model.version = "fraud", version
        decision.score = 0.25
    if cause:
        decision.degraded.MergeFrom(scoring_pb2.Degraded(cause=cause, fallback="RULES_ALONE"))
    return Entry(
        decision=decision,
        transaction=transaction(transaction_id, card_id=card_id, **columns),
        routed=routed,
        intended=outcome if intended is None else intended,
        features=features,
        rules_digest="f" * 64,
        decided_us=11 * SECOND_US,
        model_us=model_us,
        total_us=5_000,
    )


def shadow(
    decision_id: str,
    *,
    version: int = 2,
    generation: int = 1,
    decided: Outcome = Outcome.PASS,
    outcome: Outcome | None = Outcome.PASS,
    model_us: int | None = 2_000,
) -> ShadowEntry:
    failed = outcome is None
    return ShadowEntry(
        decision_id, version, generation, decided, outcome, None if failed else 0.5, "MODEL_LATE" * failed, model_us
    )


def main(path: str, name: str, count: str, batch: str, max_bytes: str = "-1") -> None:
    """Appends until there are enough, the disk is full, or somebody ends the process."""
    log = DecisionLog(Path(path))
    sys.stdin.readline()
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(max_bytes), int(max_bytes)))
    for begin in range(0, int(count), int(batch)):
        ids = [f"t{number}" for number in range(begin, begin + int(batch))]
        try:
            stands = log.append([entry(one, decision_id=f"{name}-{one}") for one in ids])
        except ArtifactError as error:
            print(error, flush=True)
            break
        print(*(f"{decision.transaction_id}={decision.decision_id}" for decision in stands), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
