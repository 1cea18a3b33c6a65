"""Routing: who decides for which card."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from schemas import sources
from schemas.bundle import Bundle
from schemas.decision import Arm
from schemas.errors import ArtifactError
from schemas.features import specify
from schemas.thresholds import Thresholds
from serving.rollout.routing import Routing, Served, position

BUNDLE = Bundle(specify(sources.load("handbook").provided), Thresholds(0.2, 0.9, 0.01, 0.5), "rules", 1)
STABLE, CANDIDATE = Served(3, BUNDLE), Served(4, BUNDLE)
CARDS = [f"c{number}" for number in range(100_000)]


def routing(weight: float, salt: str = "4-1") -> Routing:
    return Routing(7, STABLE, CANDIDATE, weight, shadow=True, salt=salt)


def canaries(weight: float, salt: str = "4-1") -> set[str]:
    table = routing(weight, salt)
    return {card for card in CARDS if table.arm(card) is Arm.CANARY}


def test_the_share_of_cards_is_the_weight_and_no_card_goes_back_while_it_grows():
    before: set[str] = set()
    for weight in (0.0, 0.01, 0.05, 0.25, 0.5, 1.0):
        now = canaries(weight)
        assert abs(len(now) / len(CARDS) - weight) < 0.01
        assert before <= now
        before = now


def test_another_rollout_puts_other_cards_first():
    first, second = canaries(0.05), canaries(0.05, "5-2")
    # Of 5 % drawn twice independently, 5 % of the first are in the second.
    assert 0.03 < len(first & second) / len(first) < 0.07


def test_without_a_candidate_every_card_is_with_stable():
    assert {replace(routing(0.5), candidate=None).arm(card) for card in CARDS[:100]} == {Arm.STABLE}


def test_positions_are_fixed_for_good():
    # `printf "4-1\0c0" | b2sum -l 64`: a gateway of tomorrow has to send a card where one of today sends it.
    assert position("4-1", "c0") == 0x82DBFE594715ED7F / 2**64
    assert all(0 <= position("", card) < 1 for card in ("", "ä", "k1_x"))


def test_the_versions_that_take_part_are_found_by_number():
    assert routing(0.5).served(3) is STABLE
    assert routing(0.5).served(4) is CANDIDATE
    assert routing(0.5).served(5) is None
    assert Routing(0).served(3) is None


@pytest.mark.parametrize("table", [Routing(0), routing(0.25), replace(routing(0.0), stable=None)])
def test_a_routing_survives_json(table: Routing):
    assert Routing.from_json(table.to_json()) == table


@pytest.mark.parametrize("text", ["", "[]", "{}", json.dumps({**json.loads(routing(0.5).to_json()), "weights": 1})])
def test_what_is_no_routing_is_refused(text: str):
    with pytest.raises(ArtifactError, match="generation of the rollout table"):
        Routing.from_json(text)
