"""What /metrics shows of the model server."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_LABELS = ("model", "version", "signature")
_LATENCY_BUCKETS_S = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)


class Metrics:
    """Counters of `Predict` by model, version and signature, "" where a request found none, and what is loaded."""

    def __init__(self, loaded: Callable[[], Iterable[tuple[str, int]]]) -> None:
        """`loaded` gives model and number of the available versions; it is asked at every scrape."""
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "fraudops_model_server_requests", "Predict requests answered.", _LABELS, registry=self.registry
        )
        self.errors = Counter(
            "fraudops_model_server_errors", "Predict requests refused.", [*_LABELS, "code"], registry=self.registry
        )
        self.latency = Histogram(
            "fraudops_model_server_latency_seconds",
            "From the first look at a Predict request to its response, without the queue and the network.",
            _LABELS,
            buckets=_LATENCY_BUCKETS_S,
            registry=self.registry,
        )
        self.registry.register(_Loaded(loaded))


class _Loaded(Collector):
    def __init__(self, loaded: Callable[[], Iterable[tuple[str, int]]]) -> None:
        self._loaded = loaded

    def collect(self) -> Iterable[Metric]:
        gauge = GaugeMetricFamily(
            "fraudops_model_server_loaded", "1 for each version that is available.", labels=["model", "version"]
        )
        for model, version in self._loaded():
            gauge.add_metric([model, str(version)], 1)
        yield gauge
