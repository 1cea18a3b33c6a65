"""Acceptances: what people write, what is refused, and what a registry keeps of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from schemas.acceptance import Acceptance, from_tags, read, refuse_repeated, to_tags
from schemas.errors import ConfigurationError

AT = datetime(2026, 3, 1, 12, 0, 30, 999, tzinfo=timezone(timedelta(hours=1)))


def test_a_check_with_a_subject_and_a_reason_is_read_as_it_is_written() -> None:
    assert read("drift:amount_base_minor=prices went up: 5 % = a lot", "m.keller") == Acceptance(
        "drift", "prices went up: 5 % = a lot", "m.keller", "amount_base_minor"
    )


def test_a_bare_check_covers_all_that_it_says_and_a_subject_only_itself() -> None:
    every, one = read("schema=known", "m"), read("schema:country=known", "m")
    assert every.covers("schema", "country") and every.covers("schema", "channel")
    assert one.covers("schema", "country") and not one.covers("schema", "channel")
    assert not every.covers("drift", "country")
    assert (every.name, one.name) == ("schema", "schema:country")


@pytest.mark.parametrize(
    "text, complaint",
    [
        ("drift", "gives no reason"),
        ("drift=", "the reason of an acceptance is ''"),
        ("drift=  ", "the reason of an acceptance is"),
        ("drift=two\nlines", "on one line"),
        ("drift=" + "x" * 1_001, "1001 characters"),
        ("drift:=why", "the subject of an acceptance"),
        ("drfit=why", "no check 'drfit' to accept; checks are ingest, schema, expectations, drift"),
        ("evaluation=why", "'evaluation' cannot be accepted"),
    ],
)
def test_what_is_no_acceptance_is_refused_and_said_why(text: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        read(text, "m.keller")
    assert complaint in str(error.value)


@pytest.mark.parametrize("by", ["", "ui:unauthenticated", "two\nlines"])
def test_nobody_accepts_without_a_name(by: str) -> None:
    with pytest.raises(ConfigurationError, match="name"):
        read("drift=why", by)


def test_one_thing_is_accepted_once() -> None:
    refuse_repeated([read("drift=a", "m"), read("drift:channel=b", "m")])
    with pytest.raises(ConfigurationError, match="drift:channel is accepted more than once"):
        refuse_repeated([read("drift:channel=a", "m"), read("drift:channel=b", "n")])


def test_the_time_is_that_of_whoever_applies_it_first_in_utc_to_the_second() -> None:
    applied = read("drift=why", "m").applied(AT)
    assert applied.at == "2026-03-01T11:00:30+00:00"
    assert applied.applied(datetime(2030, 1, 1, tzinfo=UTC)) == applied
    assert Acceptance("drift", "why", "m", at="2026-03-01T12:00:30+01:00") == applied
    with pytest.raises(ConfigurationError, match="'yesterday' of an acceptance is not ISO 8601"):
        Acceptance("drift", "why", "m", at="yesterday")


def test_tags_give_back_what_was_accepted_in_its_order() -> None:
    many = tuple(Acceptance("drift", f"grün {n}", "m", f"feature_{n}", "2026-03-01T11:00:30+00:00") for n in range(12))
    assert from_tags(to_tags(many) | {"gate": "passed", "digest.schema": "s"}) == many
    assert to_tags(()) == {} and from_tags({}) == ()


@pytest.mark.parametrize("value", ["", "[]", "{}", '{"check": "drift", "reason": "", "by": "m"}'])
def test_a_tag_that_was_changed_by_hand_is_named(value: str) -> None:
    with pytest.raises(ConfigurationError, match=r"tag accepted\.1 is"):
        from_tags({"accepted.1": value})
