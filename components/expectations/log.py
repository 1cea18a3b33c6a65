"""The tables that a log's expectations are judged on, counted in one pass over its rows.

Whatever the log's length, a batch is in memory, and beside it 8 bytes per row for the ids and the number of rows per
distinct amount, merchant, city, device and card.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from components.expectations.table import Table
from components.expectations.tally import Tally
from schemas.currency import MINOR_UNIT_DECIMALS, minor_unit_decimals
from schemas.masking import mask
from schemas.sources import SourceMapping
from schemas.transaction import DAY_S, REQUIRED, SECOND_US

COLUMNS: dict[str, tuple[str, ...]] = {
    "log": (
        "rows", "absent_columns", "absent_names", "missing_required_values", "duplicate_transaction_ids",
        "card_numbers_in_clear", "first_event_time", "last_event_time", "rows_out_of_order", "midnight_share",
        "median_amount", "labelled_rows", "fraud_share", "labels_without_time", "label_times_without_label",
        "labels_before_transaction", "late_label_share", "half_places", "null_island_share", "top_device_share",
    ),
    "currencies": (
        "currency", "rows", "smallest_amount_minor", "largest_amount", "median_amount", "zero_share", "round_share",
        "round_unit",
    ),
    "merchants": ("merchant", "rows", "main_category_share", "main_country_share"),
    "cities": ("city", "rows", "main_country_share"),
    "countries": ("country", "rows"),
}  # fmt: skip
"""The tables and their columns; a column that the source does not provide, or that says nothing yet, is left out.

Amounts are in major units of the base currency unless their name ends in `minor`; shares lie in [0, 1].
"""

# Medians and shares of fewer rows say little about what they are taken of.
LEAST_ROWS = 200
# With fewer cards a single device may well have a large share.
LEAST_CARDS = 100

_AMOUNTS = ("currency", "amount_minor", "amount_base_minor")
_MERCHANT_CATEGORIES = ("merchant_id", "merchant_category")
_MERCHANT_COUNTRIES = ("merchant_id", "country")
_CITY_COUNTRIES = ("city", "country")
_COUNTRIES, _DEVICES, _CARDS = ("country",), ("device_id",), ("card_id",)
_TALLIES = (_AMOUNTS, _MERCHANT_CATEGORIES, _MERCHANT_COUNTRIES, _CITY_COUNTRIES, _COUNTRIES, _DEVICES, _CARDS)
_CARD_NUMBER = r"[0-9]{13,19}"


class LogSummary:
    """Takes a log's batches, in its order, and makes `COLUMNS` of them."""

    def __init__(self, columns: Collection[str], mapping: SourceMapping) -> None:
        """
        Args:
            columns: those of the batches; of a transaction's.
            mapping: says which there should be, and what amounts and labels mean.
        """
        self._mapping = mapping
        self._present = mapping.provided.intersection(columns)
        self._tallies: dict[tuple[str, ...], Tally] = {by: Tally(by) for by in _TALLIES if self._present.issuperset(by)}
        self._counts: Counter[str] = Counter()
        self._fingerprints: list[np.ndarray] = []
        self._first_us: int | None = None
        self._last_us: int | None = None
        self._previous_us: int | None = None

    def add(self, batch: pa.Table) -> None:
        """Counts the rows of a batch in; `event_time` and `transaction_id` it must have."""
        self._counts["rows"] += batch.num_rows
        self._counts["missing"] += sum(batch[name].null_count for name in self._present.intersection(REQUIRED))
        # A hash of 64 bits instead of the id: that two of ten million ids share one happens once in 370,000 logs.
        ids = batch["transaction_id"].drop_null().to_numpy()
        self._fingerprints.append(pd.util.hash_array(ids, categorize=False))
        self._add_times(batch["event_time"].drop_null().cast(pa.int64()).to_numpy())
        if "is_fraud" in self._present:
            self._add_labels(batch)
        if self._present.issuperset(("latitude", "longitude")):
            self._add_places(batch)
        for tally in self._tallies.values():
            tally.add(batch)

    def tables(self) -> dict[str, Table]:
        """The tables by name, those without a row left out."""
        frames = {
            "log": (pd.DataFrame([self._log()]), None),
            "currencies": (self._currencies(), "currency"),
            "merchants": (self._merchants(), "merchant"),
            "cities": (self._main_shares(_CITY_COUNTRIES, "city", "main_country_share"), "city"),
            "countries": (self._countries(), "country"),
        }
        rows = self._counts["rows"]
        return {
            name: Table(readable(frame, self._mapping), rows, rows, by)
            for name, (frame, by) in frames.items()
            if len(frame)
        }

    def _add_times(self, time_us: np.ndarray) -> None:
        if not len(time_us):
            return
        first, last = int(time_us.min()), int(time_us.max())
        self._first_us = first if self._first_us is None else min(first, self._first_us)
        self._last_us = last if self._last_us is None else max(last, self._last_us)
        before = time_us[0] if self._previous_us is None else self._previous_us
        self._counts["out_of_order"] += int((np.diff(time_us, prepend=before) < 0).sum())
        self._previous_us = int(time_us[-1])
        self._counts["midnight"] += int((time_us // SECOND_US % DAY_S == 0).sum())

    def _add_labels(self, batch: pa.Table) -> None:
        label, known = batch["is_fraud"], batch["label_time"]
        labelled = pc.is_valid(label)
        delay_us = pc.subtract(known.cast(pa.int64()), batch["event_time"].cast(pa.int64()))
        self._counts["labelled"] += _true(labelled)
        self._counts["frauds"] += _true(label)
        self._counts["timeless"] += _true(pc.and_(labelled, pc.is_null(known)))
        self._counts["unlabelled_times"] += _true(pc.and_(pc.is_null(label), pc.is_valid(known)))
        self._counts["early"] += _true(pc.less(delay_us, 0))
        self._counts["late"] += _true(pc.greater(delay_us, self._mapping.label_delay_s * SECOND_US))

    def _add_places(self, batch: pa.Table) -> None:
        latitude, longitude = batch["latitude"], batch["longitude"]
        whole = pc.and_(pc.is_valid(latitude), pc.is_valid(longitude))
        self._counts["places"] += _true(whole)
        self._counts["half_places"] += _true(pc.xor(pc.is_valid(latitude), pc.is_valid(longitude)))
        self._counts["null_island"] += _true(pc.and_(pc.equal(latitude, 0), pc.equal(longitude, 0)))

    def _log(self) -> dict[str, Any]:
        counts = self._counts
        absent = sorted(self._mapping.provided - self._present)
        row: dict[str, Any] = {
            "rows": counts["rows"],
            "absent_columns": len(absent),
            "absent_names": ", ".join(absent),
            "missing_required_values": counts["missing"],
            "duplicate_transaction_ids": _repeats(self._fingerprints),
            "rows_out_of_order": counts["out_of_order"],
        }
        if self._first_us is not None and self._last_us is not None:
            row["first_event_time"] = pd.Timestamp(self._first_us, unit="us", tz="UTC")
            row["last_event_time"] = pd.Timestamp(self._last_us, unit="us", tz="UTC")
            row["midnight_share"] = counts["midnight"] / counts["rows"]
        amounts = self._counted(_AMOUNTS)
        if len(amounts):
            row["median_amount"] = _median(amounts["amount_base_minor"], amounts["rows"]) / self._base_unit
        cards = self._counted(_CARDS)
        numbers = cards["card_id"].astype(str)
        numbers = numbers[numbers.str.fullmatch(_CARD_NUMBER)]
        row["card_numbers_in_clear"] = sum(map(_has_check_digit, numbers))
        devices = self._counted(_DEVICES)
        if len(devices) and len(cards) >= LEAST_CARDS:
            row["top_device_share"] = devices["rows"].max() / devices["rows"].sum()
        if "is_fraud" in self._present:
            row["labelled_rows"] = counts["labelled"]
            row["labels_without_time"] = counts["timeless"]
            row["label_times_without_label"] = counts["unlabelled_times"]
            row["labels_before_transaction"] = counts["early"]
            if counts["labelled"]:
                row["fraud_share"] = counts["frauds"] / counts["labelled"]
                row["late_label_share"] = counts["late"] / counts["labelled"]
        if self._present.issuperset(("latitude", "longitude")):
            row["half_places"] = counts["half_places"]
            if counts["places"]:
                row["null_island_share"] = counts["null_island"] / counts["places"]
        return row

    def _currencies(self) -> pd.DataFrame:
        rows = []
        for currency, amounts in self._counted(_AMOUNTS).groupby("currency", sort=True):
            count, minor, base = amounts["rows"], amounts["amount_minor"], amounts["amount_base_minor"]
            total = int(count.sum())
            row = {
                "currency": currency,
                "rows": total,
                "smallest_amount_minor": int(minor.min()),
                "largest_amount": base.max() / self._base_unit,
            }
            if total >= LEAST_ROWS:
                # Of a currency without decimals, a hundred units betray an amount that came with two.
                unit = 10 ** max(2, _decimals(str(currency)))
                row["median_amount"] = _median(base, count) / self._base_unit
                row["zero_share"] = count[minor == 0].sum() / total
                row["round_share"] = count[minor % unit == 0].sum() / total
                row["round_unit"] = unit
            rows.append(row)
        return pd.DataFrame(rows, columns=list(COLUMNS["currencies"]))

    def _merchants(self) -> pd.DataFrame:
        by_category = self._main_shares(_MERCHANT_CATEGORIES, "merchant", "main_category_share")
        by_country = self._main_shares(_MERCHANT_COUNTRIES, "merchant", "main_country_share")
        # The rows of the one that lacks fewer.
        both = by_category.merge(by_country, on="merchant", how="outer", suffixes=("", "_with_country"))
        both["rows"] = both[["rows", "rows_with_country"]].max(axis=1)
        return both.drop(columns="rows_with_country")

    def _main_shares(self, by: tuple[str, str], name: str, share: str) -> pd.DataFrame:
        """Of each value of the first column with enough rows: the share that the second one's most frequent has."""
        counts = self._counted(by).groupby(by[0], sort=True)["rows"].agg(["sum", "max"])
        counts = counts[counts["sum"] >= LEAST_ROWS]
        shares = counts["max"] / counts["sum"]
        return pd.DataFrame({name: counts.index, "rows": counts["sum"].to_numpy(), share: shares.to_numpy()})

    def _countries(self) -> pd.DataFrame:
        return self._counted(_COUNTRIES)

    def _counted(self, by: tuple[str, ...]) -> pd.DataFrame:
        return self._tallies.get(by, Tally(by)).counts()

    @property
    def _base_unit(self) -> int:
        return int(10 ** minor_unit_decimals(self._mapping.base_currency))


def readable(frame: pd.DataFrame, mapping: SourceMapping) -> pd.DataFrame:
    """The frame without card numbers, which people might read where a source that has them mixes up its columns."""
    if mapping.card_id_is == "token":
        return frame
    texts = {str(name): frame[name].map(mask, na_action="ignore") for name in frame if frame[name].dtype == object}
    return frame.assign(**texts)


def _true(values: pa.ChunkedArray) -> int:
    return pc.sum(values).as_py() or 0


def _decimals(currency: str) -> int:
    """Of a code that ISO 4217 knows; others are found fault with elsewhere."""
    return MINOR_UNIT_DECIMALS.get(currency, 2)


def _repeats(fingerprints: list[np.ndarray]) -> int:
    """How many are equal to another that came before."""
    if not fingerprints:
        return 0
    whole = np.concatenate(fingerprints)
    whole.sort()
    return int((whole[1:] == whole[:-1]).sum())


def _median(values: pd.Series, rows: pd.Series) -> float:
    """The median of values that occur so many times; of an even number, the mean of the middle two."""
    order = np.argsort(values.to_numpy(), kind="stable")
    ends = rows.to_numpy()[order].cumsum()
    middle = values.to_numpy()[order][np.searchsorted(ends, [(ends[-1] - 1) // 2, ends[-1] // 2], side="right")]
    return float(middle.mean())


def _has_check_digit(number: str) -> bool:
    """Whether the last digit is the one that ISO/IEC 7812-1 computes from the others (Luhn's formula)."""
    digits = [int(digit) for digit in reversed(number)]
    return (sum(digits[0::2]) + sum(sum(divmod(2 * digit, 10)) for digit in digits[1::2])) % 10 == 0
