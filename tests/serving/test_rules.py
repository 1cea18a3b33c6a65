"""Rules: what a condition means, what a file may say, and what the rules that ship do."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from schemas.decision import Outcome, strictest
from schemas.errors import ConfigurationError
from schemas.reasons import REASONS
from serving.rules import FIELDS, RuleSet, load, parse

AMOUNT, CHANNEL = "amount_base_minor", "channel"


def rules(*whens: Any, **changes: Any) -> str:
    """A YAML file with one rule for each condition."""
    made = [
        {"name": f"rule {number}", "action": "REVIEW", "reason": "LARGE_AMOUNT", "when": when} | changes
        for number, when in enumerate(whens)
    ]
    return yaml.safe_dump({"rules": made})


def holds(when: Any, **values: float | str | None) -> bool:
    return bool(parse(rules(when), "here").hits(values))


@pytest.mark.parametrize(
    ("operator", "below", "at", "above"),
    [
        (">", False, False, True),
        (">=", False, True, True),
        ("<", True, False, False),
        ("<=", True, True, False),
        ("==", False, True, False),
    ],
)
def test_numbers_compare(operator: str, below: bool, at: bool, above: bool) -> None:
    when = {"field": AMOUNT, operator: 100}
    assert [holds(when, amount_base_minor=amount) for amount in (99, 100, 100.5)] == [below, at, above]


def test_text_is_equal_or_one_of_several() -> None:
    assert holds({"field": CHANNEL, "==": "atm"}, channel="atm")
    assert not holds({"field": CHANNEL, "==": "atm"}, channel="ATM")
    assert holds({"field": CHANNEL, "in": ["chip", "atm"]}, channel="atm")
    assert not holds({"field": CHANNEL, "in": ["chip", "atm"]}, channel="at")
    assert holds({"field": "card_id_count_1h", "in": [1, 2]}, card_id_count_1h=2.0)


@pytest.mark.parametrize("missing", [{}, {AMOUNT: None, CHANNEL: None}, {AMOUNT: math.nan, CHANNEL: ""}])
def test_nothing_is_known_of_a_missing_value(missing: dict[str, Any]) -> None:
    for operator in (">", ">=", "<", "<=", "=="):
        assert not holds({"field": AMOUNT, operator: 0}, **missing)
    assert not holds({"field": CHANNEL, "==": "atm"}, **missing)
    assert not holds({"field": CHANNEL, "in": ["atm"]}, **missing)
    for field in (AMOUNT, CHANNEL):
        assert holds({"field": field, "is_missing": True}, **missing)
        assert not holds({"field": field, "is_missing": False}, **missing)


def test_zero_is_not_missing() -> None:
    assert holds({"field": AMOUNT, "==": 0}, amount_base_minor=0)
    assert holds({"field": AMOUNT, "is_missing": False}, amount_base_minor=0)


def test_all_and_any_nest() -> None:
    large, at_night, online = (
        {"field": AMOUNT, ">": 100},
        {"field": "second_of_day", "<": 6 * 3600},
        {"field": CHANNEL, "==": "online"},
    )
    when = {"all": [large, {"any": [at_night, online]}]}
    assert holds(when, amount_base_minor=101, second_of_day=0)
    assert holds(when, amount_base_minor=101, channel="online")
    assert not holds(when, amount_base_minor=101, second_of_day=7 * 3600, channel="chip")
    assert not holds(when, amount_base_minor=100, channel="online")


def test_every_rule_that_holds_is_a_hit_in_the_order_of_the_file() -> None:
    made = parse(rules({"field": AMOUNT, ">": 10}, {"field": AMOUNT, ">": 1000}, {"field": AMOUNT, ">": 0}), "here")
    assert [rule.name for rule in made.hits({AMOUNT: 100})] == ["rule 0", "rule 2"]
    assert made.fields == {AMOUNT}


def test_the_strictest_action_decides() -> None:
    assert strictest([]) is Outcome.PASS
    assert strictest([Outcome.REVIEW, Outcome.BLOCK, Outcome.PASS]) is Outcome.BLOCK


def test_no_rules_are_rules() -> None:
    none = parse("rules: []", "here")
    assert (none.hits({AMOUNT: 1}), none.fields) == ((), frozenset())


def test_the_digest_is_of_what_rules_mean_and_not_of_how_they_are_written() -> None:
    one = parse(rules({"field": AMOUNT, ">": 3}), "here")
    same = parse("# a comment\n" + rules({">": 3.0, "field": AMOUNT}), "there")
    assert one.digest == same.digest
    others = (
        rules({"field": AMOUNT, ">": 4}),
        rules({"field": AMOUNT, ">=": 3}),
        rules({"field": AMOUNT, ">": 3}, action="BLOCK"),
        rules({"field": AMOUNT, ">": 3}, reason="PROBING"),
        rules({"field": AMOUNT, ">": 3}, name="another"),
        rules({"field": AMOUNT, ">": 3}, {"field": AMOUNT, ">": 4}),
        rules({"any": [{"field": AMOUNT, ">": 3}]}),
        rules({"all": [{"field": AMOUNT, ">": 3}]}),
        "rules: []",
    )
    assert len({one.digest, *(parse(other, "here").digest for other in others)}) == len(others) + 1


@pytest.mark.parametrize(
    ("when", "told"),
    [
        ({"field": "amuont", ">": 1}, "field 'amuont' is unknown"),
        ({"field": ["a"], ">": 1}, r"field \['a'\] is unknown"),
        ({"field": "is_fraud", "is_missing": True}, "field 'is_fraud' is unknown"),
        ({"field": "label_time", ">": 1}, "field 'label_time' is unknown"),
        ({"field": "card_id_amount_base_minor_recent_16", ">": 1}, "with one value"),
        ({"field": AMOUNT, "=": 1}, f"field '{AMOUNT}': operator '=' is unknown; use one of >, >="),
        ({"field": CHANNEL, ">": "a"}, f"field '{CHANNEL}': it holds text, which > cannot compare"),
        ({"field": CHANNEL, "==": 3}, f"field '{CHANNEL}': the value 3 is not text; put it in quotes"),
        ({"field": "country", "in": ["SE", False]}, "field 'country': the value False is not text"),
        ({"field": AMOUNT, ">": "100"}, f"field '{AMOUNT}': the value '100' is not a number"),
        ({"field": AMOUNT, ">": True}, "the value True is not a number"),
        ({"field": AMOUNT, ">": math.nan}, "the value nan is not a number"),
        ({"field": AMOUNT, "in": []}, r"in is \[\]; give it a list of one or more values"),
        ({"field": AMOUNT, "in": 5}, "in is 5; give it a list"),
        ({"field": AMOUNT, "is_missing": "no"}, "is_missing is 'no'; use true or false"),
        ({"field": AMOUNT, ">": 1, "<": 9}, "is no condition"),
        ({"field": AMOUNT}, "is no condition"),
        ({">": 1, "<": 9}, "is no condition"),
        ("amount > 1", "is no condition"),
        (None, "is no condition"),
        ({"all": []}, r"all holds \[\]; give it a list of one or more conditions"),
        ({"any": {"field": AMOUNT, ">": 1}}, "any holds .* give it a list"),
        ({"all": [{"any": [{"field": "x", ">": 1}]}]}, "field 'x' is unknown"),
    ],
)
def test_a_wrong_condition_is_named_with_its_rule(when: Any, told: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^rules.yaml: rule 'rule 0'.*{told}"):
        parse(rules(when), "rules.yaml")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "write one key, `rules`"),
        ("rules: {}", "write one key, `rules`"),
        ("rules: []\nrule: []", "write one key, `rules`"),
        ("rules: [", "not YAML"),
        ("rules: [{}]", "rule 1 has no name"),
        ("rules: [5]", "rule 1 has no name"),
        (rules({"field": AMOUNT, ">": 1}, name=7), "rule 1 has no name"),
        (rules({"field": AMOUNT, ">": 1}, action="PASS"), "action is 'PASS'; use REVIEW or BLOCK"),
        (rules({"field": AMOUNT, ">": 1}, reason="SUSPICIOUS"), "reason 'SUSPICIOUS' is not one of SCORE_REVIEW"),
        (rules({"field": AMOUNT, ">": 1}, reason=["PROBING"]), r"reason \['PROBING'\] is not one of"),
        (rules({"field": AMOUNT, ">": 1}, note="x"), "missing or unknown: note; a rule has name, action"),
        ("rules: [{name: a, action: BLOCK}]", "missing or unknown: reason, when"),
        (rules({"field": AMOUNT, ">": 1}, {"field": AMOUNT, ">": 2}, name="a"), "two rules are named 'a'"),
        ("rules:\n- {name: a, name: b, action: BLOCK, reason: PROBING, when: {}}", "key 'name' is there twice"),
        ("rules:\n- {name: a, action: BLOCK, reason: PROBING, when: &x {all: [*x]}}", "rule 1 is nested too deeply"),
    ],
)
def test_a_wrong_file_is_refused_and_says_where(text: str, told: str) -> None:
    with pytest.raises(ConfigurationError, match=f"(?s)^rules.yaml: .*{told}"):
        parse(text, "rules.yaml")


def test_rules_are_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load(file)
    file.write_text(rules({"field": AMOUNT, ">": 1}))
    assert load(file).rules[0].name == "rule 0"
    file.write_bytes(b"\xff")
    with pytest.raises(ConfigurationError, match="UTF-8"):
        load(file)


SHIPPED: RuleSet = load()
# What any card does: none of the rules has anything to say.
ORDINARY: dict[str, float | str | None] = {
    field: "chip" if field == "channel" else None if text else 0.0 for field, text in FIELDS.items()
}


def outcome(**values: float | str) -> Outcome:
    return strictest(rule.action for rule in SHIPPED.hits({**ORDINARY, **values}))


def test_the_rules_that_ship_let_ordinary_and_unknown_transactions_pass() -> None:
    assert outcome() is Outcome.PASS
    assert SHIPPED.hits({}) == ()


def test_the_rules_that_ship_see_what_they_are_named_for() -> None:
    travel = {"card_id_speed_km_per_h_since_last": 2500.0, "card_id_distance_km_since_last": 5000.0}
    assert outcome(**travel) is Outcome.PASS
    assert outcome(**travel, card_id_city_first_seen=1.0) is Outcome.BLOCK
    assert outcome(**travel, card_id_city_first_seen=1.0, channel="online") is Outcome.PASS
    assert outcome(**travel, card_id_country_first_seen=1.0, channel="online") is Outcome.REVIEW
    assert outcome(card_id_probe_count_1h=2.0, amount_base_minor=9_999) is Outcome.PASS
    assert outcome(card_id_probe_count_1h=2.0, amount_base_minor=10_000) is Outcome.REVIEW
    new_device = {"card_id_device_id_first_seen": 1.0, "card_id_merchant_id_first_seen": 1.0}
    assert outcome(**new_device, amount_base_minor=40_000, card_id_count_30d=4.0) is Outcome.PASS
    assert outcome(**new_device, amount_base_minor=40_000, card_id_count_30d=5.0) is Outcome.REVIEW
    assert outcome(device_id_fraud_count_30d=1.0, device_id_fraud_rate_30d=0.3) is Outcome.REVIEW
    assert outcome(device_id_fraud_count_30d=2.0, device_id_fraud_rate_30d=0.6) is Outcome.BLOCK
    assert outcome(card_id_count_1h=10.0) is Outcome.REVIEW


def test_the_reasons_of_the_rules_that_ship_are_words_of_the_vocabulary() -> None:
    assert {rule.reason for rule in SHIPPED.rules} <= REASONS.keys()
