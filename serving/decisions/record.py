"""What the decision log keeps of one transaction, and how it is written: columns to ask by, and the whole beside."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from schemas import scoring_pb2
from schemas.decision import Arm, Outcome
from serving.features import Features

_WIDTH = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Entry:
    """A decision, and how it came about.

    Attributes:
        decision: as it was answered.
        transaction: its canonical columns, `card_id` as a token; what is None or NaN is missing.
        routed: the arm that the transaction was sent to, whatever decided in the end.
        intended: what the outcome would have been without a control group.
        features: what the feature store said, in its order; None where it could not be read.
        rules_digest: of the rule set that took part.
        decided_us: when, UTC microseconds since the Unix epoch.
        model_us: how long the model of the routed arm took, in microseconds; None where it was not asked.
        total_us: how long the whole decision took, in microseconds.
    """

    decision: scoring_pb2.Decision
    transaction: Mapping[str, Any]
    routed: Arm
    intended: Outcome
    features: Features | None
    rules_digest: str
    decided_us: int
    model_us: int | None
    total_us: int


@dataclass(frozen=True, slots=True)
class ShadowEntry:
    """What a candidate said aside of a transaction that somebody else decided.

    Attributes:
        decision_id: of the decision that stands for the transaction.
        version: the candidate.
        generation: of the rollout table under which it was asked.
        decided: what the decision was, without a control group.
        outcome: what the candidate's would have been; None where it failed.
        score: the candidate's.
        cause: name of the `Degraded.Cause` where it failed, else "".
        model_us: how long it took, in microseconds; None where that is not known.
    """

    decision_id: str
    version: int
    generation: int
    decided: Outcome
    outcome: Outcome | None
    score: float | None
    cause: str
    model_us: int | None


@dataclass(frozen=True, slots=True)
class Kept:
    """What the log holds of a transaction: the arguments of its `Entry`."""

    decision: scoring_pb2.Decision
    transaction: Mapping[str, Any]
    features: Features | None = None


def decision_row(entry: Entry) -> tuple[object, ...]:
    """The columns of a decision, in the order of the table.

    Raises:
        ValueError: the decision has no outcome or no arm.
    """
    decision, transaction = entry.decision, entry.transaction
    degraded = decision.degraded if decision.HasField("degraded") else None
    return (
        decision.decision_id,
        decision.transaction_id,
        entry.decided_us,
        transaction["event_time"],
        transaction["card_id"],
        transaction["merchant_id"],
        transaction["amount_base_minor"],
        entry.routed.name,
        Arm(decision.arm).name,
        decision.model.version if decision.HasField("model") else None,
        decision.generation,
        Outcome(decision.outcome).name,
        entry.intended.name,
        decision.score if decision.HasField("score") else None,
        degraded and scoring_pb2.Degraded.Cause.Name(degraded.cause),
        degraded and scoring_pb2.Degraded.Fallback.Name(degraded.fallback),
        entry.model_us,
        entry.total_us,
        entry.rules_digest,
        decision.SerializeToString(),
        pack_transaction(transaction),
        None if entry.features is None else pack_features(entry.features),
    )


def shadow_row(entry: ShadowEntry) -> tuple[object, ...]:
    """The columns of what a candidate said, in the order of the table."""
    return (
        entry.decision_id,
        entry.version,
        entry.generation,
        entry.decided.name,
        None if entry.outcome is None else entry.outcome.name,
        entry.score,
        entry.cause or None,
        entry.model_us,
    )


def kept(decision: bytes, transaction: str, features: bytes | None) -> Kept:
    """Reads back the last three columns of a decision."""
    return Kept(
        scoring_pb2.Decision.FromString(decision),
        unpack_transaction(transaction),
        None if features is None else unpack_features(features),
    )


def pack_transaction(transaction: Mapping[str, Any]) -> str:
    """A transaction as one JSON object, without what is missing: JSON has no NaN, and absent means the same."""
    there = {column: value for column, value in transaction.items() if value is not None and value == value}
    return orjson.dumps(there).decode()


def unpack_transaction(text: str) -> dict[str, Any]:
    """Reads back `pack_transaction`."""
    transaction: dict[str, Any] = orjson.loads(text)
    return transaction


def pack_features(features: Features) -> bytes:
    """How many numbers, as uint32, the numbers as float64, little endian, and the texts as a JSON array."""
    numbers = features.numbers
    return _WIDTH.pack(len(numbers)) + struct.pack(f"<{len(numbers)}d", *numbers) + orjson.dumps(features.texts)


def unpack_features(packed: bytes) -> Features:
    """Reads back `pack_features`."""
    (width,) = _WIDTH.unpack_from(packed)
    numbers = struct.unpack_from(f"<{width}d", packed, _WIDTH.size)
    return Features(numbers, tuple(orjson.loads(packed[_WIDTH.size + 8 * width :])))
