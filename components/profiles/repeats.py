"""A sample of rows by signature (card, merchant, amount, second of the day), in which a day that comes twice is seen.

The rows of the smallest signature hashes are kept: rows with one signature are sampled together or not at all, and the
sample of a union is the smallest of both samples (bottom-k: E. Cohen and H. Kaplan, PODC 2007).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from components.profiles.layout import flat, number_values
from schemas.features import AMOUNT
from schemas.transaction import DAY_S, SECOND_US, second_of_day

# A year's day has some 45 rows among them, a week's 2,300.
SIGNATURES = 16_384
# A day with fewer sampled rows tells nothing.
_LEAST_ROWS = 20
_HashArray = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class RepeatedDay:
    """The day whose rows repeat most: the share of them that come again, on that day or on another.

    Attributes:
        day: days since 1970-01-01; -1 where no day has enough rows.
        share: in [0, 1].
    """

    day: int
    share: float


@dataclass(frozen=True)
class Repeats:
    """Rows by signature and day, for the smallest signatures.

    Attributes:
        signature: uint64 `[entries]`, ascending.
        day: int64 `[entries]`, days since 1970-01-01, ascending within a signature.
        rows: int64 `[entries]`.
    """

    signature: _HashArray
    day: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]

    def __add__(self, other: Repeats) -> Repeats:
        return _smallest(
            np.concatenate([self.signature, other.signature]),
            np.concatenate([self.day, other.day]),
            np.concatenate([self.rows, other.rows]),
        )

    def most_repeated_day(self) -> RepeatedDay:
        """The day of whose rows the largest share comes again; of equal ones the first."""
        if not len(self.signature):
            return RepeatedDay(-1, 0.0)
        _, place = np.unique(self.signature, return_inverse=True)
        again = np.bincount(place, self.rows)[place] > 1
        days, of_day = np.unique(self.day, return_inverse=True)
        rows = np.bincount(of_day, self.rows)
        share = np.where(rows >= _LEAST_ROWS, np.bincount(of_day, self.rows * again) / rows, 0.0)
        best = int(np.argmax(share))
        return RepeatedDay(int(days[best]) if rows[best] >= _LEAST_ROWS else -1, float(share[best]))

    def to_dict(self) -> dict[str, Any]:
        return {"signature": self.signature.tolist(), "day": self.day.tolist(), "rows": self.rows.tolist()}

    @staticmethod
    def from_dict(raw: dict[str, Any]) -> Repeats:
        return Repeats(
            np.array(raw["signature"], np.uint64), np.array(raw["day"], np.int64), np.array(raw["rows"], np.int64)
        )


NO_REPEATS = Repeats(np.array([], np.uint64), np.array([], np.int64), np.array([], np.int64))


def signatures(rows: pa.Table) -> Repeats:
    """The sample of a table with `card_id`, `merchant_id`, `event_time` and the amount in the base currency."""
    micros = flat(rows["event_time"]).cast(pa.int64()).to_numpy()
    signature = _mixed(number_values(rows[AMOUNT]).view(np.uint64))
    signature = _mixed(signature ^ second_of_day(micros).astype(np.uint64))
    for column in ("card_id", "merchant_id"):
        signature = _mixed(signature ^ _hashes(rows[column]))
    return _smallest(signature, micros // (DAY_S * SECOND_US), np.ones(len(signature), np.int64))


def _smallest(signature: _HashArray, day: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]) -> Repeats:
    distinct = np.unique(signature)
    if len(distinct) > SIGNATURES:
        kept = signature <= distinct[SIGNATURES - 1]
        signature, day, rows = signature[kept], day[kept], rows[kept]
    order = np.lexsort((day, signature))
    signature, day, rows = signature[order], day[order], rows[order]
    first = np.ones(len(signature), bool)
    first[1:] = (signature[1:] != signature[:-1]) | (day[1:] != day[:-1])
    starts = np.flatnonzero(first)
    return Repeats(signature[starts], day[starts], np.add.reduceat(rows, starts) if len(starts) else rows)


def _hashes(column: pa.ChunkedArray) -> _HashArray:
    encoded = flat(column).fill_null("").dictionary_encode()
    words = np.array(encoded.dictionary.to_pylist(), object)
    return pd.util.hash_array(words, categorize=False)[encoded.indices.to_numpy()]


def _mixed(values: _HashArray) -> _HashArray:
    """The finaliser of SplitMix64 (G. Steele, D. Lea, C. Flood, OOPSLA 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
