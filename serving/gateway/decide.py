"""The decision: from a score, thresholds and rules to an outcome with its reasons."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from schemas.decision import Outcome, strictest
from schemas.thresholds import Thresholds
from serving.rules import Rule


@dataclass(frozen=True, slots=True)
class Verdict:
    """What ought to happen to a transaction, and the reason codes, the weightiest first."""

    outcome: Outcome
    reasons: tuple[str, ...]


def reached(score: float, thresholds: Thresholds) -> Outcome:
    """What a score asks for.

    Args:
        score: probability of fraud, in [0, 1].
    """
    if thresholds.block is not None and score >= thresholds.block:
        return Outcome.BLOCK
    if thresholds.review is not None and score >= thresholds.review:
        return Outcome.REVIEW
    return Outcome.PASS


def by_model(asked: Outcome, hits: Iterable[Rule], why: Sequence[str] = ()) -> Verdict:
    """The stricter of what the score and the rules ask for; where there is no score, what the rules do.

    Args:
        asked: by the score; PASS without one.
        why: the model's own reasons, the weightiest first.
    """
    if asked is Outcome.PASS:
        return _verdict([], hits)
    return _verdict([(asked, reason) for reason in (f"SCORE_{asked.name}", *why)], hits)


def by_nobody(hits: Iterable[Rule]) -> Verdict:
    """REVIEW, or what the few rules that can be asked without features ask for where that is stricter."""
    return _verdict([(Outcome.REVIEW, "NO_MODEL")], hits)


def _verdict(first: list[tuple[Outcome, str]], hits: Iterable[Rule]) -> Verdict:
    asked = [*first, *((rule.action, rule.reason) for rule in hits)]
    # Sorting is stable: of what is equally strict, the model speaks first and the rules in their order.
    ordered = sorted(asked, key=lambda one: one[0], reverse=True)
    return Verdict(strictest(outcome for outcome, _ in asked), tuple(dict.fromkeys(reason for _, reason in ordered)))
