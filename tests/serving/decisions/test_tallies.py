import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.decision import Arm, Outcome
from serving.decisions.evidence import Evidence, ShadowTally, Tally
from serving.decisions.log import DecisionLog
from serving.decisions.record import Entry, ShadowEntry
from serving.decisions.tallies import OutcomeCount, Share, quantiles_ms
from tests.serving.decisions.entries import entry, shadow

MODEL_CAUSES = ("MODEL_UNAVAILABLE", "MODEL_LATE", "MODEL_FAILED")

outcomes = st.sampled_from(Outcome)
routed = st.sampled_from((Arm.STABLE, Arm.CANARY))
generations = st.integers(1, 4)
times_us = st.none() | st.integers(0, 20) | st.integers(0, 10**7)


@st.composite
def entries(draw: st.DrawFn) -> list[Entry]:
    return [
        entry(
            f"t{number}",
            card_id=draw(st.sampled_from("abc")),
            routed=(arm := draw(routed)),
            arm=draw(st.sampled_from((arm, Arm.CONTROL))),
            version=draw(st.sampled_from((None, 1, 2))),
            generation=draw(generations),
            outcome=draw(outcomes),
            intended=draw(outcomes),
            cause=draw(st.sampled_from(("", *MODEL_CAUSES, "FEATURES_UNAVAILABLE"))),
            model_us=draw(times_us),
        )
        for number in range(draw(st.integers(0, 30)))
    ]


@st.composite
def shadows(draw: st.DrawFn) -> list[ShadowEntry]:
    return [
        shadow(
            f"d{number}",
            version=draw(st.sampled_from((1, 2))),
            generation=draw(generations),
            decided=draw(outcomes),
            outcome=draw(st.none() | outcomes),
            model_us=draw(times_us),
        )
        for number in range(draw(st.integers(0, 30)))
    ]


@contextmanager
def kept(entries: Sequence[Entry], shadows: Sequence[ShadowEntry] = ()) -> Iterator[DecisionLog]:
    with tempfile.TemporaryDirectory() as folder:
        log = DecisionLog(Path(folder) / "log.sqlite")
        log.append(entries, shadows)
        try:
            yield log
        finally:
            log.close()


def slow_quantiles(times: list[int]) -> dict[float, float]:
    """By the definition: the shortest of the times that at least such a share of all is not longer than."""
    shares = {0.5: Fraction(1, 2), 0.99: Fraction(99, 100)}
    return {
        quantile: min(one for one in times if sum(other <= one for other in times) >= share * len(times)) / 1e3
        for quantile, share in shares.items()
        if times
    }


def slow_tally(entries: Sequence[Entry], arm: Arm, since: int) -> Tally:
    of_arm = [one for one in entries if one.routed is arm and one.decision.generation >= since]
    causes = [
        one.decision.degraded.Cause.Name(one.decision.degraded.cause) if one.decision.HasField("degraded") else ""
        for one in of_arm
    ]
    return Tally(
        decisions=len(of_arm),
        cards=len({one.transaction["card_id"] for one in of_arm}),
        failures=sum(cause in MODEL_CAUSES for cause in causes),
        outcomes=Counter(one.intended for one in of_arm),
        latency_ms=slow_quantiles(
            [one.model_us for one, cause in zip(of_arm, causes, strict=True) if one.model_us is not None and not cause]
        ),
    )


def slow_shadow_tally(shadows: Sequence[ShadowEntry], version: int, since: int) -> ShadowTally:
    asked = [one for one in shadows if one.version == version and one.generation >= since]
    answered = [one for one in asked if one.outcome is not None]
    return ShadowTally(
        asked=len(asked),
        failures=len(asked) - len(answered),
        outcomes=Counter((one.decided, one.outcome) for one in answered if one.outcome is not None),
        latency_ms=slow_quantiles([one.model_us for one in answered if one.model_us is not None]),
    )


@settings(max_examples=40)
@given(entries(), routed, st.integers(0, 5))
def test_a_tally_is_what_a_loop_over_all_entries_counts(entries: list[Entry], arm: Arm, since: int) -> None:
    with kept(entries) as log:
        evidence: Evidence = log
        assert evidence.tally(arm, since) == slow_tally(entries, arm, since)


@settings(max_examples=40)
@given(shadows(), st.integers(1, 3), st.integers(0, 5))
def test_a_shadow_tally_is_what_a_loop_counts(shadows: list[ShadowEntry], version: int, since: int) -> None:
    with kept([], shadows) as log:
        assert log.shadow_tally(version, since) == slow_shadow_tally(shadows, version, since)


@settings(max_examples=20)
@given(entries(), st.integers(0, 4), st.none() | st.integers(0, 4))
def test_shares_are_what_a_loop_counts(entries: list[Entry], since: int, until: int | None) -> None:
    cards: dict[tuple[int, Arm], list[str]] = {}
    for one in entries:
        if since <= one.decision.generation <= (4 if until is None else until):
            cards.setdefault((one.decision.generation, one.routed), []).append(one.transaction["card_id"])
    with kept(entries) as log:
        assert log.shares(since, until) == [
            Share(generation, arm, len(cards[generation, arm]), len(set(cards[generation, arm])))
            for generation, arm in sorted(cards)
        ]


def test_outcomes_are_counted_by_arm_version_and_what_degraded_them() -> None:
    decided = [
        entry("a", outcome=Outcome.BLOCK),
        entry("b", outcome=Outcome.BLOCK),
        entry("c", arm=Arm.CONTROL, outcome=Outcome.PASS, intended=Outcome.BLOCK),
        entry("d", routed=Arm.CANARY, version=2),
        entry("e", routed=Arm.CANARY, arm=Arm.STABLE, cause="MODEL_LATE"),
        entry("f", version=None, cause="FEATURES_UNAVAILABLE", outcome=Outcome.REVIEW),
    ]
    with kept(decided) as log:
        assert log.outcomes() == [
            OutcomeCount(Arm.STABLE, None, Outcome.REVIEW, "FEATURES_UNAVAILABLE", 1),
            OutcomeCount(Arm.STABLE, 1, Outcome.PASS, "MODEL_LATE", 1),
            OutcomeCount(Arm.STABLE, 1, Outcome.BLOCK, "", 2),
            OutcomeCount(Arm.CANARY, 2, Outcome.PASS, "", 1),
            OutcomeCount(Arm.CONTROL, 1, Outcome.PASS, "", 1),
        ]


def test_rules_alone_before_the_first_model_are_no_failure() -> None:
    with kept([entry("a", version=None, model_us=None)]) as log:
        assert log.tally(Arm.STABLE, 0) == Tally(1, 1, 0, {Outcome.PASS: 1}, {})


def test_a_quantile_of_a_hundred_times_is_the_one_of_that_rank() -> None:
    assert quantiles_ms([(number * 1_000, 1) for number in range(1, 101)]) == {0.5: 50, 0.99: 99}
    assert quantiles_ms([(7, 1_000)]) == {0.5: 0.007, 0.99: 0.007}
    assert quantiles_ms([]) == {}
