"""The approval of a model version: what its tags say, which decisions may follow, and signatures of who decided.

    from                 decision    to
    pending              approve     approved
    pending              reject      rejected
    approved             revoke      revoked
    rejected, revoked    approve     approved, for a reason of its own

A decision is a handful of tags, and the tag `approval` is the last of them to be written.  `approval.decision` repeats
its value: where the two differ, somebody changed `approval` alone, as MLflow's pages do, and the other tags speak of
another decision.  MLflow does not say who that was, so it counts as `ui:unauthenticated`.  Whoever can write to the
registry can write all tags; only a signature proves more.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, cast, get_args

from schemas.errors import ApprovalError, ConfigurationError
from schemas.keys import fingerprint, read_secret

State = Literal["pending", "approved", "rejected", "revoked"]
PENDING: State = "pending"
APPROVED: State = "approved"
REJECTED: State = "rejected"
REVOKED: State = "revoked"

UNAUTHENTICATED = "ui:unauthenticated"

STATE_TAG = "approval"
DECISION_TAG = "approval.decision"
BY_TAG = "approval.by"
REASON_TAG = "approval.reason"
TIME_TAG = "approval.time"
SIGNATURE_TAG = "approval.signature"
GATE_TAG = "gate"
GATE_PASSED = "passed"
GATE_FAILED = "failed"

_UNFINISHED = "unfinished"  # of `approval.decision` while the tags beside it are being written
MAX_REASON = 1_000
MAX_NAME = 200

# The states from which each decision may be taken.
_FROM: dict[State, tuple[State, ...]] = {
    APPROVED: (PENDING, REJECTED, REVOKED),
    REJECTED: (PENDING,),
    REVOKED: (APPROVED,),
}
_INSTEAD: dict[tuple[State, State], str] = {
    (APPROVED, REJECTED): "revoke it",
    (REVOKED, REJECTED): "a revoked version does not serve, so leave it as it is",
    (PENDING, REVOKED): "reject it",
    (REJECTED, REVOKED): "a rejected version does not serve, so leave it as it is",
}


@dataclass(frozen=True)
class Approval:
    """What stands about a version.

    Attributes:
        state: `pending` until somebody decides.
        by: who decided; `ui:unauthenticated` where nobody knows; empty while pending.
        reason: why, in the words of who decided.
        time: when, ISO 8601 in UTC to the second; empty where it is not known.
        signature: see `sign`; empty where it was not signed.
    """

    state: State
    by: str = ""
    reason: str = ""
    time: str = ""
    signature: str = ""

    def writes(self) -> tuple[tuple[str, str], ...]:
        """The tags of a decision, in the order in which they are to be written; one with an empty value is removed.

        Each is a write of its own, and the process may die between any two: until the last, whoever reads sees a
        decision by nobody known in the state that stood before.
        """
        return (
            (DECISION_TAG, _UNFINISHED),
            (BY_TAG, self.by),
            (REASON_TAG, self.reason),
            (TIME_TAG, self.time),
            (SIGNATURE_TAG, self.signature),
            (DECISION_TAG, self.state),
            (STATE_TAG, self.state),
        )


@dataclass(frozen=True)
class ApproversKey:
    """The secret under which approvers sign; whoever holds it can decide, and nobody else."""

    secret: bytes = field(repr=False)

    @property
    def fingerprint(self) -> str:
        """Names the key without revealing it."""
        return fingerprint(self.secret, "approvers' key")


def read_approvers_key(path: Path) -> ApproversKey:
    """Reads the key from a file that only its owner can read.

    Raises:
        ConfigurationError: the file is absent, open to others, or too short.
    """
    return ApproversKey(read_secret(path, "approvers' key"))


def read(tags: Mapping[str, str]) -> Approval:
    """What the tags of a version say; without any, it is pending.

    Raises:
        ApprovalError: the tag `approval` has a value that is no state.
    """
    state = tags.get(STATE_TAG, PENDING)
    if state not in get_args(State):
        raise ApprovalError(f"tag {STATE_TAG} is {state!r}; set it to one of {', '.join(get_args(State))}")
    if state == PENDING:
        return Approval(PENDING)
    if tags.get(DECISION_TAG) != state or not tags.get(BY_TAG):
        # A reason without a recorded decision was written by the same hand; with another decision, it is that one's.
        return Approval(cast(State, state), UNAUTHENTICATED, "" if DECISION_TAG in tags else tags.get(REASON_TAG, ""))
    return Approval(
        cast(State, state),
        tags[BY_TAG],
        tags.get(REASON_TAG, ""),
        tags.get(TIME_TAG, ""),
        tags.get(SIGNATURE_TAG, ""),
    )


def unfinished(tags: Mapping[str, str]) -> bool:
    """Whether somebody began to write a decision and has not finished: the tags are of no decision yet."""
    return tags.get(DECISION_TAG) == _UNFINISHED


def decide(
    state: State,
    tags: Mapping[str, str],
    *,
    version: int,
    by: str,
    reason: str,
    time: datetime,
    key: ApproversKey | None = None,
) -> Approval:
    """What stands after somebody approves, rejects or revokes a version; what stood before, where that says the same.

    The same decision with the same reason again changes nothing, whoever takes it, unless it is now signed or named for
    the first time.

    Args:
        state: what is decided.
        tags: of the version, as they are.
        version: its number; signed.
        by: who decides; signed.
        reason: why; signed.
        time: now; signed.
        key: signs the decision; without one it stays unsigned.

    Raises:
        ConfigurationError: the name or the reason is empty or too long.
        ApprovalError: the decision does not follow from what stands, or the gate did not pass.
    """
    by, reason = decider("a decision", by), reason_of("a decision", reason)
    standing = read(tags)
    gate = tags.get(GATE_TAG)
    if state == APPROVED and gate != GATE_PASSED:
        raise ApprovalError(
            f"version {version} cannot be approved: its gate says {gate or 'nothing'}, not {GATE_PASSED}; "
            f"train a version that passes (`fraudops models show {version}` says what failed)"
        )
    if standing.state == state:
        better = standing.by == UNAUTHENTICATED or (key is not None and not verify(standing, tags, version, key))
        if not better:
            if standing.reason == reason:
                return standing
            raise ApprovalError(
                f"version {version} is {state} already, by {standing.by} because {standing.reason!r}; "
                "nothing was changed, so take that decision back first if the reason is to be another"
            )
    elif standing.state not in _FROM[state]:
        raise ApprovalError(
            f"version {version} is {standing.state} and cannot become {state}; {_INSTEAD[standing.state, state]}"
        )
    elif standing.state != PENDING and reason == standing.reason:
        raise ApprovalError(
            f"version {version} was {standing.state} because {reason!r}; the same words cannot be the reason why it is "
            f"now {state}, so say what has changed"
        )
    made = Approval(state, by, reason, time.astimezone(UTC).isoformat(timespec="seconds"))
    return replace(made, signature=sign(made, tags, version, key)) if key else made


def sign(approval: Approval, tags: Mapping[str, str], version: int, key: ApproversKey) -> str:
    """The signature of a decision: the key's fingerprint, a colon, and 64 hexadecimal digits.

    These are HMAC-SHA-256 (RFC 2104) over the UTF-8 bytes of a JSON array without spaces, of the words `fraudops
    approval 1`, the version's number, its tag `digest.saved_model`, and state, by, reason and time of the decision.

    Raises:
        ApprovalError: the version has no such tag.
    """
    digest = tags.get("digest.saved_model")
    if not digest:
        raise ApprovalError(f"version {version} has no tag digest.saved_model, so a signature would bind no model")
    signed = ["fraudops approval 1", version, digest, approval.state, approval.by, approval.reason, approval.time]
    message = json.dumps(signed, ensure_ascii=False, separators=(",", ":")).encode()
    return f"{key.fingerprint}:{hmac.new(key.secret, message, hashlib.sha256).hexdigest()}"


def verify(approval: Approval, tags: Mapping[str, str], version: int, key: ApproversKey) -> bool:
    """Whether a decision carries the signature that `key` gives it."""
    if not approval.signature or not tags.get("digest.saved_model"):
        return False
    return hmac.compare_digest(approval.signature.encode(), sign(approval, tags, version, key).encode())


def obstacles(tags: Mapping[str, str], version: int, key: ApproversKey | None = None) -> tuple[str, ...]:
    """Why a version may not serve, as sentences; none where it may.

    Args:
        tags: of the version.
        version: its number.
        key: where given, signatures are required and have to be under this key.
    """
    try:
        approval = read(tags)
    except ApprovalError as error:
        return (f"version {version}: {error}",)
    if approval.state != APPROVED:
        return (f"version {version} is {approval.state}, not {APPROVED}",)
    found = []
    if tags.get(GATE_TAG) != GATE_PASSED:
        found.append(f"the gate of version {version} says {tags.get(GATE_TAG) or 'nothing'}, not {GATE_PASSED}")
    if key is not None and not approval.signature:
        found.append(
            f"version {version} was approved by {approval.by} without a signature, and signatures are required; "
            "approve it with `fraudops models approve --key-file`"
        )
    elif key is not None and not verify(approval, tags, version, key):
        found.append(
            f"the signature of version {version}, approved by {approval.by}, is not that of the approvers' key "
            f"{key.fingerprint} over what its tags say; approve it again under that key"
        )
    return tuple(found)


def decider(of: str, name: str) -> str:
    """The name of a person who decides, without blanks around it.

    Args:
        of: what is decided, for messages.
        name: as it was given.

    Raises:
        ConfigurationError: it is empty, too long, of several lines, or kept for nobody known.
    """
    stripped = one_line("name", of, name, MAX_NAME)
    if stripped.startswith("ui:"):
        raise ConfigurationError(f"the name {stripped!r} is kept for decisions by nobody known; give one without `ui:`")
    return stripped


def reason_of(of: str, reason: str) -> str:
    """The reason of a person who decides, without blanks around it; see `decider`."""
    return one_line("reason", of, reason, MAX_REASON)


def one_line(what: str, of: str, value: str, limit: int) -> str:
    """Text on one line without blanks around it.

    Args:
        what: it is, and...
        of: ...of what, for messages.
        value: the text.
        limit: of its length in characters.

    Raises:
        ConfigurationError: it is empty, too long or of several lines.
    """
    stripped = value.strip()
    if not stripped or len(stripped) > limit or not stripped.isprintable():
        raise ConfigurationError(
            f"the {what} of {of} is {value[:40]!r} ({len(stripped)} characters); "
            f"give 1 to {limit:,} printable characters on one line"
        )
    return stripped
