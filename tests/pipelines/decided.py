"""A gateway's work without one: a store that was loaded from a log, asked about what follows, and a decision log."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from components import simulator
from components.ingest import ingest
from schemas import sources
from schemas.features import FeatureSpec, specify
from schemas.transaction import SECOND_US
from serving.decisions.log import DecisionLog
from serving.features import Features, TableFeatureStore
from serving.features.loading import load
from serving.features.replay import arrivals
from tests.serving.decisions.entries import entry
from tests.serving.features.replays import events

MAPPING = sources.load("simulated")
SPEC = specify(MAPPING.provided)
LABEL = ("is_fraud", "label_time")
STEP_US = 2 * SECOND_US
BEGIN_US = 10**15
Answer = Callable[[Mapping[str, Any], Features], Features | None]


@dataclass(frozen=True)
class Logs:
    """A log in two parts.

    Attributes:
        file: what a store is loaded from, ...
        history: ... and the same as canonical columns.
        live: rows with times in microseconds that follow.
    """

    file: Path
    history: pa.Table
    live: list[dict[str, Any]]


def simulated(folder: Path, cards: int = 30, days: int = 14, history: float = 0.5) -> Logs:
    """A simulated log of which a share is history; the folder is for files."""
    log = simulator.simulate(cards=cards, days=days, seed=5)
    cut = int(log.num_rows * history)
    parts = []
    for name, rows in (("history.parquet", log.slice(0, cut)), ("live.parquet", log.slice(cut))):
        simulator.write(rows, folder / name)
        parts.append(ingest(folder / name, MAPPING, None).transactions)
    return Logs(folder / "history.parquet", parts[0], events(parts[1]))


def loaded(history: pa.Table, spec: FeatureSpec = SPEC) -> TableFeatureStore:
    store = TableFeatureStore.in_memory(spec)
    load(store, {name: [row[name] for row in events(history)] for name in history.column_names})
    return store


class Gateway:
    """Decides one transaction after the other, and hears of outcomes, one in every `STEP_US`.

    Args:
        logs: the store is loaded from the history.
        decisions: path of the decision log.
        answer: what becomes of the store's answer; None is none in time.
    """

    def __init__(self, logs: Logs, decisions: Path, answer: Answer = lambda transaction, features: features) -> None:
        self.store = loaded(logs.history)
        self.log = DecisionLog(decisions)
        self.answer = answer
        self.now_us = BEGIN_US

    def decide(self, row: Mapping[str, Any]) -> None:
        """Asks the store, and logs what it says."""
        transaction = {name: value for name, value in row.items() if name not in LABEL}
        features = self.answer(transaction, self.store.observe(transaction))
        self.now_us += STEP_US
        made = entry(features=features, **transaction)
        self.log.append([replace(made, decided_us=self.now_us, total_us=5_000)])

    def hear(self, row: Mapping[str, Any], is_fraud: bool | None = None, label_time_us: int | None = None) -> None:
        """Takes a report of an outcome, the row's own unless told otherwise."""
        self.now_us += STEP_US
        fraud = row["is_fraud"] if is_fraud is None else is_fraud
        self.log.report(row["transaction_id"], fraud, label_time_us or row["label_time"], None, self.now_us)
        pending = self.log.pending_labels()
        for label in pending:
            self.store.label(label.transaction, label.is_fraud, label.label_time_us)
        self.log.applied(pending)

    def run(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Everything in order, each label when the log's time reaches it."""
        for arrival in arrivals(rows):
            if arrival.is_label:
                self.hear(arrival.transaction)
            else:
                self.decide(arrival.transaction)

    def close(self) -> None:
        self.store.close()
        self.log.close()


def run(logs: Logs, decisions: Path, answer: Answer = lambda transaction, features: features) -> None:
    """Decides on all that follows the history."""
    with closing(Gateway(logs, decisions, answer)) as gateway:
        gateway.run(logs.live)


def changed(features: Features, name: str, value: float) -> Features:
    """The features with another number in the place of one."""
    places = [declared.name for declared in SPEC.numeric for _ in range(declared.width)]
    at = places.index(name)
    return Features((*features.numbers[:at], value, *features.numbers[at + 1 :]), features.texts)


HOUR_US = 3_600 * SECOND_US
