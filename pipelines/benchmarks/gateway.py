"""The gateway: calls of `Score` from the wire to the decision log and back, beside the model server that it asks.

Gateway and model server are processes of their own on this machine, with this client beside them.  A model is trained
for them on the first part of a simulated log, the feature store is warm from it, and the transactions behind it are
sent.  A client that offers a rate counts from when a transaction was due (`serving/load.py`).

The peers answer the model's part of the question alone, asked from here by the gateway's own code for it: row by row,
as a client without a gateway would ask, and in batches, as the gateway asks.  Features, rules and the decision log are
what the gateway does besides.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path

import pyarrow as pa
import tensorflow_transform as tft

from components.examples import write_examples
from components.features import compute_features
from components.splits import SplitConfig
from components.trainer import ThresholdConfig, TrainingConfig, train_and_export
from pipelines.benchmarks import logs
from pipelines.benchmarks.comparison import Contest, Result, Timing
from pipelines.benchmarks.processes import process
from pipelines.benchmarks.training_input import analyze
from pipelines.replay import load_store
from pipelines.scoring import rows
from pipelines.workspace import Workspace
from schemas.bundle import Bundle
from schemas.errors import BenchmarkError
from schemas.features import FeatureSpec, specify
from schemas.sources import SourceMapping
from schemas.versions import MODEL_NAME
from serving import rules
from serving.client import AsyncClient
from serving.features import EmbeddedStore, Features, TableFeatureStore
from serving.features.replay import Arrival, replay
from serving.gateway.scorer import Question, Scorer, open_channel
from serving.inputs import Packer
from serving.load import Tally, paced, send_log
from serving.rollout.desired import Desired
from serving.rollout.model_servers import config, write_config
from serving.rollout.routing import STABLE_LABEL, Routing, Served
from serving.rollout.table import RolloutTable

GOAL = "p99 under 10 ms at 500 transactions/s, open loop, without an error"
CLOSED_LOOPS = (16, 64)

_HISTORY_ROWS = 30_000
_VERSION = 1
_WARM_UP_S = 2.0
_WARM_UP_CALLS = 500
_OPEN_LOOP_IN_FLIGHT = 1_000
# So that no peer waits for features: as many rows as these come in turns.
_PEER_ROWS = 1_000
_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Load:
    """How the gateway did under one load.

    Attributes:
        offered_per_s: transactions that were due in a second; None in a closed loop.
        in_flight: calls under way at most.
        calls: that count.
        errors: calls without a decision.
        degraded: decisions that were not made as they should have been.
        rate_per_s: calls that ended in a second.
        p50_ms: the time that half of the calls did not exceed.
        p99_ms: 99 of 100.
        p999_ms: 999 of 1,000.
    """

    offered_per_s: float | None
    in_flight: int
    calls: int
    errors: int
    degraded: int
    rate_per_s: float
    p50_ms: float
    p99_ms: float
    p999_ms: float


@dataclass(frozen=True)
class GatewayResult(Result):
    """The contest at the larger closed loop, and every load by itself."""

    loads: tuple[Load, ...] = ()

    def fields(self) -> dict[str, object]:
        """As `Result`, with `loads`."""
        return super().fields() | {"loads": [asdict(load) for load in self.loads]}


def benchmark(
    rates: Sequence[float], seconds: float, calls: int, folder: Path, say: Callable[[str], None]
) -> GatewayResult:
    """Sends open loops at rising rates, then closed loops, then asks the model server alone.

    Args:
        rates: transactions per second of the open loops.
        seconds: of each open loop, behind a warm-up of two seconds.
        calls: of each closed loop, and of each peer.
        folder: an empty one, for the model and the workspace.
        say: told what begins.

    Raises:
        BenchmarkError: a process does not start, or decisions are made without the model.
    """
    ahead = sum(round(rate * (seconds + _WARM_UP_S)) for rate in rates) + len(CLOSED_LOOPS) * (calls + _WARM_UP_CALLS)
    transactions, mapping = logs.simulated(round((_HISTORY_ROWS + ahead) * 1.1))
    history, live = (
        transactions.slice(0, _HISTORY_ROWS),
        transactions.slice(_HISTORY_ROWS).drop_columns(["amount_base_minor", "is_fraud", "label_time"]),
    )
    spec = specify(mapping.provided)
    workspace = Workspace.at(folder / "workspace")
    say(f"training a model on {history.num_rows:,} transactions")
    saved_model = workspace.served_models / MODEL_NAME / str(_VERSION)
    train(history, mapping, spec, saved_model, folder)
    say("warming the feature store")
    load_store(history, EmbeddedStore(workspace.feature_store(mapping.source)), spec)
    questions = ask_for(features_of(live.slice(0, _PEER_ROWS), spec), spec)
    say("starting model server and gateway")
    with ExitStack() as stack:
        model_server, gateway = stack.enter_context(serving(workspace, mapping.source, saved_model, folder))
        # What was made so far stays; the collector need not look through it while calls are timed.
        gc.collect()
        gc.freeze()
        stack.callback(gc.unfreeze)
        return asyncio.run(_measured(gateway, model_server, live, questions, rates, seconds, calls, say))


def train(history: pa.Table, mapping: SourceMapping, spec: FeatureSpec, destination: Path, folder: Path) -> None:
    """Trains a network of the default size for an epoch, which costs as much to ask as one that has learnt all."""
    examples = folder / "examples"
    features = compute_features(history, spec)
    write_examples(examples, history, features.to_batches(), spec, SplitConfig(), mapping.label_delay_s)
    analyze(examples, spec)
    destination.parent.mkdir(parents=True)
    train_and_export(
        examples,
        spec,
        tft.TFTransformOutput(str(examples / "transform_graph")),
        TrainingConfig(epochs=1),
        ThresholdConfig(),
        rules.load(None).digest,
        destination,
        folder / "logs",
    )


def features_of(transactions: pa.Table, spec: FeatureSpec) -> list[Features]:
    """Features as the gateway would compute them with an empty store."""
    store = TableFeatureStore.in_memory(spec)
    try:
        return list(replay(store, rows(transactions)))
    finally:
        store.close()


def ask_for(features: Sequence[Features], spec: FeatureSpec) -> list[Question]:
    """The model's part of the work on transactions of these features."""
    packer = Packer(spec, spec)
    return [Question(one, packer, _VERSION) for one in features]


@contextmanager
def serving(workspace: Workspace, source: str, saved_model: Path, folder: Path) -> Iterator[tuple[str, str]]:
    """Model server and gateway as processes, with the model as the stable version; gives their addresses."""
    desired = Desired(versions=frozenset({_VERSION}), labels={STABLE_LABEL: _VERSION})
    write_config(workspace.models_config, config(desired, MODEL_NAME, saved_model.parent))
    table = RolloutTable(workspace.rollout)
    try:
        table.publish(Routing(0, stable=Served(_VERSION, Bundle.read(saved_model))))
    finally:
        table.close()
    models = ["--model-config-file", str(workspace.models_config), "--allow-version-labels-for-unavailable-models"]
    with (
        process("model-server", models, folder) as model_server,
        process(
            "gateway",
            ["--source", source, "--workspace", str(workspace.root), "--model-server", model_server],
            folder,
        ) as gateway,
    ):
        yield model_server, gateway


async def _measured(
    gateway: str,
    model_server: str,
    live: pa.Table,
    questions: Sequence[Question],
    rates: Sequence[float],
    seconds: float,
    calls: int,
    say: Callable[[str], None],
) -> GatewayResult:
    remaining = (Arrival(row["event_time"], row, is_label=False) for row in rows(live))
    loads: list[Load] = []
    async with AsyncClient(gateway, _TIMEOUT_S) as client:

        async def send(count: int, in_flight: int, rate: float | None) -> tuple[Load, float]:
            tally = Tally()
            began = time.perf_counter()
            await send_log(client, islice(remaining, count), tally.add, in_flight, rate)
            took = time.perf_counter() - began
            return _load(tally, took, in_flight, rate), took

        # The first calls open connections and fill caches.
        first, first_s = await send(_WARM_UP_CALLS, CLOSED_LOOPS[0], None)
        if 2 * (first.errors + first.degraded) > first.calls:
            raise BenchmarkError(
                f"of the first {first.calls} calls {first.errors} failed and {first.degraded} were decided without the "
                "model; look whether the machine is busy with something else"
            )
        for rate in rates:
            say(f"open loop, {rate:g} transactions/s for {seconds:g} s")
            await send(round(rate * _WARM_UP_S), _OPEN_LOOP_IN_FLIGHT, rate)
            loads.append((await send(round(rate * seconds), _OPEN_LOOP_IN_FLIGHT, rate))[0])
        ours = {}
        for in_flight in CLOSED_LOOPS:
            say(f"closed loop, {in_flight} in flight, {calls:,} calls")
            load, took = await send(calls, in_flight, None)
            loads.append(load)
            ours[in_flight] = Timing(calls, first_s, (took,))
    contests = {}
    for in_flight in CLOSED_LOOPS:
        say(f"the model server alone, {in_flight} in flight, {calls:,} calls")
        peers = {
            "model_server_row_by_row": await _model_alone(model_server, questions, calls, in_flight, 1, in_flight),
            "model_server_in_batches": await _model_alone(model_server, questions, calls, in_flight, 64, 2),
        }
        contests[in_flight] = Contest(ours[in_flight], peers)
    *smaller, largest = CLOSED_LOOPS
    return GatewayResult(
        "gateway",
        contests[largest],
        GOAL,
        file_reading=False,
        further={f"in_flight_{in_flight}": contests[in_flight] for in_flight in smaller},
        facts={"in_flight": largest, "features": questions[0].packer.widths[0] + questions[0].packer.widths[1]},
        loads=tuple(loads),
    )


async def _model_alone(
    model_server: str, questions: Sequence[Question], calls: int, in_flight: int, most: int, at_once: int
) -> Timing:
    async with open_channel(model_server) as channel:
        scorer = Scorer(channel, MODEL_NAME, STABLE_LABEL, _TIMEOUT_S, most, at_once)

        async def ask(question: Question, due: float) -> None:
            await scorer.ask(question)

        async def took(count: int) -> float:
            began = time.perf_counter()
            await paced(((None, question) for question in islice(cycle(questions), count)), ask, in_flight)
            return time.perf_counter() - began

        return Timing(calls, await took(_WARM_UP_CALLS), (await took(calls),))


def _load(tally: Tally, seconds: float, in_flight: int, rate: float | None) -> Load:
    p50, p99, p999 = tally.latency_ms(0.5, 0.99, 0.999)
    return Load(
        offered_per_s=rate,
        in_flight=in_flight,
        calls=len(tally.latencies_s),
        errors=sum(tally.errors.values()),
        degraded=sum(tally.degraded.values()),
        rate_per_s=len(tally.latencies_s) / seconds,
        p50_ms=p50,
        p99_ms=p99,
        p999_ms=p999,
    )
