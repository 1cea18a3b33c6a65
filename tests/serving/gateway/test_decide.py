"""Outcome and reasons, from a score, thresholds and rules."""

from __future__ import annotations

import pytest

from schemas.decision import Outcome
from schemas.thresholds import Thresholds
from serving.gateway.decide import by_model, by_nobody, reached
from serving.rules import Condition, Rule

THRESHOLDS = Thresholds(0.5, 0.9, 0.01, 0.5)


def rule(action: Outcome, reason: str) -> Rule:
    return Rule(reason.lower(), action, reason, Condition("amount_minor", ">", 0))


REVIEWS, BLOCKS = rule(Outcome.REVIEW, "NEW_PLACE"), rule(Outcome.BLOCK, "PROBING")


@pytest.mark.parametrize(
    ("score", "outcome", "reasons"),
    [
        (0.0, Outcome.PASS, ()),
        (0.4999, Outcome.PASS, ()),
        (0.5, Outcome.REVIEW, ("SCORE_REVIEW",)),
        (0.8999, Outcome.REVIEW, ("SCORE_REVIEW",)),
        (0.9, Outcome.BLOCK, ("SCORE_BLOCK",)),
        (1.0, Outcome.BLOCK, ("SCORE_BLOCK",)),
    ],
)
def test_a_score_reaches_its_thresholds(score: float, outcome: Outcome, reasons: tuple[str, ...]) -> None:
    verdict = by_model(reached(score, THRESHOLDS), ())
    assert (verdict.outcome, verdict.reasons) == (outcome, reasons)


def test_a_threshold_that_was_not_found_is_never_reached() -> None:
    assert reached(1.0, Thresholds(0.5, None, 0.01, 0.5)) is Outcome.REVIEW
    assert reached(1.0, Thresholds(None, None, 0.01, 0.5)) is Outcome.PASS


@pytest.mark.parametrize(
    ("score", "hits", "outcome", "reasons"),
    [
        (0.1, (REVIEWS,), Outcome.REVIEW, ("NEW_PLACE",)),
        (0.6, (REVIEWS,), Outcome.REVIEW, ("SCORE_REVIEW", "NEW_PLACE")),
        (0.6, (REVIEWS, BLOCKS), Outcome.BLOCK, ("PROBING", "SCORE_REVIEW", "NEW_PLACE")),
        (0.95, (REVIEWS, BLOCKS), Outcome.BLOCK, ("SCORE_BLOCK", "PROBING", "NEW_PLACE")),
    ],
)
def test_the_stricter_of_model_and_rules_decides_and_speaks_first(
    score: float, hits: tuple[Rule, ...], outcome: Outcome, reasons: tuple[str, ...]
) -> None:
    verdict = by_model(reached(score, THRESHOLDS), hits)
    assert (verdict.outcome, verdict.reasons) == (outcome, reasons)


def test_a_reason_is_given_once() -> None:
    assert by_model(Outcome.PASS, (REVIEWS, REVIEWS, rule(Outcome.BLOCK, "NEW_PLACE"))).reasons == ("NEW_PLACE",)


def test_the_models_own_reasons_follow_that_of_its_score() -> None:
    why = ("MODEL_AMOUNT", "MODEL_DEVICE")
    assert by_model(Outcome.BLOCK, (REVIEWS,), why).reasons == ("SCORE_BLOCK", *why, "NEW_PLACE")
    assert by_model(Outcome.REVIEW, (REVIEWS, BLOCKS), why).reasons == ("PROBING", "SCORE_REVIEW", *why, "NEW_PLACE")


def test_rules_alone_let_pass_what_none_holds_on() -> None:
    assert by_model(Outcome.PASS, ()).outcome is Outcome.PASS


def test_when_nobody_can_tell_it_is_a_review_unless_a_rule_blocks() -> None:
    assert by_nobody(()).outcome is Outcome.REVIEW
    assert by_nobody(()).reasons == ("NO_MODEL",)
    assert by_nobody((BLOCKS,)).outcome is Outcome.BLOCK
    assert by_nobody((BLOCKS,)).reasons == ("PROBING", "NO_MODEL")
