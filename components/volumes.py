"""How many transactions a log has on each day, what is known of them, and how long their labels took."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from schemas.errors import ArtifactError
from schemas.transaction import DAY_S, LABEL, SECOND_US

FILE = "volumes.json"
COLUMNS = ("event_time", LABEL, "label_time")
# Labels that took longer are counted as this long; it bounds what a day takes in memory.
MAX_DELAY_DAYS = 400
_DAY_US = DAY_S * SECOND_US
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Maturity:
    """The share of labels that are known some days after the event.

    Attributes:
        transactions: at place d, of the transactions that are d days old when the log ends, the share whose label came
            within d days; shorter than the log, because nothing is older than it.
        frauds: at place d, of the frauds that are known among transactions older than the longest label delay, the
            share that was known within d days; empty where there are none.
        label_delay_days: the longest time after which a label is known, as the mapping says.
    """

    transactions: tuple[float, ...]
    frauds: tuple[float, ...]
    label_delay_days: float


@dataclass(frozen=True)
class Volumes:
    """Days on which something happened, in UTC, and what.

    Attributes:
        days: as YYYY-MM-DD, in order.
        rows: transactions of each day.
        labelled: those with a label.
        frauds: those known to be frauds.
        maturity: how labels came; None where none has a time.
    """

    days: tuple[str, ...]
    rows: tuple[int, ...]
    labelled: tuple[int, ...]
    frauds: tuple[int, ...]
    maturity: Maturity | None

    def to_json(self) -> str:
        """One JSON object with the attributes as keys."""
        return json.dumps(asdict(self), allow_nan=False)

    @staticmethod
    def from_json(text: str) -> Volumes:
        """Reads back `to_json`.

        Raises:
            ArtifactError: the text is something else.
        """
        try:
            raw = {key: _tuples(value) for key, value in json.loads(text).items()}
            maturity = raw.pop("maturity")
            return Volumes(**raw, maturity=None if maturity is None else Maturity(**maturity))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ArtifactError(f"not the volumes of a log: {error!r}; run the pipeline again") from error


def count(batches: Iterable[pa.RecordBatch], label_delay_s: int) -> Volumes:
    """Counts a log that comes in pieces, in any order; memory grows with its days alone.

    A label's delay counts in days begun, and a transaction is as many days old as have passed in full since the day on
    which it happened, up to the day of the log's last event or label.  So the curve is never ahead of the labels.

    Args:
        batches: `COLUMNS` of canonical transactions.
        label_delay_s: the longest time after which a label is known, in seconds.
    """
    # By day since 1970: rows without a label, or without the time of one; labels by delay in days, genuine and fraud.
    unknown: dict[int, int] = {}
    untimed: dict[int, np.ndarray] = {}
    delays: dict[int, np.ndarray] = {}
    last = -(2**62)
    for batch in batches:
        event = batch["event_time"].cast(pa.int64()).to_numpy()
        if not len(event):
            continue
        day = event // _DAY_US
        known = batch[LABEL].is_valid().to_numpy(zero_copy_only=False)
        fraud = batch[LABEL].fill_null(False).to_numpy(zero_copy_only=False).astype(np.int64)
        timed = known & batch["label_time"].is_valid().to_numpy(zero_copy_only=False)
        label = batch["label_time"].cast(pa.int64()).fill_null(0).to_numpy()
        last = max(last, int(event.max()), int(label[timed].max()) if timed.any() else last)
        delay = np.clip(-((event - label) // _DAY_US), 0, MAX_DELAY_DAYS)
        for one in np.unique(day).tolist():
            of_day = day == one
            unknown[one] = unknown.get(one, 0) + int((of_day & ~known).sum())
            cells = (of_day & known & ~timed, of_day & timed)
            _add(untimed, one, np.bincount(fraud[cells[0]], minlength=2))
            place = fraud[cells[1]] * (MAX_DELAY_DAYS + 1) + delay[cells[1]]
            _add(delays, one, np.bincount(place, minlength=2 * (MAX_DELAY_DAYS + 1)).reshape(2, -1))
    days = sorted(unknown)
    labels = [untimed[one] + delays[one].sum(axis=1) for one in days]
    return Volumes(
        tuple(f"{_EPOCH + timedelta(days=one):%Y-%m-%d}" for one in days),
        tuple(unknown[one] + int(found.sum()) for one, found in zip(days, labels, strict=True)),
        tuple(int(found.sum()) for found in labels),
        tuple(int(found[1]) for found in labels),
        _maturity(days, unknown, delays, last // _DAY_US, label_delay_s / DAY_S),
    )


def _maturity(
    days: list[int],
    unknown: dict[int, int],
    delays: dict[int, np.ndarray],
    end: int,
    label_delay_days: float,
) -> Maturity | None:
    if not any(found.any() for found in delays.values()):
        return None
    longest = max(min(end - days[0] - 1, MAX_DELAY_DAYS), 0)
    old, known = np.zeros(longest + 1), np.zeros(longest + 1)
    frauds = np.zeros(MAX_DELAY_DAYS + 1, np.int64)
    for one in days:
        age = min(end - one - 1, longest)
        by_delay = delays[one].sum(axis=0)
        # A label without a time says nothing of how long labels take.
        old[: age + 1] += unknown[one] + by_delay.sum()
        known[: age + 1] += by_delay.cumsum()[: age + 1]
        if age >= label_delay_days:
            frauds += delays[one][1]
    kept = old > 0
    return Maturity(
        tuple((known[kept] / old[kept]).tolist()),
        tuple((frauds.cumsum()[: longest + 1] / frauds.sum()).tolist()) if frauds.any() else (),
        label_delay_days,
    )


def _add(counts: dict[int, np.ndarray], key: int, more: np.ndarray) -> None:
    counts[key] = counts[key] + more if key in counts else more


def _tuples(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(value)
    return {key: _tuples(one) for key, one in value.items()} if isinstance(value, dict) else value
