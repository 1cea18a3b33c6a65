"""Labels of a log into a feature store that was loaded before they were known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from rich.progress import track

from pipelines import console
from schemas.errors import ConfigurationError
from schemas.features import KEYS, FeatureSpec
from schemas.transaction import SECOND_US
from serving.decisions.log import DecisionLog
from serving.features import StoreAddress
from serving.features.labelled import Labelled, Place, last_place

# Gateways wait for a step that is under way, and each of its labels takes a third of a millisecond.
STEP_ROWS = 32
_COLUMNS = ("transaction_id", "is_fraud", "label_time")


@dataclass(frozen=True)
class Labelling:
    """What became of the labels of a log that were not in the store yet.

    Attributes:
        added: those that the store has now, ...
        decided: ... those that were left out because a gateway decided on the transaction and hears of its outcome, ...
        outdated: ... and those that no window reaches back to any more.
        ahead: labels that become known later, and have not come.
    """

    added: int
    decided: int
    outdated: int
    ahead: int


def label_store(
    transactions: pa.Table,
    address: StoreAddress,
    spec: FeatureSpec,
    decisions: Path,
    until_us: int | None,
    clock: Callable[[], int],
    pause: Callable[[float], None],
) -> Labelling:
    """Gives a store the labels that became known since its load, or since the last time, each exactly once.

    It may die anywhere and be repeated, and gateways may work on the store meanwhile.

    Args:
        transactions: the log in canonical columns; it has all labels up to the last one that it has.
        address: of the store.
        spec: what the store computes.
        decisions: the decision log of the store's gateways; where there is none, nothing was decided.
        until_us: labels that became known up to this time, UTC microseconds since the Unix epoch; None is now.  It is
            the time of the transactions that come: the store must not hold what lies in their future.
        clock: tells what time it is, in the same unit.
        pause: waits for so many seconds.

    Raises:
        ConfigurationError: there is no store, or no log was loaded into it.
        FraudOpsError: the store or the decision log cannot be opened or used.
    """
    if not address.is_there(spec):
        raise ConfigurationError(
            f"there is no feature store {address}; make it with `fraudops features load`, which takes in the labels "
            "that are known by then"
        )
    began_us = clock()
    with ExitStack() as stack:
        store = stack.enter_context(closing(address.open(spec)))
        log = stack.enter_context(closing(DecisionLog(decisions))) if decisions.exists() else None
        last = last_place(store.labelled())
        labels, ahead = _behind(transactions, last, began_us if until_us is None else until_us)
        console.say(f"{labels.num_rows:,} labels became known since the last one that is in")
        if log is None:
            console.say(f"there is no decision log {decisions}, so none of the transactions counts as decided")
        added = decided = outdated = 0
        seen_from_us = labels["label_time"][-1].as_py() - store.reach_us if labels.num_rows else 0
        for step in _steps(labels):
            at_us = clock()
            fresh = [row for row in step if row["label_time"] >= seen_from_us]
            known = log.decided([row["transaction_id"] for row in fresh]) if log else set()
            taken = [(row, row["is_fraud"], row["label_time"]) for row in fresh if row["transaction_id"] not in known]
            last = (step[-1]["label_time"], step[-1]["transaction_id"])
            added += store.label_all(taken, last, began_us, clock)
            decided += len(fresh) - len(taken)
            outdated += len(step) - len(fresh)
            # Who waits for the store's file looks now and then, and has to find it free as often as not.
            pause(max(clock() - at_us, 0) / SECOND_US)
    return Labelling(added, decided, outdated, ahead)


def runs_of(address: StoreAddress, spec: FeatureSpec) -> list[Labelled]:
    """Which runs brought labels of logs to a store; none where there is no store, or no log was loaded.

    Raises:
        FraudOpsError: the store cannot be opened or used.
    """
    if not address.is_there(spec):
        return []
    with closing(address.open(spec)) as store:
        return store.labelled()


def _behind(transactions: pa.Table, behind: Place, until_us: int) -> tuple[pa.Table, int]:
    """The labels behind a place, up to a time, in their order, with times in microseconds; how many lie further on."""
    needed = {*_COLUMNS, *(column for columns in KEYS.values() for column in columns)}
    labels = transactions.select([name for name in transactions.column_names if name in needed])
    if not labels.num_rows or not set(_COLUMNS) <= set(labels.column_names):
        return labels.slice(0, 0), 0
    time_us = labels["label_time"].cast(pa.int64())
    labels = labels.set_column(labels.column_names.index("label_time"), "label_time", time_us)
    labels = labels.filter(pc.and_(pc.is_valid(labels["is_fraud"]), pc.is_valid(time_us)))
    ahead = pc.sum(pc.greater(labels["label_time"], until_us)).as_py() or 0
    is_later = pc.greater(labels["label_time"], behind[0])
    is_there = pc.and_(pc.equal(labels["label_time"], behind[0]), pc.greater(labels["transaction_id"], behind[1]))
    is_now = pc.and_(pc.or_(is_later, is_there), pc.less_equal(labels["label_time"], until_us))
    return labels.filter(is_now).sort_by([("label_time", "ascending"), ("transaction_id", "ascending")]), ahead


def _steps(labels: pa.Table) -> Iterator[list[dict[str, Any]]]:
    begins = range(0, labels.num_rows, STEP_ROWS)
    for begin in track(begins, "labelling", console=console.stderr(), transient=True):
        yield labels.slice(begin, STEP_ROWS).to_pylist()
