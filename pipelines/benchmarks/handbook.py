"""The window features of the Fraud Detection Handbook, and how notebooks compute them with pandas and Polars.

Twelve features (Le Borgne et al., chapter 3): count and mean amount of a card's transactions over 1, 7 and 30 days;
frauds and the share of frauds among a merchant's labels over 1, 7 and 30 days of labels, each known a week after its
transaction.  The Handbook counts those labels themselves; the declaration counts the frauds among them.  Both are
needed for the share, so that the work is the same.

All compute by the declaration's semantics.  A hop of 1 s on times cut to whole seconds makes its window
`floor(t - w, hop) <= time < t` the `[t - w, t)` that pandas and Polars call closed on the left.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from schemas.errors import BenchmarkError
from schemas.features import AMOUNT, Feature, Window
from schemas.transaction import DAY_S, SECOND_US

if TYPE_CHECKING:
    import polars as pl

DAYS = (1, 7, 30)
DELAY_DAYS = 7
_WINDOWS = {days: Window(f"{days}d", days * DAY_S, 1) for days in DAYS}
_COUNT = {days: Feature("card", "count", w) for days, w in _WINDOWS.items()}
_MEAN = {days: Feature("card", "mean", w, AMOUNT) for days, w in _WINDOWS.items()}
_FRAUDS = {days: Feature("merchant", "fraud_count", w) for days, w in _WINDOWS.items()}
_SHARE = {days: Feature("merchant", "fraud_rate", w) for days, w in _WINDOWS.items()}
TWELVE = tuple(group[days] for group in (_COUNT, _MEAN, _FRAUDS, _SHARE) for days in DAYS)

# What is rolled over a window of so many days: a frame of one key, or a grouped one.
Rolled = Callable[[int], Any]


def in_whole_seconds(transactions: pa.Table) -> pa.Table:
    """The columns that the twelve features need, times cut to seconds and labels known `DELAY_DAYS` later."""
    times = pc.cast(pc.floor_temporal(transactions["event_time"], unit="second"), pa.int64())
    label_times = pc.add(times, DELAY_DAYS * DAY_S * SECOND_US)
    utc = pa.timestamp("us", "UTC")
    kept = transactions.select(["transaction_id", "card_id", "merchant_id", AMOUNT, "is_fraud"])
    return kept.append_column("event_time", times.cast(utc)).append_column("label_time", label_times.cast(utc))


def as_frame(log: pa.Table) -> pd.DataFrame:
    """A log in order of time as notebooks hold it: keys as integers, amounts and labels as numbers.

    Columns: `row`, `card`, `merchant`, `time`, `amount`, and `fraud` (1, 0, or NaN where the label is not known).
    """
    return pd.DataFrame(
        {
            "row": np.arange(log.num_rows),
            "card": pd.factorize(log["card_id"].to_pandas())[0],
            "merchant": pd.factorize(log["merchant_id"].to_pandas())[0],
            "time": log["event_time"].to_pandas().dt.tz_localize(None),
            "amount": log[AMOUNT].to_numpy().astype(np.float64),
            "fraud": pc.cast(log["is_fraud"], pa.float64()).to_pandas(),
        }
    )


def pandas_rolling(frame: pd.DataFrame) -> pd.DataFrame:
    """The twelve features by one groupby-rolling per key and window."""

    def grouped(key: str, features_of: Callable[[pd.DataFrame, Rolled], pd.DataFrame]) -> pd.DataFrame:
        ordered = frame.sort_values([key, "time"])
        groups = ordered.groupby(key, sort=False)
        return features_of(ordered, lambda days: _roll(groups, days))

    return _in_row_order(grouped("card", _of_cards), grouped("merchant", _of_merchants))


def pandas_apply(frame: pd.DataFrame) -> pd.DataFrame:
    """The twelve features by one Python call per key, as notebooks do it."""

    def applied(key: str, features_of: Callable[[pd.DataFrame, Rolled], pd.DataFrame]) -> pd.DataFrame:
        groups = frame.groupby(key, sort=False)[["row", "time", "amount", "fraud"]]
        return groups.apply(lambda group: features_of(group, lambda days: _roll(group, days))).droplevel(0)

    return _in_row_order(applied("card", _of_cards), applied("merchant", _of_merchants))


def _roll(frame: Any, days: int) -> Any:
    return frame.rolling(f"{days}D", on="time", closed="left", min_periods=0)


def _of_cards(ordered: pd.DataFrame, rolled: Rolled) -> pd.DataFrame:
    """Features of rows ordered by card and time, indexed by `row`."""
    features = {}
    for days in DAYS:
        amounts = rolled(days)["amount"]
        features[_COUNT[days].name] = amounts.count().to_numpy()
        features[_MEAN[days].name] = amounts.mean().to_numpy()
    return pd.DataFrame(features, index=ordered["row"])


def _of_merchants(ordered: pd.DataFrame, rolled: Rolled) -> pd.DataFrame:
    """Features of rows ordered by merchant and time, indexed by `row`.

    Labels of the last w days are those of transactions of the last w + delay days without the last delay days.
    """

    def labels(days: int) -> tuple[np.ndarray, np.ndarray]:
        known = rolled(days)["fraud"]
        return known.count().to_numpy(), known.sum().to_numpy()

    features = {}
    early_count, early_frauds = labels(DELAY_DAYS)
    for days in DAYS:
        count, frauds = labels(DELAY_DAYS + days)
        count, frauds = count - early_count, frauds - early_frauds
        features[_FRAUDS[days].name] = frauds
        features[_SHARE[days].name] = np.divide(frauds, count, out=np.full(len(count), np.nan), where=count > 0)
    return pd.DataFrame(features, index=ordered["row"])


def _in_row_order(*parts: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([part.sort_index() for part in parts], axis=1)


def as_polars(frame: pd.DataFrame) -> pl.DataFrame:
    """What `as_frame` makes as Polars holds it: null where a label is not known.

    Raises:
        BenchmarkError: Polars is not installed.
    """
    try:
        import polars as pl
    except ModuleNotFoundError as error:
        raise BenchmarkError("polars is not installed, a peer in this benchmark; `make install` installs it") from error
    return pl.from_pandas(frame)


def polars_rolling(frame: pl.DataFrame) -> pl.DataFrame:
    """The twelve features by one rolling pass per key and window, on all cores.

    Rows come in any order, each with its `row`: a join takes less time than bringing both keys' rows into order.
    """
    import polars as pl

    amount, fraud = pl.col("amount"), pl.col("fraud")
    cards = frame.sort("card", "time")
    merchants = frame.sort("merchant", "time")
    of_cards, of_merchants = [cards.select("row")], [merchants.select("row")]
    for days in DAYS:
        window = cards.rolling("time", period=f"{days}d", closed="left", group_by="card")
        of_cards.append(
            window.agg(pl.len().alias(_COUNT[days].name), amount.mean().alias(_MEAN[days].name)).drop("card", "time")
        )
        # The labels of the last days are those of the transactions a delay earlier.
        offset = f"-{DELAY_DAYS + days}d"
        window = merchants.rolling("time", period=f"{days}d", offset=offset, closed="left", group_by="merchant")
        of_merchants.append(
            window.agg(fraud.sum().alias(_FRAUDS[days].name), fraud.mean().alias(_SHARE[days].name)).drop(
                "merchant", "time"
            )
        )
    return pl.concat(of_cards, how="horizontal").join(pl.concat(of_merchants, how="horizontal"), on="row")
