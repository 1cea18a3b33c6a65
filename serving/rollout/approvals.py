"""Which versions may serve: what the registry says now, beside what was seen before.

The registry keeps no history of a version's tags.  So every approval is remembered by a digest of its fields: one that
was taken back and is put back as it was, signature included, is no new decision and does not count.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from schemas.approval import APPROVED, Approval, ApproversKey, obstacles, read, unfinished
from schemas.errors import ApprovalError
from schemas.versions import Version
from serving.rollout.situation import Situation
from serving.rollout.table import Decision


@dataclass(frozen=True)
class Standing:
    """How a version stands.

    Attributes:
        digest: of its SavedModel, as registered; empty where that is not recorded.
        decided: who decided what about it, and why, as the end of a sentence.
        obstacles: why it may not serve, as sentences; none where it may.
        hold: why no rollout of it begins although it may serve; empty where one may.
    """

    version: int
    digest: str
    decided: str
    obstacles: tuple[str, ...]
    hold: str


@dataclass(frozen=True)
class Review:
    """All versions, and what is to be remembered and told of them.

    Attributes:
        standings: by version.
        decisions: new, or otherwise than they were remembered.
        notices: (version, sentence): approvals that do not count, each told once.
    """

    standings: Mapping[int, Standing]
    decisions: tuple[Decision, ...]
    notices: tuple[tuple[int, str], ...]


def review(versions: Iterable[Version], remembered: Iterable[Decision], key: ApproversKey | None) -> Review:
    """How each version stands.

    Args:
        versions: as the registry tells of them now.
        remembered: every approval that was seen before.
        key: where given, approvals have to be signed under it.
    """
    known: dict[int, dict[str, Decision]] = {}
    for decision in remembered:
        known.setdefault(decision.version, {})[decision.decision] = decision
    standings: dict[int, Standing] = {}
    changed: list[Decision] = []
    notices: list[tuple[int, str]] = []
    for version in versions:
        standing, decisions, notice = _review(version, known.get(version.version, {}), key)
        standings[version.version] = standing
        changed += decisions
        notices += [(version.version, notice)] if notice else []
    return Review(standings, tuple(changed), tuple(notices))


def candidate(standings: Mapping[int, Standing], situation: Situation) -> Standing | None:
    """The version to roll out next: the newest that may serve, and is newer than the one that does."""
    floor = situation.stable.version if situation.stable else 0
    running = situation.running.version if situation.running else 0
    able = [
        standing
        for standing in standings.values()
        if standing.version > floor and standing.version != running and not standing.obstacles and not standing.hold
    ]
    return max(able, key=lambda standing: standing.version, default=None)


def refused(decisions: Iterable[Decision], version: int, reason: str) -> tuple[Decision, ...]:
    """The approvals of a version, remembered as those under which it is not tried again."""
    return tuple(
        replace(decision, refused=reason)
        for decision in decisions
        if decision.version == version and not decision.refused
    )


def _review(
    version: Version, known: Mapping[str, Decision], key: ApproversKey | None
) -> tuple[Standing, list[Decision], str]:
    """How a version stands, what to remember, and what to tell."""
    number, tags = version.version, version.tags
    found = list(obstacles(tags, number, key))
    try:
        approval = read(tags)
    except ApprovalError:  # which is an obstacle
        approval = Approval("pending")
    digest = tags.get("digest.saved_model", "")
    decided = f"{approval.state} by {approval.by}" + (f" because {approval.reason!r}" if approval.reason else "")
    if not digest:
        found.append(f"version {number} has no tag digest.saved_model, so nothing says which bytes were approved")
    if unfinished(tags):
        hold = f"a decision about version {number} was begun and is not finished; take it again"
        return Standing(number, digest, decided, tuple(found), hold), [], ""
    told, hold, name = "", "", ""
    if approval.state == APPROVED:
        name = _digest(number, approval)
        now = known.get(name, Decision(number, name))
        if not now.standing:
            found.append(
                f"version {number} carries an approval by {approval.by} that was taken back or replaced before; "
                "approve it again, with `fraudops models approve` and for a reason of its own"
            )
        hold = now.refused
        told = "; ".join(found)
        after = {**known, name: replace(now, told=told)}
        told = told if told != now.told else ""
    else:
        after = dict(known)
    for other, decision in after.items():
        if other != name and decision.standing:
            after[other] = replace(decision, standing=False)
    changed = [decision for other, decision in after.items() if decision != known.get(other)]
    return Standing(number, digest, decided, tuple(found), hold), changed, told


def _digest(version: int, approval: Approval) -> str:
    """SHA-256 of a decision, all its fields included."""
    fields = [version, approval.state, approval.by, approval.reason, approval.time, approval.signature]
    return hashlib.sha256(json.dumps(fields, separators=(",", ":")).encode()).hexdigest()
