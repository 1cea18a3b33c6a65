"""Which decisions may follow which, what tags say, and what a signature proves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.approval import (
    APPROVED,
    MAX_REASON,
    PENDING,
    REJECTED,
    REVOKED,
    UNAUTHENTICATED,
    Approval,
    ApproversKey,
    State,
    decide,
    obstacles,
    read,
    read_approvers_key,
    sign,
    verify,
)
from schemas.errors import ApprovalError, ConfigurationError

KEY, OTHER_KEY = ApproversKey(b"k" * 32), ApproversKey(b"o" * 32)
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
REGISTERED = {"gate": "passed", "digest.saved_model": "d" * 64, "approval": "pending"}


def after(approval: Approval, tags: dict[str, str] = REGISTERED, writes: int | None = None) -> dict[str, str]:
    """The tags after the first `writes` of a decision's writes (all, unless said)."""
    changed = dict(tags)
    for tag, value in approval.writes()[:writes]:
        changed[tag] = value
        if not value:
            del changed[tag]
    return changed


def take(
    state: State,
    tags: dict[str, str],
    reason: str = "it is good",
    by: str = "ada",
    key: ApproversKey | None = None,
    time: datetime = NOON,
) -> Approval:
    return decide(state, tags, version=3, by=by, reason=reason, time=time, key=key)


def standing(
    state: State, reason: str = "it is good", by: str = "ada", key: ApproversKey | None = None
) -> dict[str, str]:
    """The tags of a version on which `state` was decided by the rules."""
    if state == PENDING:
        return REGISTERED
    tags = after(take(APPROVED, REGISTERED, "looked fine")) if state == REVOKED else REGISTERED
    return after(take(state, tags, reason, by, key), tags)


def test_a_version_is_pending_until_somebody_decides() -> None:
    assert read({}) == read(REGISTERED) == Approval(PENDING)


def test_a_decision_is_read_back_as_it_was_taken() -> None:
    made = take(APPROVED, REGISTERED, reason="  finds more, costs less ", by="ada", key=KEY)
    assert (made.state, made.by, made.reason) == (APPROVED, "ada", "finds more, costs less")
    assert made.time == "2026-11-20T12:00:00+00:00"
    assert read(after(made)) == made


def test_times_are_kept_in_utc() -> None:
    paris = NOON.astimezone(timezone(timedelta(hours=1)))
    assert take(APPROVED, REGISTERED, time=paris).time == "2026-11-20T12:00:00+00:00"


@pytest.mark.parametrize(
    ("before", "decision"),
    [(PENDING, APPROVED), (PENDING, REJECTED), (APPROVED, REVOKED), (REJECTED, APPROVED), (REVOKED, APPROVED)],
)
def test_what_may_follow_what(before: State, decision: State) -> None:
    assert take(decision, standing(before), reason="news").state == decision


@pytest.mark.parametrize(
    ("before", "decision", "advice"),
    [
        (APPROVED, REJECTED, "revoke it"),
        (REVOKED, REJECTED, "leave it"),
        (PENDING, REVOKED, "reject it"),
        (REJECTED, REVOKED, "leave it"),
    ],
)
def test_what_may_not_follow_says_what_to_do_instead(before: State, decision: State, advice: str) -> None:
    with pytest.raises(ApprovalError, match=f"version 3 is {before} and cannot become {decision}; .*{advice}"):
        take(decision, standing(before), reason="news")


@pytest.mark.parametrize("state", [APPROVED, REJECTED, REVOKED])
def test_the_same_decision_for_the_same_reason_changes_nothing(state: State) -> None:
    tags = standing(state)
    assert take(state, tags, by="bob", time=NOON + timedelta(days=1)) == read(tags)


@pytest.mark.parametrize("state", [APPROVED, REJECTED, REVOKED])
def test_a_decision_is_not_quietly_given_another_reason(state: State) -> None:
    with pytest.raises(ApprovalError, match=rf"is {state} already, by ada because 'it is good'"):
        take(state, standing(state), reason="another")


@pytest.mark.parametrize("before", [REJECTED, REVOKED])
def test_an_approval_after_a_refusal_needs_a_reason_of_its_own(before: State) -> None:
    with pytest.raises(ApprovalError, match="say what has changed"):
        take(APPROVED, standing(before, reason="too many alerts"), reason="too many alerts")


@pytest.mark.parametrize("gate", ["failed", "", None])
def test_what_did_not_pass_its_gate_cannot_be_approved(gate: str | None) -> None:
    tags = {tag: value for tag, value in REGISTERED.items() if tag != "gate"} | ({} if gate is None else {"gate": gate})
    with pytest.raises(ApprovalError, match=f"its gate says {gate or 'nothing'}, not passed"):
        take(APPROVED, tags)
    assert take(REJECTED, tags).state == REJECTED
    assert obstacles(tags | {"approval": "approved"}, 3) == (
        f"the gate of version 3 says {gate or 'nothing'}, not passed",
    )


@pytest.mark.parametrize("words", ["", "  ", "two\nlines", "x" * (MAX_REASON + 1), "bell \a"])
def test_a_reason_is_one_line_of_words(words: str) -> None:
    with pytest.raises(ConfigurationError, match="the reason of a decision"):
        take(APPROVED, REGISTERED, reason=words)
    with pytest.raises(ConfigurationError, match="the name of a decision"):
        take(APPROVED, REGISTERED, by=words)


def test_nobody_decides_in_the_name_that_stands_for_nobody() -> None:
    with pytest.raises(ConfigurationError, match="ui:unauthenticated"):
        take(APPROVED, REGISTERED, by=UNAUTHENTICATED)


def test_a_tag_set_in_the_pages_of_mlflow_is_a_decision_by_nobody_known() -> None:
    assert read(REGISTERED | {"approval": "approved"}) == Approval(APPROVED, UNAUTHENTICATED)
    explained = REGISTERED | {"approval": "rejected", "approval.reason": "too many alerts"}
    assert read(explained) == Approval(REJECTED, UNAUTHENTICATED, "too many alerts")
    # Anyone can type a name there.
    assert read(REGISTERED | {"approval": "approved", "approval.by": "ada"}).by == UNAUTHENTICATED


def test_who_rejected_a_version_is_not_blamed_for_an_approval_in_the_pages_of_mlflow() -> None:
    tags = standing(REJECTED, reason="too many alerts", by="ada") | {"approval": "approved"}
    assert read(tags) == Approval(APPROVED, UNAUTHENTICATED)


def test_a_decision_by_nobody_known_can_be_confirmed_by_name() -> None:
    tags = REGISTERED | {"approval": "approved", "approval.reason": "looks good"}
    assert take(APPROVED, tags, reason="looked at it").by == "ada"
    assert take(REVOKED, tags).state == REVOKED


def test_a_tag_that_is_no_state_is_named() -> None:
    tags = REGISTERED | {"approval": "yes"}
    with pytest.raises(ApprovalError, match="'yes'; set it to one of pending, approved, rejected, revoked"):
        read(tags)
    (told,) = obstacles(tags, 3)
    assert "version 3" in told and "'yes'" in told


@pytest.mark.parametrize("before", [PENDING, APPROVED, REJECTED, REVOKED])
def test_a_death_between_two_writes_changes_no_state_blames_nobody_and_can_be_tried_again(before: State) -> None:
    decision: State = REVOKED if before == APPROVED else APPROVED
    tags = standing(before, by="bob", reason="because")
    made = take(decision, tags, reason="news", by="ada", key=KEY)
    for count in range(1, len(made.writes())):
        half = after(made, tags, count)
        seen = read(half)
        assert seen.state == before
        assert seen.by == ("" if before == PENDING else UNAUTHENTICATED)
        again = take(decision, half, reason="news", by="ada", key=KEY)
        assert read(after(again, half)) == made


def test_a_death_while_an_approval_is_being_signed_can_be_tried_again() -> None:
    tags = REGISTERED | {"approval": "approved"}
    made = take(APPROVED, tags, reason="looked at it", key=KEY)
    for count in range(1, len(made.writes())):
        half = after(made, tags, count)
        assert read(half).state == APPROVED
        assert read(after(take(APPROVED, half, reason="looked at it", key=KEY), half)) == made


def test_where_signatures_are_required_only_a_signed_approval_serves() -> None:
    signed, unsigned = standing(APPROVED, key=KEY), standing(APPROVED)
    assert obstacles(signed, 3) == obstacles(signed, 3, KEY) == obstacles(unsigned, 3) == ()
    (told,) = obstacles(unsigned, 3, KEY)
    assert "by ada without a signature" in told
    (told,) = obstacles(REGISTERED | {"approval": "approved"}, 3, KEY)
    assert UNAUTHENTICATED in told
    (told,) = obstacles(signed, 3, OTHER_KEY)
    assert OTHER_KEY.fingerprint in told
    signed_later = after(take(APPROVED, unsigned, key=KEY), unsigned)
    assert obstacles(signed_later, 3, KEY) == ()


@pytest.mark.parametrize("state", [PENDING, REJECTED, REVOKED])
def test_only_an_approved_version_serves(state: State) -> None:
    assert obstacles(standing(state), 3) == (f"version 3 is {state}, not approved",)


@pytest.mark.parametrize(
    "tag", ["digest.saved_model", "approval.by", "approval.reason", "approval.time", "approval.signature"]
)
def test_a_changed_tag_breaks_the_signature(tag: str) -> None:
    tags = standing(APPROVED, key=KEY)
    assert obstacles(tags | {tag: tags[tag] + "0"}, 3, KEY)


def test_a_signature_holds_for_its_version_and_state_alone() -> None:
    tags = standing(APPROVED, key=KEY)
    assert verify(read(tags), tags, 3, KEY)
    assert not verify(read(tags), tags, 4, KEY)
    revoked = after(take(REVOKED, tags, reason="news", key=KEY), tags)
    assert obstacles(revoked | {"approval": "approved", "approval.decision": "approved"}, 3, KEY)


def test_a_signature_can_be_computed_by_its_description() -> None:
    import hashlib
    import hmac

    made = take(APPROVED, REGISTERED, reason='"ü"', key=KEY)
    message = f'["fraudops approval 1",3,"{"d" * 64}","approved","ada","\\"ü\\"","2026-11-20T12:00:00+00:00"]'
    expected = hmac.new(KEY.secret, message.encode(), hashlib.sha256).hexdigest()
    assert made.signature == f"{KEY.fingerprint}:{expected}"


def test_a_version_without_a_digest_cannot_be_signed() -> None:
    with pytest.raises(ApprovalError, match=r"no tag digest\.saved_model"):
        take(APPROVED, {"gate": "passed"}, key=KEY)


TEXT = st.text(max_size=5)


@given(st.lists(st.tuples(TEXT, TEXT, TEXT, TEXT), min_size=2, max_size=2, unique=True))
def test_no_two_decisions_share_a_signature(fields: list[tuple[str, str, str, str]]) -> None:
    one, other = (
        sign(Approval(APPROVED, by, reason, time), {"digest.saved_model": f"d{digest}"}, 3, KEY)
        for digest, by, reason, time in fields
    )
    assert one != other


def test_the_approvers_key_is_read_where_only_its_owner_can_and_never_shown(tmp_path: Path) -> None:
    file = tmp_path / "approvers.key"
    file.write_bytes(KEY.secret)
    file.chmod(0o644)
    with pytest.raises(ConfigurationError, match=r"approvers' key file .*mode 644.*chmod 600"):
        read_approvers_key(file)
    file.chmod(0o600)
    assert read_approvers_key(file) == KEY
    assert "kkkk" not in repr(KEY)
    file.write_bytes(b"short")
    with pytest.raises(ConfigurationError, match="has 5 bytes"):
        read_approvers_key(file)
