"""The model server in one process: gRPC with health on one loopback port, /metrics on another, versions behind them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

from schemas.errors import ConfigurationError
from serving.listening import serve_metrics, taken
from serving.model_server.config import ModelSettings
from serving.model_server.metrics import Metrics
from serving.model_server.servable import SavedModel, Servable
from serving.model_server.services import NAMES, ModelService, PredictionService
from serving.model_server.status import Refusal
from serving.model_server.versions import Versions


@dataclass(frozen=True)
class Options:
    """How the server listens and waits.

    Attributes:
        port: of gRPC; 0 takes a free one.
        metrics_port: of /metrics; 0 takes a free one.
        poll_wait_s: seconds between two looks at the base paths; 0 looks at a start and at a reload only.
        allow_labels_for_unavailable: let a new label name a version that is not available yet, as a configuration file
            with labels has to at a start.
        threads: requests in work at once; the others wait in order.
        max_message_bytes: of a request or a response.
        grace_s: what requests in work have left when the server stops.
    """

    host: str = "127.0.0.1"
    port: int = 8500
    metrics_port: int = 8501
    poll_wait_s: float = 1.0
    allow_labels_for_unavailable: bool = False
    threads: int = 16
    max_message_bytes: int = 64 << 20
    grace_s: float = 30.0


class ModelServer:
    """Serves from the end of `start` to `stop`; as a context manager it does both.

    Threads, not asyncio: the session gives up the interpreter's lock while it runs, so that a large batch holds up
    nobody and requests use all cores; an event loop would have to hand every one of them to a thread anyway.
    """

    def __init__(
        self, models: Sequence[ModelSettings], options: Options, load: Callable[[Path], Servable] = SavedModel
    ) -> None:
        self._models = tuple(models)
        self._options = options
        self._versions = Versions(load, options.poll_wait_s, options.allow_labels_for_unavailable)
        self._metrics = Metrics(self._versions.loaded)
        self._health = health.HealthServicer()
        self._server = self._grpc_server()
        self._listening = ExitStack()
        self.address = ""
        self.metrics_address = ""

    def start(self) -> None:
        """Takes its ports, loads what the configuration asks for, and begins to serve; a version that fails is no
        reason not to.

        Raises:
            ConfigurationError: a port is taken, or a base path is not there.
        """
        options = self._options
        try:
            port = self._server.add_insecure_port(f"{options.host}:{options.port}")
        except RuntimeError as error:
            raise taken(options.host, options.port, error) from error
        self.address = f"{options.host}:{port}"
        try:
            self.metrics_address = self._listening.enter_context(
                serve_metrics(self._metrics.registry, options.host, options.metrics_port)
            )
        except ConfigurationError:
            self._server.stop(None)
            raise
        try:
            self._versions.start(self._models)
        except Refusal as refusal:
            self._stop_listening(None)
            raise ConfigurationError(f"the models cannot be served: {refusal}") from refusal
        self._versions.wait_until_settled()
        self._server.start()
        for service in ("", *NAMES):
            self._health.set(service, health_pb2.HealthCheckResponse.SERVING)

    def stop(self) -> None:
        """Takes no more requests, lets those in work end, and unloads everything.

        To a caller the server is then UNAVAILABLE; a request that was on the wire and reached no thread is CANCELLED by
        gRPC, and may be sent again like the others.
        """
        self._health.enter_graceful_shutdown()
        self._stop_listening(self._options.grace_s)
        self._versions.stop(self._options.grace_s)

    def __enter__(self) -> ModelServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _grpc_server(self) -> grpc.Server:
        server = grpc.server(
            ThreadPoolExecutor(self._options.threads, thread_name_prefix="rpc"),
            options=[
                ("grpc.max_receive_message_length", self._options.max_message_bytes),
                ("grpc.max_send_message_length", self._options.max_message_bytes),
                # Two servers on one port would share its requests.
                ("grpc.so_reuseport", 0),
            ],
        )
        prediction = PredictionService(self._versions, self._metrics, time.perf_counter)
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(prediction, server)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(self._versions), server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        return server

    def _stop_listening(self, grace_s: float | None) -> None:
        self._server.stop(grace_s).wait()
        self._listening.close()
