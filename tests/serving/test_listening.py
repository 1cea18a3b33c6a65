"""/metrics, served and taken."""

from __future__ import annotations

import re
import urllib.error
import urllib.request

import pytest
from prometheus_client import CollectorRegistry, Gauge

from schemas.errors import ConfigurationError
from serving.listening import serve_metrics


def test_metrics_are_served_inside_the_context_and_no_longer():
    registry = CollectorRegistry()
    Gauge("answer", "of everything", registry=registry).set(42)
    with serve_metrics(registry, "127.0.0.1", 0) as address:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/metrics", address)
        with urllib.request.urlopen(address) as page:
            assert b"answer 42.0" in page.read()
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(address)


def test_a_taken_port_is_named():
    with serve_metrics(CollectorRegistry(), "127.0.0.1", 0) as address:
        port = int(address.rsplit(":")[-1].split("/")[0])
        with (
            pytest.raises(ConfigurationError, match=rf"127\.0\.0\.1:{port} cannot be listened on"),
            serve_metrics(CollectorRegistry(), "127.0.0.1", port),
        ):
            pass
