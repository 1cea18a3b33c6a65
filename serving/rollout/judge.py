"""Whether the evidence of a step lets a candidate go on, throws it out, or says nothing yet.

A candidate fails as soon as the evidence is sure, however little of it there is, and passes when the step has lasted
long enough, seen enough, and no check stands against it.  Between the two it waits: an estimate beyond a limit that may
still be chance neither passes nor fails.

Assumptions.  Decisions on different cards are independent; those on one card are alike, and a count of them is deflated
by Kish's design effect, 1 + (decisions per card - 1) times the intraclass correlation (Kish 1965, Survey Sampling), so
that few cards never make sure evidence.  Within a step the arms' shares of the traffic are constant.  Limits hold for
all looks together (`intervals`), so that it does not matter how often a step is judged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from schemas.decision import Outcome
from serving.decisions.evidence import ShadowTally, Tally
from serving.rollout.intervals import interval
from serving.rollout.policy import CanaryStep, Limits, Policy, Step

Standing = Literal["wait", "pass", "fail"]

# One lost call to the model server takes a whole batch of decisions with it.
_FAILURES_OF_ONE_CAUSE = 10
# An estimate from fewer expected events is chance (the rule of five; Cochran 1954, Some methods for strengthening the
# common chi-squared tests).
_TELLING_EVENTS = 5
# Calls beyond a quantile from which it means something, and from which it is sure: slow calls come in bursts too.
_CALLS_BEYOND_TO_TELL = 10
_CALLS_BEYOND_TO_FAIL = 100

# What counts as the event of a check, and what a model does then.
_EVENTS: Mapping[str, tuple[frozenset[Outcome], str]] = {
    "block_share": (frozenset({Outcome.BLOCK}), "blocks"),
    "alert_share": (frozenset({Outcome.REVIEW, Outcome.BLOCK}), "reviews or blocks"),
}


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        state: `fail` where a limit is surely exceeded, `wait` where more has to be seen, `pass` otherwise.
        value: what was measured; None where nothing can be compared.
        bound: what it is held against; of a ratio, both `bound` and its inverse.
        statement: all of it in a sentence.
    """

    name: str
    state: Standing
    value: float | None
    bound: float
    statement: str


@dataclass(frozen=True)
class Verdict:
    """What follows from the checks: `fail` from a failed one, `pass` where all of them pass, else `wait`."""

    checks: tuple[Check, ...]

    @property
    def decision(self) -> Standing:
        """What to do with the candidate."""
        states = {check.state for check in self.checks}
        return "fail" if "fail" in states else "wait" if "wait" in states else "pass"

    @property
    def reason(self) -> str:
        """Why, in sentences: those of the checks that made the decision."""
        decision = self.decision
        return "; ".join(check.statement for check in self.checks if check.state == decision)


def judge_shadow(policy: Policy, shadow: ShadowTally, decided: Tally, seconds_in_step: float) -> Verdict:
    """Judges a candidate that was asked aside, beside the stable model on the same transactions.

    Args:
        shadow: what the candidate said.
        decided: the decisions made meanwhile, all of them routed to the stable arm.
        seconds_in_step: since the step began.
    """
    limits = policy.limits
    effect = _design_effect(limits, decided)
    return Verdict(
        (
            *_minimum(policy.shadow, shadow.asked, seconds_in_step),
            _failures(limits, shadow.failures, shadow.asked, decided),
            *_latencies(limits, shadow.latency_ms, shadow.asked - shadow.failures, decided),
            _paired(limits, "block_share", shadow.outcomes, effect),
            _paired(limits, "alert_share", shadow.outcomes, effect),
        )
    )


def judge_bootstrap(policy: Policy, shadow: ShadowTally, decided: Tally, seconds_in_step: float) -> Verdict:
    """Judges the first candidate, asked aside while rules alone decide: by absolute limits.

    Args:
        shadow: what the candidate said.
        decided: the decisions made meanwhile, by the rules alone.
        seconds_in_step: since the step began.
    """
    limits, bootstrap = policy.limits, policy.bootstrap
    effect = _design_effect(limits, decided)
    answered: dict[Outcome, int] = {}
    for (_, outcome), number in shadow.outcomes.items():
        answered[outcome] = answered.get(outcome, 0) + number
    return Verdict(
        (
            *_minimum(policy.shadow, shadow.asked, seconds_in_step),
            _failures(limits, shadow.failures, shadow.asked, None),
            *_latencies(limits, shadow.latency_ms, shadow.asked - shadow.failures, None),
            _share(limits, "block_share", answered, effect, bootstrap.max_block_share),
            _share(limits, "alert_share", answered, effect, bootstrap.max_alert_share),
        )
    )


def judge_canary(policy: Policy, step: CanaryStep, stable: Tally, canary: Tally, seconds_in_step: float) -> Verdict:
    """Judges a candidate that decides for some cards, beside the stable model that decides for the others.

    Args:
        step: of the policy, the one that runs.
        stable: decisions on the transactions that were routed to the stable arm in this step.
        canary: those that were routed to the candidate.
        seconds_in_step: since the step began.
    """
    limits = policy.limits
    return Verdict(
        (
            *_minimum(step, canary.decisions, seconds_in_step),
            _failures(limits, canary.failures, canary.decisions, stable),
            *_latencies(limits, canary.latency_ms, canary.decisions - canary.failures, stable),
            _two_arms(limits, "block_share", stable, canary),
            _two_arms(limits, "alert_share", stable, canary),
        )
    )


def _design_effect(limits: Limits, tally: Tally) -> float:
    """By how much the decisions of a tally count for less than as many on cards of their own; 1 or more."""
    per_card = tally.decisions / max(tally.cards, 1)
    return 1 + max(per_card - 1, 0.0) * limits.card_correlation


def _minimum(step: Step, decisions: int, seconds: float) -> tuple[Check, Check]:
    return (
        Check(
            "decisions",
            "pass" if decisions >= step.min_decisions else "wait",
            decisions,
            step.min_decisions,
            f"the candidate was asked for {decisions:,} decisions, and the step needs {step.min_decisions:,}",
        ),
        Check(
            "seconds",
            "pass" if seconds >= step.min_seconds else "wait",
            seconds,
            step.min_seconds,
            f"the step has lasted {seconds:,.0f} s, and needs {step.min_seconds:,.0f} s",
        ),
    )


def _failures(limits: Limits, failures: int, asked: int, beside: Tally | None) -> Check:
    """The share of its decisions that the candidate left to others; an outage of all models is not its fault."""
    others = beside.failures / beside.decisions if beside is not None and beside.decisions else 0.0
    bound = min(limits.max_failure_share + others, 1.0)
    share = failures / asked if asked else 0.0
    low, _ = interval(failures / _FAILURES_OF_ONE_CAUSE, asked / _FAILURES_OF_ONE_CAUSE, limits.confidence)
    statement = f"the candidate did not answer, or not in time, {failures:,} of {asked:,} times ({share:.2%}), "
    if beside is not None:
        statement += f"the stable model {others:.2%}, "
    return _above("failures", share, low, bound, f"{statement}and at most {bound:.2%} is allowed")


def _share(limits: Limits, name: str, outcomes: Mapping[Outcome, int], effect: float, bound: float) -> Check:
    """A share of what the candidate answered, held against an absolute limit."""
    events, does = _EVENTS[name]
    hits, trials = sum(outcomes.get(event, 0) for event in events), sum(outcomes.values())
    share = hits / trials if trials else 0.0
    low, high = interval(hits / effect, trials / effect, limits.confidence)
    return _above(
        name,
        share,
        low,
        bound,
        f"the candidate {does} {share:.2%} of transactions ({low:.2%} to {high:.2%} {_confidently(limits)}), and at "
        f"most {bound:.2%} is allowed without a stable model",
    )


def _above(name: str, value: float, low: float, bound: float, statement: str) -> Check:
    return Check(name, "fail" if low > bound else "wait" if value > bound else "pass", value, bound, statement)


def _latencies(
    limits: Limits, latency_ms: Mapping[float, float], answered: int, beside: Tally | None
) -> tuple[Check, ...]:
    """One check for each quantile that enough calls lie beyond."""
    checks = []
    for quantile, value in sorted(latency_ms.items()):
        if answered * (1 - quantile) < _CALLS_BEYOND_TO_TELL:
            continue
        bound = limits.latency_budget_ms
        statement = f"{quantile:.0%} of the candidate's answers take up to {value:.1f} ms"
        if beside is not None and quantile in beside.latency_ms:
            stable = beside.latency_ms[quantile]
            bound = min(bound, max(limits.max_latency_ratio * stable, limits.latency_grace_ms))
            statement += f", of the stable model's up to {stable:.1f} ms"
        sure = answered * (1 - quantile) >= _CALLS_BEYOND_TO_FAIL
        checks.append(
            Check(
                f"latency_p{100 * quantile:g}",
                "pass" if value <= bound else "fail" if sure else "wait",
                value,
                bound,
                f"{statement}, and at most {bound:.1f} ms is allowed",
            )
        )
    return tuple(checks)


def _paired(limits: Limits, name: str, pairs: Mapping[tuple[Outcome, Outcome], int], effect: float) -> Check:
    """How much more often the candidate would act than what decided, on the same transactions.

    Given both, either and neither, all evidence is in the discordant pairs (McNemar 1947, Note on the sampling error of
    the difference between correlated proportions): of them, the candidate's are binomial with a share `c`.  Its
    interval becomes that of the ratio (both + c discordant) / (both + (1 - c) discordant).
    """
    events, _ = _EVENTS[name]
    both = only_candidate = only_stable = 0
    for (decided, candidate), number in pairs.items():
        if decided in events and candidate in events:
            both += number
        elif candidate in events:
            only_candidate += number
        elif decided in events:
            only_stable += number
    discordant = only_candidate + only_stable

    def ratio(share: float) -> float:
        return _divided(both + share * discordant, both + (1 - share) * discordant)

    low, high = interval(only_candidate / effect, discordant / effect, limits.confidence)
    trials = sum(pairs.values())
    return _ratio_check(
        limits,
        name,
        candidate=(both + only_candidate) / max(trials, 1),
        stable=(both + only_stable) / max(trials, 1),
        between=(ratio(low), ratio(high)) if discordant else (1.0, 1.0),
        expected=both + discordant / 2,
    )


def _two_arms(limits: Limits, name: str, stable: Tally, canary: Tally) -> Check:
    """How much more often the candidate acts on its cards than the stable model on the others.

    Given the number of events in both arms, the candidate's are binomial with a share `c` (exact for Poisson counts:
    Przyborowski and Wilenski 1940, Homogeneity of results in testing samples from Poisson series; for shares of a fixed
    number of transactions it errs on the safe side).  Its interval becomes that of the ratio
    c / (1 - c) * stable decisions / candidate's decisions.
    """
    events, _ = _EVENTS[name]
    ours, theirs = (sum(tally.outcomes.get(event, 0) for event in events) for tally in (canary, stable))
    effect, effect_beside = _design_effect(limits, canary), _design_effect(limits, stable)
    counts = ours / effect, theirs / effect_beside
    decisions = canary.decisions / effect, stable.decisions / effect_beside

    def ratio(share: float) -> float:
        return _divided(share * decisions[1], (1 - share) * decisions[0])

    low, high = interval(counts[0], sum(counts), limits.confidence)
    smaller = min(canary.decisions, stable.decisions)
    return _ratio_check(
        limits,
        name,
        candidate=ours / max(canary.decisions, 1),
        stable=theirs / max(stable.decisions, 1),
        between=(ratio(low), ratio(high)),
        expected=(ours + theirs) * smaller / max(canary.decisions + stable.decisions, 1),
    )


def _ratio_check(
    limits: Limits, name: str, candidate: float, stable: float, between: tuple[float, float], expected: float
) -> Check:
    """Holds a ratio of shares against its limit, both ways.

    Args:
        candidate: the candidate's share.
        stable: that of the stable model.
        between: the interval of their ratio.
        expected: events in the smaller arm if the two were alike.
    """
    bound = limits.max_block_ratio if name == "block_share" else limits.max_alert_ratio
    low, high = between
    value = _divided(candidate, stable)
    state: Standing = "pass"
    if low > bound or high < 1 / bound:
        state = "fail"
    elif expected >= _TELLING_EVENTS and not 1 / bound <= value <= bound:
        state = "wait"
    _, does = _EVENTS[name]
    statement = (
        f"the candidate {does} {candidate:.2%} of transactions and the stable model {stable:.2%}: "
        f"{_times(value)} times as many ({_times(low)} to {_times(high)} {_confidently(limits)}), "
        f"and {_times(1 / bound)} to {_times(bound)} times is allowed"
    )
    return Check(name, state, value if math.isfinite(value) else None, bound, statement)


def _divided(part: float, whole: float) -> float:
    """A ratio of two that are not negative: of nothing to nothing 1, because they are alike."""
    if whole == 0:
        return math.inf if part else 1.0
    return part / whole


def _times(ratio: float) -> str:
    return "infinitely many" if math.isinf(ratio) else f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.2f}"


def _confidently(limits: Limits) -> str:
    return f"with {100 * limits.confidence:g}% confidence"
