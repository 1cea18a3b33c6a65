"""Splits by time: which rows of a log warm up state, train, wait for their labels, validate and test."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import numpy as np

from schemas.errors import ConfigurationError, LogError
from schemas.transaction import DAY_S, SECOND_US

Part = Literal["warm_up", "train", "immature", "validation", "test"]
PARTS: tuple[Part, ...] = ("warm_up", "train", "immature", "validation", "test")
SPLITS: tuple[Part, ...] = ("train", "validation", "test")


@dataclass(frozen=True)
class SplitConfig:
    """How a log's span is divided.

    Attributes:
        warm_up_s: seconds at the head of the log that only fill windows.
        validation_share: share of the usable span that validates.
        test_share: share of the usable span that tests.
    """

    warm_up_s: int = 30 * 86_400
    validation_share: float = 0.15
    test_share: float = 0.25

    def __post_init__(self) -> None:
        if self.warm_up_s < 0:
            raise ConfigurationError(f"splits warm_up_s is {self.warm_up_s}; it must be 0 or more")
        shares = (self.validation_share, self.test_share)
        if not (min(shares) > 0 and sum(shares) < 1):
            raise ConfigurationError(
                f"splits validation_share {shares[0]} and test_share {shares[1]} must be above 0 and sum to less than 1"
            )


@dataclass(frozen=True)
class Cuts:
    """Instants in UTC microseconds that bound the splits.

    Training rows lie in [train_start, train_end), validation rows in [validation_start, test_start), test rows in
    [test_start, test_end).
    `validation_start` is `train_end` plus the label delay: the moment at which every training label was known.
    `test_end` is the last moment of the log minus the delay: what comes after has no mature label yet.
    """

    train_start: int
    train_end: int
    validation_start: int
    test_start: int
    test_end: int


def plan(first_us: int, last_us: int, label_delay_s: int, config: SplitConfig) -> Cuts:
    """Divides the span [first_us, last_us] of a log whose labels are known after `label_delay_s` at the latest.

    Raises:
        LogError: the log is too short for a warm-up, two label delays and at least an hour for each split.
    """
    delay, hour = label_delay_s * SECOND_US, 3_600 * SECOND_US
    start = first_us + config.warm_up_s * SECOND_US
    # A cut looks back only: a row on the last instant must lie before it.
    end = last_us + 1 - delay
    usable = end - delay - start
    shares = (1 - config.validation_share - config.test_share, config.validation_share, config.test_share)
    if usable * min(shares) < hour:
        need_s = config.warm_up_s + 2 * label_delay_s + 3_600 / min(shares)
        raise LogError(
            f"the log spans {_day(first_us)} to {_day(last_us)}, too little to split by time: that takes "
            f"{need_s / DAY_S:.1f} days, of which {config.warm_up_s / DAY_S:g} are the warm-up and twice "
            f"{label_delay_s / DAY_S:g} the label delay; give a longer log or configure a shorter warm-up"
        )
    train_end = start + round(usable * shares[0])
    test_start = end - round(usable * shares[2])
    return Cuts(start, train_end, train_end + delay, test_start, end)


def assign(event_time_us: np.ndarray, labelled: np.ndarray, cuts: Cuts) -> np.ndarray:
    """The part of each row as an index into `PARTS`, int8 `[rows]`.

    A row whose label is not known is immature wherever it would count.

    Args:
        event_time_us: UTC microseconds, int64 `[rows]`.
        labelled: whether the label is known, bool `[rows]`.
        cuts: of the log that the rows come from.
    """
    edges = (cuts.train_start, cuts.train_end, cuts.validation_start, cuts.test_start, cuts.test_end)
    between = np.array([PARTS.index(p) for p in (*PARTS, "immature")], np.int8)
    part = between[np.searchsorted(edges, event_time_us, side="right")]
    return np.where((part != PARTS.index("warm_up")) & ~labelled, np.int8(PARTS.index("immature")), part)


def counts(part: np.ndarray) -> dict[Part, int]:
    """Rows per part; they add up to the rows given."""
    return dict(zip(PARTS, np.bincount(part, minlength=len(PARTS)).tolist(), strict=True))


def _day(us: int) -> str:
    return datetime.fromtimestamp(us / SECOND_US, UTC).strftime("%Y-%m-%d")
