"""What /metrics shows of the gateway: its calls, its decisions, and the features that live traffic has."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from schemas.decision import Arm, Outcome
from schemas.features import FeatureSpec
from schemas.scoring_pb2 import Decision, Degraded
from serving.features import Features
from serving.gateway.routes import Route

_SECONDS = (0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 5.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64)
_NO_VERSION = ""


class Metrics:
    """Counters of one gateway, in a registry of their own.

    Args:
        route: the routing that is followed, asked at every scrape.
        rules_digest: of the gateway's rules.
        waiting: how many transactions are in work, asked at every scrape.
        features: the window over live traffic.
    """

    def __init__(
        self,
        route: Callable[[], Route],
        rules_digest: str,
        waiting: Callable[[], int],
        features: FeatureWindow,
    ) -> None:
        self.registry = CollectorRegistry()
        self.features = features
        self.calls = Counter(
            "fraudops_gateway_calls", "Calls ended, by gRPC status.", ["method", "code"], registry=self.registry
        )
        self._decisions = Counter(
            "fraudops_gateway_decisions",
            "Decisions made; a transaction that comes again is not counted again.",
            ["outcome", "arm", "version"],
            registry=self.registry,
        )
        self._degraded = Counter(
            "fraudops_gateway_degraded",
            "Decisions that were not made as they should have been.",
            ["cause", "fallback"],
            registry=self.registry,
        )
        self._latency = Histogram(
            "fraudops_gateway_decision_seconds",
            "From the arrival of a transaction until its decision is in the log.",
            ["arm", "version"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._model_latency = Histogram(
            "fraudops_gateway_model_seconds",
            "Requests to the model server that answered, as each transaction in them saw it.",
            ["arm", "version"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._batches = Histogram(
            "fraudops_gateway_batch_size",
            "Items that a stage took at once.",
            ["stage"],
            buckets=_SIZES,
            registry=self.registry,
        )
        self._shadows = Counter(
            "fraudops_gateway_shadow_outcomes",
            "What the candidate said aside, beside what was decided.",
            ["version", "decided", "outcome"],
            registry=self.registry,
        )
        self._shadow_failures = Counter(
            "fraudops_gateway_shadow_failures",
            "Transactions on which the candidate said nothing aside.",
            ["version", "cause"],
            registry=self.registry,
        )
        self.shadows_dropped = Counter(
            "fraudops_gateway_shadows_dropped",
            "Transactions that the candidate was not asked about, because too many waited.",
            registry=self.registry,
        )
        self._unexplained = Counter(
            "fraudops_gateway_unexplained",
            "Decisions without the reasons of the model whose score asked for them.",
            ["version", "cause"],
            registry=self.registry,
        )
        self.labels = Counter("fraudops_gateway_labels", "Outcomes recorded.", ["is_fraud"], registry=self.registry)
        self.registry.register(_State(route, rules_digest, waiting))
        self.registry.register(features)

    def batch(self, stage: str) -> Callable[[int], None]:
        """What a stage tells its sizes to."""
        return self._batches.labels(stage).observe

    def decided(self, decision: Decision, took_s: float, model_s: float | None) -> None:
        """Counts a decision.

        Args:
            took_s: of the whole call.
            model_s: of the request to the model that decided; None where none did.
        """
        arm = Arm(decision.arm).name
        version = str(decision.model.version) if decision.HasField("model") else _NO_VERSION
        self._decisions.labels(Outcome(decision.outcome).name, arm, version).inc()
        self._latency.labels(arm, version).observe(took_s)
        if model_s is not None:
            self._model_latency.labels(arm, version).observe(model_s)
        if decision.HasField("degraded"):
            degraded = decision.degraded
            self._degraded.labels(Degraded.Cause.Name(degraded.cause), Degraded.Fallback.Name(degraded.fallback)).inc()

    def unexplained(self, version: int, cause: str) -> None:
        """Counts a decision without its model's reasons."""
        self._unexplained.labels(str(version), cause).inc()

    def shadowed(self, version: int, decided: Outcome, outcome: Outcome) -> None:
        """Counts what a candidate said aside."""
        self._shadows.labels(str(version), decided.name, outcome.name).inc()

    def shadow_failed(self, version: int, cause: str) -> None:
        """Counts a candidate's silence."""
        self._shadow_failures.labels(str(version), cause).inc()


class FeatureWindow(Collector):
    """Mean and missing share of each numeric feature over the latest transactions; computed when they are asked for.

    Args:
        spec: what the feature store computes.
        size: how many transactions.
    """

    def __init__(self, spec: FeatureSpec, size: int) -> None:
        self._names = [
            i.name if i.width == 1 else f"{i.name}[{place}]" for i in spec.numeric for place in range(i.width)
        ]
        self._rows = np.empty((size, len(self._names)))
        self._seen = 0
        # Rows are written by the event loop and read by the thread of a scrape.
        self._lock = threading.Lock()

    def add(self, features: Features) -> None:
        """Takes the place of the oldest."""
        with self._lock:
            self._rows[self._seen % len(self._rows)] = features.numbers
            self._seen += 1

    def collect(self) -> Iterable[Metric]:
        """See `Collector`."""
        with self._lock:
            rows = self._rows[: self._seen].copy()
        size = GaugeMetricFamily(
            "fraudops_gateway_feature_window", "Transactions that the feature gauges look back on.", len(rows)
        )
        mean = GaugeMetricFamily(
            "fraudops_gateway_feature_mean", "Mean of a feature over its latest values.", labels=["feature"]
        )
        missing = GaugeMetricFamily(
            "fraudops_gateway_feature_missing_share", "Share of the latest without a value.", labels=["feature"]
        )
        if len(rows):
            there = np.count_nonzero(~np.isnan(rows), axis=0)
            means = np.divide(np.nansum(rows, axis=0), there, out=np.full(len(there), np.nan), where=there > 0)
            for name, value, share in zip(self._names, means, 1 - there / len(rows), strict=True):
                mean.add_metric([name], float(value))
                missing.add_metric([name], float(share))
        return size, mean, missing


class _State(Collector):
    def __init__(self, route: Callable[[], Route], rules_digest: str, waiting: Callable[[], int]) -> None:
        self._route = route
        self._rules_digest = rules_digest
        self._waiting = waiting

    def collect(self) -> Iterable[Metric]:
        route = self._route()
        yield GaugeMetricFamily(
            "fraudops_gateway_generation", "Of the rollout table, as it is followed.", route.routing.generation
        )
        yield GaugeMetricFamily("fraudops_gateway_in_work", "Transactions that are being decided.", self._waiting())
        rules = GaugeMetricFamily(
            "fraudops_gateway_rules_differ",
            "1 where a version was made to decide beside other rules than the gateway's.",
            labels=["version"],
        )
        unusable = GaugeMetricFamily(
            "fraudops_gateway_unusable", "1 for a version whose inputs cannot be computed.", labels=["version"]
        )
        for served in (route.routing.stable, route.routing.candidate):
            if served is not None:
                rules.add_metric([str(served.version)], float(served.bundle.rules_digest != self._rules_digest))
                unusable.add_metric([str(served.version)], float(served.version in route.unusable))
        yield rules
        yield unusable
