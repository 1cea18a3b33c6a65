"""The feature store: reading all features of a transaction and adding it, one after another, with many keys present.

A store is loaded from a simulated log and observes what follows in it, as a gateway asks it to, without the gateway.
What is timed is `observe` alone, then `label` by itself.  No transaction waits for another: what the stores do for
several gateways at once is not in these figures.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from components import simulator
from pipelines.benchmarks import logs
from pipelines.benchmarks.comparison import Contest, Result, Timing
from pipelines.replay import events, load_store
from schemas.errors import BenchmarkError, FeatureStoreError
from schemas.features import KEYS, FeatureSpec, specify
from schemas.sources import SourceMapping
from schemas.transaction import DAY_S, SECOND_US
from serving.features import EmbeddedStore, RedisStore, TableFeatureStore
from serving.features.opening import StoreAddress
from serving.features.replay import replay

GOAL = "p99 under 2 ms embedded and under 5 ms with Redis, at 1,000,000 keys"
HISTORY_DAYS = 12

_KEYS_PER_CARD = 17.5
_LABELS = 2_000
_WAIT_S, _WAITS = 0.05, 600
_NAME = "bench"


@dataclass(frozen=True)
class Pace:
    """How long one store took over each of many questions.

    Attributes:
        store: which.
        load_s: seconds of loading the history.
        bytes: what the store then takes, of the disk or of the server's memory.
        observe_ms: of reading and adding a transaction, by percentile.
        label_ms: of adding a label, by percentile.
    """

    store: str
    load_s: float
    bytes: int
    observe_ms: Mapping[str, float]
    label_ms: Mapping[str, float]


@dataclass(frozen=True)
class OnlineFeaturesResult(Result):
    """The contest of the stores, and the pace of each."""

    paces: tuple[Pace, ...] = ()

    def fields(self) -> dict[str, object]:
        """As `Result`, with `paces`."""
        return super().fields() | {"paces": [asdict(pace) for pace in self.paces]}


class _Timed:
    """A store with a watch, as far as a replay asks it."""

    def __init__(self, store: TableFeatureStore) -> None:
        self._store = store
        self.observe_s: list[float] = []
        self.label_s: list[float] = []

    def observe(self, transaction: Mapping[str, Any]) -> Any:
        began = time.perf_counter()
        features = self._store.observe(transaction)
        self.observe_s.append(time.perf_counter() - began)
        return features

    def label(self, transaction: Mapping[str, Any], is_fraud: bool, label_time: int) -> None:
        began = time.perf_counter()
        self._store.label(transaction, is_fraud, label_time)
        self.label_s.append(time.perf_counter() - began)


def benchmark(
    keys: int, transactions: int, redis_url: str | None, folder: Path, say: Callable[[str], None]
) -> OnlineFeaturesResult:
    """Times the embedded store, and one in Redis beside it where there is a server.

    Args:
        keys: about so many are there before the first transaction.
        transactions: that are observed.
        redis_url: of a server; without it one is started where its program is installed.
        folder: for what is written on the way.
        say: told what is being done.

    Raises:
        BenchmarkError: the simulated log has fewer transactions than are asked for.
        FeatureStoreError: the server does not answer.
    """
    say("simulating")
    log, mapping = _log(keys, folder)
    spec = specify(mapping.provided)
    times_us = log["event_time"].cast(pa.int64()).to_numpy()
    cut = int(np.searchsorted(times_us, times_us[0] + HISTORY_DAYS * DAY_S * SECOND_US))
    history, following = log.slice(0, cut), log.slice(cut, transactions)
    if following.num_rows < transactions:
        raise BenchmarkError(
            f"only {following.num_rows:,} transactions follow those of {keys:,} keys; ask for fewer than "
            f"{transactions:,}, or for more keys"
        )
    paces, timings = [], {}
    with _redis(redis_url, folder) as url:
        addresses: dict[str, StoreAddress] = {"embedded": EmbeddedStore(folder / "store.sqlite")}
        if url is None:
            say("redis-server is not installed, so that the embedded store is timed alone")
        else:
            addresses["redis"] = RedisStore(url, _NAME)
        for name, address in addresses.items():
            say(f"loading {history.num_rows:,} transactions into the {name} store")
            pace, timings[name] = _pace(name, address, history, following, spec)
            paces.append(pace)
    ours, *peers = timings
    contest = Contest(timings[ours], {name: timings[name] for name in peers})
    facts = {"keys": _count_keys(history, spec), "history_rows": history.num_rows, "features": len(spec.features)}
    return OnlineFeaturesResult("online-features", contest, GOAL, False, facts=facts, paces=tuple(paces))


def _log(keys: int, folder: Path) -> tuple[pa.Table, SourceMapping]:
    path = folder / "log.parquet"
    simulator.write(simulator.simulate(max(1, round(keys / _KEYS_PER_CARD)), HISTORY_DAYS + 1, logs.SEED), path)
    return logs.read(path, "simulated", None)


def _count_keys(history: pa.Table, spec: FeatureSpec) -> int:
    """How many keys have state after a history, of all kinds together."""
    kinds = {feature.key for feature in spec.features}
    return sum(
        history.select(columns).drop_null().group_by(list(columns)).aggregate([]).num_rows
        for kind, columns in KEYS.items()
        if kind in kinds
    )


def _pace(
    name: str, address: StoreAddress, history: pa.Table, following: pa.Table, spec: FeatureSpec
) -> tuple[Pace, Timing]:
    began = time.perf_counter()
    load_store(history, address, spec)
    load_s = time.perf_counter() - began
    used = _used(address)
    store = address.open(spec)
    with address.upkeep():
        try:
            timed = _Timed(store)
            began = time.perf_counter()
            for _ in replay(timed, events(following, spec, "observing")):
                pass
            whole_s = time.perf_counter() - began
            known_us = following["event_time"][-1].cast(pa.int64()).as_py()
            for transaction in events(following.slice(0, _LABELS), spec, "labelling"):
                timed.label(transaction, False, known_us)
        finally:
            store.close()
    pace = Pace(name, load_s, used, _percentiles(timed.observe_s), _percentiles(timed.label_s))
    return pace, Timing(following.num_rows, whole_s, (sum(timed.observe_s),))


def _used(address: StoreAddress) -> int:
    if isinstance(address, EmbeddedStore):
        return address.path.stat().st_size
    from redis import Redis

    with Redis.from_url(address.url) as client:
        return int(client.info("memory")["used_memory"])


def _percentiles(took_s: Sequence[float]) -> dict[str, float]:
    if not took_s:
        return {}
    milliseconds = np.array(took_s) * 1_000
    return {f"p{share:g}": float(np.percentile(milliseconds, share)) for share in (50, 99, 99.9)}


@contextmanager
def _redis(url: str | None, folder: Path) -> Iterator[str | None]:
    """The URL of a server: of the one that is named, or of a new one that ends with the context; None without one."""
    program = shutil.which("redis-server")
    if url is not None or program is None:
        yield url
        return
    from redis import Redis
    from redis.backoff import ConstantBackoff
    from redis.exceptions import BusyLoadingError, ConnectionError, RedisError
    from redis.retry import Retry

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    # State that must survive a crash goes to an append-only file; so it does here, synchronised every second.
    command = [program, "--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder), "--save", ""]
    command += ["--appendonly", "yes", "--logfile", str(folder / "redis.log")]
    patient = Retry(ConstantBackoff(_WAIT_S), _WAITS, (ConnectionError, BusyLoadingError))
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as running:
        try:
            with Redis(port=port, retry=patient) as client:
                client.ping()
            yield f"redis://127.0.0.1:{port}/0"
        except RedisError as error:
            raise FeatureStoreError(f"{program} does not answer: {error}; see whether it starts by hand") from error
        finally:
            running.terminate()
