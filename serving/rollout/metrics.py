"""What /metrics shows of the rollout controller."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from serving.rollout.judge import Check
from serving.rollout.routing import Routing
from serving.rollout.situation import Event, Situation, State

_TICK_BUCKETS_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 20.0, 60.0)
_STATES = tuple(State)


class Metrics:
    """Gauges of where the rollout stands, and counters of what the controller did."""

    def __init__(self, registry_age_s: Callable[[], float]) -> None:
        """`registry_age_s` gives the seconds since the registry was last read; it is asked at every scrape."""
        self.registry = CollectorRegistry()

        def gauge(name: str, text: str, labels: Iterable[str] = ()) -> Gauge:
            return Gauge(f"fraudops_rollout_{name}", text, labels, registry=self.registry)

        self._state = gauge("state", "1 for the state of the running or last rollout, 0 for the others.", ["state"])
        self._version = gauge("version", "The version of that rollout; 0 before any.")
        self._stable = gauge("stable_version", "The version that decides for everybody else; 0 for the rules alone.")
        self._waiting = gauge("waiting_version", "The approved version that waits; 0 for none.")
        self._paused = gauge("paused", "1 while an operator holds the rollout.")
        self._step = gauge("step", "Index of the canary step.")
        self._weight = gauge("weight", "Share of cards that the candidate decides for.")
        self._generation = gauge("generation", "Generation of the routing in force.")
        self._check = gauge("check", "What each check of the running step measures.", ["check"])
        self._bound = gauge("check_bound", "What it is held against.", ["check"])
        gauge("registry_age_seconds", "Since the model registry was last read.").set_function(registry_age_s)
        self.ticks = Histogram(
            "fraudops_rollout_tick_seconds",
            "A look at everything, with the acts that followed.",
            buckets=_TICK_BUCKETS_S,
            registry=self.registry,
        )
        self.errors = Counter(
            "fraudops_rollout_errors",
            "Looks and acts that failed, and are tried again.",
            ["kind"],
            registry=self.registry,
        )
        self.transitions = Counter(
            "fraudops_rollout_transitions", "States and steps entered.", ["state"], registry=self.registry
        )
        for state in _STATES:
            self.transitions.labels(state.value)

    def show(self, situation: Situation, routing: Routing, checks: Iterable[Check]) -> None:
        """Sets the gauges."""
        rollout = situation.rollout
        for state in _STATES:
            self._state.labels(state.value).set(rollout is not None and rollout.state is state)
        self._version.set(rollout.version if rollout else 0)
        self._stable.set(situation.stable.version if situation.stable else 0)
        self._waiting.set(situation.waiting or 0)
        self._paused.set(situation.pause is not None)
        self._step.set(rollout.step if rollout else 0)
        self._weight.set(routing.weight)
        self._generation.set(routing.generation)
        self._check.clear()
        self._bound.clear()
        for check in checks:
            if check.value is not None:
                self._check.labels(check.name).set(check.value)
                self._bound.labels(check.name).set(check.bound)

    def count(self, events: Iterable[Event]) -> None:
        """Counts the transitions among what was told."""
        for event in events:
            if event.state in _STATES:
                self.transitions.labels(event.state).inc()
