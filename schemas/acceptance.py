"""Acceptances: a person's word that training may go on although a check stops it, and how a registry keeps it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

from schemas.approval import decider, one_line, reason_of
from schemas.errors import ConfigurationError

# The checks whose stops a person may accept.
INGEST = "ingest"
# What our own gate says of a model.
MODEL = "model"
CHECKS: tuple[str, ...] = (INGEST, "schema", "expectations", "drift", MODEL)
# What the evaluator says of a model.
EVALUATION = "evaluation"

TAG = "accepted."  # and a number from 1 on
_MAX_SUBJECT = 200


@dataclass(frozen=True)
class Acceptance:
    """What a person accepts.

    Attributes:
        check: whose stops.
        reason: why.
        by: who says so.
        subject: what the stop is about; None for all that the check stops for.
        at: when, ISO 8601 in UTC to the second; empty until a gate applies it, where nobody wrote it down.

    Raises:
        ConfigurationError: there is no such check, its stops cannot be accepted, or a text is empty, too long or of
            several lines.
    """

    check: str
    reason: str
    by: str
    subject: str | None = None
    at: str = ""

    def __post_init__(self) -> None:
        if self.check == EVALUATION:
            raise ConfigurationError(
                f"the check {EVALUATION!r} cannot be accepted: a model that the evaluator refuses is not registered; "
                "train a better one, or set another bound in the configuration (evaluation)"
            )
        if self.check not in CHECKS:
            raise ConfigurationError(f"there is no check {self.check!r} to accept; checks are {', '.join(CHECKS)}")
        object.__setattr__(self, "reason", reason_of("an acceptance", self.reason))
        object.__setattr__(self, "by", decider("an acceptance", self.by))
        if self.subject is not None:
            object.__setattr__(self, "subject", one_line("subject", "an acceptance", self.subject, _MAX_SUBJECT))
        if self.at:
            object.__setattr__(self, "at", _second(_instant(self.at)))

    @property
    def name(self) -> str:
        """The check, and behind a colon the subject, where there is one."""
        return name_of(self.check, self.subject)

    def covers(self, check: str, subject: str) -> bool:
        """Whether it is about what a check says of a subject."""
        return self.check == check and self.subject in (None, subject)

    def applied(self, at: datetime) -> Acceptance:
        """It, with this time where it has none."""
        return self if self.at else replace(self, at=_second(at))


def name_of(check: str, subject: str | None) -> str:
    """How people name a check, or what it says of one subject."""
    return check if subject is None else f"{check}:{subject}"


def read(text: str, by: str) -> Acceptance:
    """What a person writes as `CHECK=REASON` or `CHECK:SUBJECT=REASON`.

    Raises:
        ConfigurationError: it is neither, or an acceptance that there cannot be.
    """
    name, equals, reason = text.partition("=")
    check, colon, subject = name.partition(":")
    if not equals:
        raise ConfigurationError(f"acceptance {text!r} gives no reason; write CHECK=REASON or CHECK:SUBJECT=REASON")
    return Acceptance(check.strip(), reason, by, subject if colon else None)


def refuse_repeated(acceptances: Iterable[Acceptance]) -> None:
    """One thing is accepted once, so that there is one reason for it.

    Raises:
        ConfigurationError: two are about the same.
    """
    names = [one.name for one in acceptances]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigurationError(f"{', '.join(repeated)} is accepted more than once; give one reason")


def to_tags(acceptances: Iterable[Acceptance]) -> dict[str, str]:
    """The tags that a run or a version carries: a JSON object each, in the order given."""
    return {
        f"{TAG}{number}": json.dumps(asdict(one), ensure_ascii=False) for number, one in enumerate(acceptances, start=1)
    }


def from_tags(tags: Mapping[str, str]) -> tuple[Acceptance, ...]:
    """Reads back `to_tags`, whatever other tags there are.

    Raises:
        ConfigurationError: one of them was changed by hand and is no acceptance any more.
    """
    found = []
    for tag in sorted((tag for tag in tags if tag.startswith(TAG)), key=lambda tag: (len(tag), tag)):
        try:
            found.append(Acceptance(**json.loads(tags[tag])))
        except (ValueError, TypeError, AttributeError, ConfigurationError) as error:
            raise ConfigurationError(f"tag {tag} is {tags[tag][:80]!r}, which is no acceptance: {error}") from error
    return tuple(found)


def _instant(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except (ValueError, TypeError):
        raise ConfigurationError(f"the time {text!r} of an acceptance is not ISO 8601; leave it out") from None


def _second(time: datetime) -> str:
    """ISO 8601 in UTC to the second; a time without a zone is UTC."""
    aware = time if time.tzinfo else time.replace(tzinfo=UTC)
    return aware.astimezone(UTC).isoformat(timespec="seconds")
