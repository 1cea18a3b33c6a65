"""The rollout's state machine: from where things stand, and what has happened, to where they stand next.

    state          is left when                                            for
    pending        it is the only rollout                                  loading
    loading        every model server has it available and labelled        shadow
    shadow         the judge passes it                                     canary, or promoting where nothing is stable
    canary         the judge passes a step                                 canary's next step, or promoting
    promoting      it is stable for servers, gateways and registry         promoted
    rolling_back   nothing of it is left there                             rolled_back

Until it is handed over (`handed_over`), an obstacle, the judge, a model that cannot be served, or an operator's abort
leads to rolling_back.  A pause holds the first four states, and the weight with them; it does not keep a candidate that
has failed, because a pause is there to look at something, and who looks does not want customers harmed meanwhile.

A stable version whose approval is taken back must not serve: from then on the rules decide alone, and a rollout that
was on its way begins again at loading, since it has nothing to be compared with any more.

Nothing here acts.  A `Change` is what to write down; the acts follow from the situation that it leads to (`world`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from serving.rollout.approvals import Standing, refused
from serving.rollout.desired import Desired
from serving.rollout.routing import CANARY_LABEL, STABLE_LABEL, Routing, Served
from serving.rollout.situation import Event, Pause, Release, Rollout, Situation, State
from serving.rollout.table import Command, Decision

# The states in which a pause holds.
HELD = frozenset({State.PENDING, State.LOADING, State.SHADOW, State.CANARY})
# Those in which the judge is asked.
JUDGED = frozenset({State.SHADOW, State.CANARY})
# Those in which model servers have the candidate.
_LOADED = frozenset({State.LOADING, *JUDGED, State.PROMOTING})

_NEXT = {
    State.PENDING: State.LOADING,
    State.LOADING: State.SHADOW,
    State.SHADOW: State.CANARY,
    State.CANARY: State.PROMOTING,
    State.PROMOTING: State.PROMOTED,
    State.ROLLING_BACK: State.ROLLED_BACK,
}


@dataclass(frozen=True)
class Facts:
    """What a change is made from, besides the situation.

    Attributes:
        now_us: UTC, microseconds.
        routing: in force.
        weights: of the canary steps.
        decisions: every approval that was ever seen.
    """

    now_us: int
    routing: Routing
    weights: tuple[float, ...]
    decisions: tuple[Decision, ...] = ()


@dataclass(frozen=True)
class Change:
    """What to write down, all of it at once; as `RolloutTable.advance` takes it."""

    situation: Situation
    events: tuple[Event, ...] = ()
    routing: Routing | None = None
    decisions: tuple[Decision, ...] = ()


@dataclass(frozen=True)
class World:
    """What a situation wants to be true outside.

    Attributes:
        desired: of the model servers.
        digests: of each version in `desired`, as registered.
        aliases: alias to the version that it names, or None for none.
        kept: the versions whose files stay; all others go.
    """

    desired: Desired
    digests: Mapping[int, str]
    aliases: Mapping[str, int | None]
    kept: frozenset[int]


def handed_over(situation: Situation) -> bool:
    """Whether the version that is being promoted is the stable one already."""
    stable, running = situation.stable, situation.running
    return stable is not None and running is not None and stable.rollout == running.number


def stoppable(situation: Situation) -> bool:
    """Whether a rollout runs that can still be rolled back."""
    running = situation.running
    return running is not None and running.state is not State.ROLLING_BACK and not handed_over(situation)


def current_step(running: Rollout, steps: int) -> int:
    """Index of a rollout's canary step among so many; a policy that has become shorter ends with its last."""
    return min(running.step, steps - 1)


def world(situation: Situation, champion: str, challenger: str) -> World:
    """What a situation wants to be true outside.

    While a version is handed over, both are loaded and both labels name the new one: a gateway that still routes as
    before gets an answer for either label, and knows the version that gave it.
    """
    stable, running = situation.stable, situation.running
    digests: dict[int, str] = {}
    labels: dict[str, int] = {}
    if stable is not None:
        digests[stable.version] = stable.digest
        labels[STABLE_LABEL] = stable.version
    beside = None
    if running is not None and running.state in _LOADED:
        digests[running.version] = running.digest
        if not handed_over(situation):
            beside = running
            labels[CANARY_LABEL] = running.version
            if running.state is State.PROMOTING:
                labels[STABLE_LABEL] = running.version
    previous = {situation.previous.version} if situation.previous else set()
    challenging = beside is not None and beside.state is not State.LOADING
    return World(
        Desired(frozenset(digests), labels),
        digests,
        {
            champion: stable.version if stable else None,
            challenger: beside.version if beside is not None and challenging else None,
        },
        frozenset(digests) | previous,
    )


def routing_of(situation: Situation, facts: Facts, candidate: Served | None = None) -> Routing:
    """What gateways do in a situation: the routing in force, or another one under the next generation.

    Args:
        candidate: the running version with its bundle; needed where the routing in force does not have it.
    """
    latest = facts.routing
    running = situation.running
    known = {served.version: served for served in (latest.stable, latest.candidate, candidate) if served is not None}
    if running is not None and running.state is State.PROMOTING and not handed_over(situation):
        return latest
    wanted = Routing(latest.generation, stable=known[situation.stable.version] if situation.stable else None)
    if running is not None and running.state in JUDGED:
        wanted = replace(
            wanted,
            candidate=known[running.version],
            weight=facts.weights[current_step(running, len(facts.weights))] if running.state is State.CANARY else 0.0,
            shadow=running.state is State.SHADOW,
            salt=f"rollout {running.number} of version {running.version}",
        )
    return latest if wanted == latest else replace(wanted, generation=latest.generation + 1)


def begin(situation: Situation, standing: Standing, facts: Facts) -> Change:
    """A rollout of an approved version, where none runs."""
    number = situation.rollout.number + 1 if situation.rollout else 1
    reason = f"version {standing.version} is {standing.decided}"
    rollout = Rollout(
        number, standing.version, standing.digest, State.PENDING, facts.now_us, facts.routing.generation, reason
    )
    return _change(replace(situation, rollout=rollout, waiting=None), facts)


def advance(situation: Situation, reason: str, facts: Facts, candidate: Served | None = None) -> Change:
    """The running rollout goes on to its next state or step.

    Args:
        candidate: the running version with its bundle, on the way to `shadow`.
    """
    running = _running(situation)
    state, step = _NEXT[running.state], running.step
    if running.state is State.SHADOW and situation.stable is None:
        state = State.PROMOTING
    elif running.state is State.CANARY and step + 1 < len(facts.weights):
        state, step = State.CANARY, step + 1
    pause = None if state is State.PROMOTED or state is State.ROLLED_BACK else situation.pause
    return _change(_at(replace(situation, pause=pause), state, reason, facts, step), facts, candidate)


def hand_over(situation: Situation, facts: Facts) -> Change:
    """The version that is being promoted decides for everybody from now on."""
    running = _running(situation)
    after = replace(
        situation, stable=Release(running.version, running.digest, running.number), previous=situation.stable
    )
    reason = f"every model server answers for the label {STABLE_LABEL} with version {running.version}"
    return _change(_at(after, State.PROMOTING, reason, facts, running.step), facts)


def stop(situation: Situation, reason: str, facts: Facts) -> Change:
    """The running rollout is rolled back, and the version is not tried again under the approvals it has by now."""
    running = _running(situation)
    change = _change(_at(situation, State.ROLLING_BACK, reason, facts, running.step), facts)
    return replace(change, decisions=refused(facts.decisions, running.version, reason))


def withdraw(situation: Situation, reason: str, facts: Facts) -> Change:
    """The stable version serves no longer: the rules decide alone."""
    stable, latest = situation.stable, situation.rollout
    assert stable is not None and latest is not None
    told = f"ALARM: {reason}; version {stable.version} decided for everybody, and now the rules decide alone"
    taken_back = refused(facts.decisions, stable.version, reason)
    after = replace(situation, stable=None)
    if latest.number == stable.rollout:
        change = _change(_at(after, State.ROLLED_BACK, told, facts, latest.step), facts)
        return replace(change, decisions=taken_back)
    running = situation.running
    if running is not None and running.state in _LOADED:
        again = f"version {stable.version} was withdrawn, so there is nothing to compare with: the rollout begins again"
        change = _change(_at(after, State.LOADING, again, facts, 0), facts)
    else:
        change = Change(after, routing=_news(routing_of(after, facts), facts))
    generation = (change.routing or facts.routing).generation
    gone = Event(facts.now_us, stable.rollout, stable.version, State.ROLLED_BACK.value, 0, 0.0, generation, told)
    return replace(change, events=(gone, *change.events), decisions=taken_back)


def wait(situation: Situation, standing: Standing | None, facts: Facts) -> Change:
    """Another version, or none, waits until the running rollout has ended."""
    after = replace(situation, waiting=standing.version if standing else None)
    if standing is None:
        return Change(after)
    reason = f"version {standing.version} is {standing.decided}, and waits until the running rollout has ended"
    if situation.waiting is not None:
        reason += f"; it takes the place of version {situation.waiting}"
    return Change(after, (_told("waiting", standing.version, reason, facts),))


def tell(situation: Situation, version: int, reason: str, facts: Facts) -> Change:
    """An approval does not count."""
    return Change(situation, (_told("refused", version, reason, facts),))


def reroute(situation: Situation, facts: Facts) -> Change:
    """What was published by hand, before there was a controller, ends."""
    routing = routing_of(situation, facts)
    reason = f"generation {facts.routing.generation} was published by hand; no version serves that was not rolled out"
    event = Event(facts.now_us, 0, 0, "routed", 0, routing.weight, routing.generation, reason)
    return Change(situation, (event,), routing)


def obey(situation: Situation, command: Command, facts: Facts) -> Change:
    """What an operator asked for is done, or why it is not."""
    running = situation.running
    asked = f"{command.name} asked for by {command.by}" + (f" because {command.reason!r}" if command.reason else "")
    version = running.version if running else 0
    if command.name == "pause":
        pause = Pause(command.by, command.reason, facts.now_us)
        return Change(replace(situation, pause=pause), (_about(situation, "paused", version, asked, facts),))
    if command.name == "resume":
        if situation.pause is None:
            return Change(situation, (_about(situation, "ignored", version, f"{asked}: nothing is paused", facts),))
        return Change(replace(situation, pause=None), (_about(situation, "resumed", version, asked, facts),))
    if running is None:
        return Change(situation, (_about(situation, "ignored", 0, f"{asked}: no rollout runs", facts),))
    if not stoppable(situation):
        too_late = f"{asked}: version {running.version} is {running.state} already"
        if running.state is State.PROMOTING:
            too_late += " and decides for everybody; revoke its approval instead"
        return Change(situation, (_about(situation, "ignored", version, too_late, facts),))
    return stop(situation, asked, facts)


def _running(situation: Situation) -> Rollout:
    assert situation.running is not None, "no rollout runs"
    return situation.running


def _at(situation: Situation, state: State, reason: str, facts: Facts, step: int) -> Situation:
    """The situation with its rollout at a state; `_change` adds the generation."""
    assert situation.rollout is not None
    return replace(
        situation,
        rollout=replace(situation.rollout, state=state, step=step, since_us=facts.now_us, reason=reason),
    )


def _change(after: Situation, facts: Facts, candidate: Served | None = None) -> Change:
    """What to write down of a rollout that has just come to where `after` has it."""
    assert after.rollout is not None
    routing = routing_of(after, facts, candidate)
    rollout = replace(after.rollout, since_generation=routing.generation)
    event = Event(
        facts.now_us,
        rollout.number,
        rollout.version,
        rollout.state.value,
        rollout.step,
        routing.weight,
        routing.generation,
        rollout.reason,
    )
    return Change(replace(after, rollout=rollout), (event,), _news(routing, facts))


def _news(routing: Routing, facts: Facts) -> Routing | None:
    """A routing, if it is to be published."""
    return None if routing == facts.routing else routing


def _told(state: str, version: int, reason: str, facts: Facts) -> Event:
    return Event(facts.now_us, 0, version, state, 0, facts.routing.weight, facts.routing.generation, reason)


def _about(situation: Situation, state: str, version: int, reason: str, facts: Facts) -> Event:
    running = situation.running
    number, step = (running.number, running.step) if running else (0, 0)
    return replace(_told(state, version, reason, facts), rollout=number, step=step)
