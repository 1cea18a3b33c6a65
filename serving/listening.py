"""How parts listen: a taken port is bad input, and /metrics is served the same way by all of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, start_http_server

from schemas.errors import ConfigurationError


def taken(host: str, port: int, error: Exception) -> ConfigurationError:
    """What to raise where a port cannot be listened on."""
    return ConfigurationError(f"{host}:{port} cannot be listened on ({error}); name another port, or 0 for a free one")


@contextmanager
def serve_metrics(registry: CollectorRegistry, host: str, port: int) -> Iterator[str]:
    """Serves /metrics inside the context, and gives its address.

    Args:
        port: 0 takes a free one.

    Raises:
        ConfigurationError: the port is taken.
    """
    try:
        web, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise taken(host, port, error) from error
    try:
        yield f"http://{host}:{web.server_port}/metrics"
    finally:
        web.shutdown()
        web.server_close()
        thread.join()
