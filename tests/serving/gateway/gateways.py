"""A gateway in this process, with real parts but for the models, which say what a test tells them to."""

from __future__ import annotations

import asyncio
import functools
import itertools
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from schemas import scoring_pb2, sources, tf_serving_pb2
from schemas.bundle import Bundle
from schemas.features import FeatureSpec, specify
from schemas.reasons import VERSION
from schemas.scoring_pb2_grpc import ScoringStub
from schemas.thresholds import Thresholds
from serving import rules
from serving.decisions.log import DecisionLog
from serving.features import TableFeatureStore
from serving.gateway.door import Door
from serving.gateway.ports import Surroundings
from serving.gateway.server import Addresses, Parts, serving
from serving.gateway.settings import Settings
from serving.rollout.routing import Routing, Served
from serving.rollout.table import RolloutTable

BOUND_S = 60
MAPPING = sources.load("simulated")
SPEC = specify(MAPPING.provided)
NO_RULES = rules.RuleSet(())
# Long enough for a machine under load, where a test is not about being late.
PATIENT = Settings(
    "", port=0, metrics_port=0, model_deadline_s=BOUND_S, features_deadline_s=BOUND_S, poll_s=0.02, grace_s=BOUND_S
)


def asynchronous(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Runs a test on a loop of its own, with a bound."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(asyncio.wait_for(test(*args, **kwargs), BOUND_S))

    return run


async def eventually(condition: Callable[[], bool]) -> None:
    """Waits until a condition holds; the test's bound is its bound."""
    while not condition():
        await asyncio.sleep(0.01)


def served(
    version: int,
    review: float | None = 0.5,
    block: float | None = 0.9,
    spec: FeatureSpec = SPEC,
    rules_digest: str = NO_RULES.digest,
) -> Served:
    return Served(version, Bundle(spec, Thresholds(review, block, 0.01, 0.5), rules_digest, VERSION))


_numbers = itertools.count()


def transaction(**changes: Any) -> scoring_pb2.Transaction:
    """A payment of now; None leaves a field out."""
    fields: dict[str, Any] = {
        "transaction_id": f"t{next(_numbers)}",
        "event_time": time.time_ns() // 1_000,
        "card_id": "card",
        "merchant_id": "merchant",
        "amount_minor": 1_000,
        "currency": "EUR",
        **changes,
    }
    return scoring_pb2.Transaction(**{name: value for name, value in fields.items() if value is not None})


Say = Callable[[tf_serving_pb2.PredictRequest], Awaitable[float]]


def says(score: float) -> Say:
    """Answers with one score."""

    async def answer(request: tf_serving_pb2.PredictRequest) -> float:
        return score

    return answer


def fails(code: grpc.StatusCode) -> Say:
    """Answers with a status."""

    async def answer(request: tf_serving_pb2.PredictRequest) -> float:
        raise Fault(code)

    return answer


class Fault(Exception):
    def __init__(self, code: grpc.StatusCode) -> None:
        super().__init__(code.name)
        self.code = code


@dataclass
class Models:
    """A model server.

    Attributes:
        say: what each version answers.
        labels: what each label stands for.
        requests: all that were asked, by the label or number they asked for.
        rows: how many scores it gives for how many rows.
        explain: attributions of one row; None where the versions have no such signature.
        explained: versions that were asked for attributions.
    """

    say: dict[int, Say]
    labels: dict[str, int]
    requests: list[tuple[str, tf_serving_pb2.PredictRequest]] = field(default_factory=list)
    rows: Callable[[int], int] = lambda rows: rows
    explain: Callable[[], Awaitable[list[float]]] | None = None
    explained: list[int] = field(default_factory=list)

    async def Predict(self, request: tf_serving_pb2.PredictRequest, context: Any) -> tf_serving_pb2.PredictResponse:
        spec = request.model_spec
        if spec.signature_name == "explain":
            return await self._explain(request, context)
        asked = spec.version_label or str(spec.version.value)
        self.requests.append((asked, request))
        assert (spec.name, spec.signature_name) == ("fraud", "score_packed")
        version = self.labels.get(spec.version_label, -1) if spec.version_label else spec.version.value
        if spec.version_label and version < 0:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"Unrecognized servable version label: {asked}")
        if version not in self.say:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no version {version}")
        try:
            score = await self.say[version](request)
        except Fault as fault:
            await context.abort(fault.code, "told to fail")
        response = tf_serving_pb2.PredictResponse()
        response.model_spec.name = "fraud"
        response.model_spec.version.value = version
        rows = request.inputs["numeric"].tensor_shape.dim[0].size
        response.outputs["score"].float_val.extend([score] * self.rows(rows))
        return response

    async def _explain(self, request: tf_serving_pb2.PredictRequest, context: Any) -> tf_serving_pb2.PredictResponse:
        self.explained.append(request.model_spec.version.value)
        assert list(request.output_filter) == ["attributions"]
        if self.explain is None:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, 'Serving signature key "explain" not found.')
            raise AssertionError("abort raises")
        response = tf_serving_pb2.PredictResponse()
        response.outputs["attributions"].float_val.extend(await self.explain())
        return response

    def asked(self) -> list[str]:
        return [asked for asked, _ in self.requests]


def numeric(request: tf_serving_pb2.PredictRequest) -> np.ndarray:
    tensor = request.inputs["numeric"]
    return np.frombuffer(tensor.tensor_content, np.float32).reshape([dim.size for dim in tensor.tensor_shape.dim])


@asynccontextmanager
async def model_server(models: Models, port: int = 0) -> AsyncIterator[int]:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    predict = grpc.unary_unary_rpc_method_handler(
        models.Predict,
        request_deserializer=tf_serving_pb2.PredictRequest.FromString,
        response_serializer=tf_serving_pb2.PredictResponse.SerializeToString,
    )
    service = grpc.method_handlers_generic_handler("tensorflow.serving.PredictionService", {"Predict": predict})
    server.add_generic_rpc_handlers((service,))
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield bound
    finally:
        await server.stop(None)


@dataclass
class Gateway:
    """A gateway that runs, and what it decides with."""

    stub: Any
    addresses: Addresses
    parts: Parts
    log: DecisionLog
    table: RolloutTable
    models: Models

    async def score(self, message: scoring_pb2.Transaction | None = None, **changes: Any) -> scoring_pb2.Decision:
        decision: scoring_pb2.Decision = await self.stub.Score(message or transaction(**changes), timeout=BOUND_S)
        return decision

    async def refused(self, method: Any, request: Any, timeout: float = BOUND_S) -> tuple[grpc.StatusCode, str, str]:
        """Code, message and named field of a call that must fail."""
        try:
            await method(request, timeout=timeout)
        except grpc.aio.AioRpcError as error:
            metadata = dict(error.trailing_metadata() or ())
            return error.code(), error.details() or "", str(metadata.get("field", ""))
        raise AssertionError("the call was answered")

    async def route(self, routing: Routing) -> None:
        """Publishes a routing and waits until the gateway follows it."""
        published = self.table.publish(routing)
        await eventually(lambda: {one.generation for one in self.table.gateways()} == {published.generation})

    def metric(self, name: str, **labels: str) -> float | None:
        """The sum of the samples of /metrics with a name and these labels; None without any."""
        with urllib.request.urlopen(self.addresses.metrics, timeout=BOUND_S) as page:
            families = list(text_string_to_metric_families(page.read().decode()))
        found = [s.value for f in families for s in f.samples if s.name == name and labels.items() <= s.labels.items()]
        return sum(found) if found else None


@contextmanager
def opened(folder: Path, rule_set: rules.RuleSet = NO_RULES) -> Iterator[tuple[Parts, DecisionLog, RolloutTable]]:
    with (
        closing(TableFeatureStore.embedded(folder / "features.sqlite", SPEC)) as store,
        closing(DecisionLog(folder / "decisions.sqlite")) as log,
        closing(RolloutTable(folder / "rollout.sqlite")) as table,
    ):
        yield Parts(Door(MAPPING, None), store, log, table, rule_set), log, table


@asynccontextmanager
async def gateway(
    folder: Path,
    routing: Routing | None = None,
    models: Models | None = None,
    settings: Settings = PATIENT,
    rule_set: rules.RuleSet = NO_RULES,
    chance: float = 0.0,
    change: Callable[[Parts], Parts] = lambda parts: parts,
) -> AsyncIterator[Gateway]:
    """A gateway with version 1 as stable, unless told otherwise."""
    models = models or Models({1: says(0.1)}, {"stable": 1})
    surroundings = Surroundings(
        lambda: time.time_ns() // 1_000, time.monotonic, lambda: chance, lambda: f"d{next(_numbers)}"
    )
    with opened(folder, rule_set) as (parts, log, table):
        table.publish(routing or Routing(0, served(1)))
        parts = change(parts)
        async with (
            model_server(models) as port,
            serving(parts, replace(settings, model_server=f"127.0.0.1:{port}"), surroundings) as addresses,
            grpc.aio.insecure_channel(addresses.scoring) as channel,
        ):
            yield Gateway(ScoringStub(channel), addresses, parts, log, table, models)


class Gated:
    """An answer that waits until it is let go.

    Attributes:
        entered: how many requests have come so far.
    """

    def __init__(self, score: float) -> None:
        self._score = score
        self._open = asyncio.Event()
        self.entered = 0

    def let_go(self) -> None:
        self._open.set()

    async def __call__(self, request: tf_serving_pb2.PredictRequest) -> float:
        self.entered += 1
        await self._open.wait()
        return self._score
