"""The gateway in one process: gRPC with health on one port, /metrics on another, the pipeline behind them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from schemas import scoring_pb2_grpc
from serving.features import FeatureStore
from serving.gateway.door import Door
from serving.gateway.explainer import Explainer
from serving.gateway.metrics import FeatureWindow, Metrics
from serving.gateway.outcomes import Outcomes
from serving.gateway.pipeline import Pipeline
from serving.gateway.ports import Log, Surroundings
from serving.gateway.routes import Routes, Table
from serving.gateway.scorer import Scorer, open_channel
from serving.gateway.service import NAME, ScoringService
from serving.gateway.settings import Settings
from serving.listening import serve_metrics, taken
from serving.rollout.routing import CANARY_LABEL, STABLE_LABEL
from serving.rules import RuleSet

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Parts:
    """What a gateway decides with; opened before and closed after it by who makes them."""

    door: Door
    store: FeatureStore
    log: Log
    table: Table
    rules: RuleSet


@dataclass(frozen=True)
class Addresses:
    """Where a gateway serves."""

    scoring: str
    metrics: str


@contextlib.asynccontextmanager
async def serving(parts: Parts, settings: Settings, surroundings: Surroundings) -> AsyncIterator[Addresses]:
    """Serves inside the context; at its end takes no more calls, and answers those in work.

    Raises:
        ConfigurationError: a port is taken.
        FraudOpsError: a part cannot be read.
    """
    async with contextlib.AsyncExitStack() as stack:
        server = grpc.aio.server(
            # Two servers on one port would share its calls.
            options=[("grpc.so_reuseport", 0)]
        )
        try:
            port = server.add_insecure_port(f"{settings.host}:{settings.port}")
        except RuntimeError as error:
            raise taken(settings.host, settings.port, error) from error
        address = f"{settings.host}:{port}"
        routes = Routes(parts.table, address, parts.store.spec, parts.rules.digest, surroundings.now_us)
        stack.callback(routes.close)
        metrics = Metrics(
            lambda: routes.current,
            parts.rules.digest,
            lambda: pipeline.in_work,
            FeatureWindow(parts.store.spec, settings.feature_window),
        )
        channel = await stack.enter_async_context(open_channel(settings.model_server))
        features_thread = stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="features"))

        def scorer(label: str, stage: str, at_once: int) -> Scorer:
            return Scorer(
                channel,
                settings.model_name,
                label,
                settings.model_deadline_s,
                settings.model_batch,
                at_once,
                metrics.batch(stage),
            )

        pipeline = Pipeline(
            parts.door,
            parts.store,
            features_thread,
            parts.log,
            routes,
            parts.rules,
            scorer(STABLE_LABEL, "stable", settings.model_requests),
            scorer(CANARY_LABEL, "canary", settings.model_requests),
            scorer(CANARY_LABEL, "shadow", 1),
            Explainer(channel, settings.model_name, settings.explain_deadline_s, settings.max_explained),
            settings,
            surroundings,
            metrics,
        )
        outcomes = Outcomes(
            parts.log,
            parts.store,
            features_thread,
            surroundings.now_us,
            settings.max_ahead_s,
            settings.feature_batch,
            metrics,
        )
        await outcomes.catch_up()
        await routes.start()
        following = asyncio.create_task(routes.follow(settings.poll_s))
        stack.push_async_callback(_cancel, following)
        stack.push_async_callback(pipeline.close)
        page = stack.enter_context(serve_metrics(metrics.registry, settings.host, settings.metrics_port))
        healthy = health.aio.HealthServicer()
        service = ScoringService(pipeline, outcomes, metrics)
        scoring_pb2_grpc.add_ScoringServicer_to_server(service, server)
        health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
        await server.start()
        stack.push_async_callback(server.stop, settings.grace_s)
        stack.callback(service.stop)
        for name in ("", NAME):
            await healthy.set(name, health_pb2.HealthCheckResponse.SERVING)
        stack.push_async_callback(healthy.enter_graceful_shutdown)
        yield Addresses(address, page)


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
