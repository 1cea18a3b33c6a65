"""Slices of a split: the parts of it in which a model has to hold, and what it is worth in each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.evidence import replicated
from components.measures import Bools, Bootstrap, Estimate, Scored, estimates, ratio
from schemas.errors import ConfigurationError
from schemas.features import NIGHT
from schemas.thresholds import Thresholds

# What is told of a slice; of a few rows nobody wants thirty numbers.
MEASURES = (
    "prevalence",
    "average_precision",
    "roc_auc",
    "recall_at_fpr_0.01",
    "review_alert_share",
    "review_precision",
    "review_recall",
    "review_value_recall",
    "calibration_ratio",
)
# By which a slice is compared with the champion's.
COMPARED = ("average_precision", "review_recall")


@dataclass(frozen=True)
class SliceConfig:
    """Into what a split is cut.

    Attributes:
        columns: text columns; each frequent value is a slice.
        values_per_column: how many of them at most.
        amount_bands: bands of equally many transactions.
        min_rows, min_frauds: what a slice needs for a judgement; below, it is counted and not measured.
    """

    columns: tuple[str, ...] = ("channel", "country", "merchant_category")
    values_per_column: int = 12
    amount_bands: int = 4
    min_rows: int = 200
    min_frauds: int = 20

    def __post_init__(self) -> None:
        for name in ("values_per_column", "amount_bands", "min_rows", "min_frauds"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"slices {name} is {getattr(self, name)}; it must be 1 or more")


@dataclass(frozen=True)
class Slice:
    """Some rows of a split, and why they belong together."""

    name: str
    rows: Bools


@dataclass(frozen=True)
class SliceEvidence:
    """What a model is worth in a slice.

    Attributes:
        name: such as `channel online`.
        rows, frauds: how many.
        supported: whether they are enough for a judgement; the measures are empty where not.
        measures: of the model, by name.
        ratios: to the champion's, of `COMPARED`; empty without a champion.
    """

    name: str
    rows: int
    frauds: int
    supported: bool
    measures: Mapping[str, Estimate] = field(default_factory=dict)
    ratios: Mapping[str, Estimate] = field(default_factory=dict)

    def fields(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)

    @staticmethod
    def read(raw: Mapping[str, Any]) -> SliceEvidence:
        """Reads back `fields`."""
        named = {key: {name: Estimate.read(one) for name, one in raw[key].items()} for key in ("measures", "ratios")}
        return SliceEvidence(**{**raw, **named})


def cut(
    texts: Mapping[str, NDArray[Any]],
    amounts_base_minor: NDArray[np.int64],
    second_of_day: NDArray[np.int64],
    earlier_on_card: NDArray[np.floating[Any]] | None,
    config: SliceConfig,
) -> tuple[Slice, ...]:
    """All slices of a split; a row is in several, one for each thing that it is cut by.

    Args:
        texts: columns `[rows]` by name, as far as the source has them; empty text is missing and no slice.
        amounts_base_minor: `[rows]`.
        second_of_day: `[rows]`, in UTC.
        earlier_on_card: transactions on the card in the 30 days before, `[rows]`; a card without any is new.
        config: how finely.
    """
    found = [one for column in config.columns if column in texts for one in _values(column, texts[column], config)]
    found += _bands(amounts_base_minor, config.amount_bands)
    night = second_of_day < NIGHT.value
    found += [Slice("time night", night), Slice("time day", ~night)]
    if earlier_on_card is not None:
        new = earlier_on_card == 0
        found += [Slice("card new", new), Slice("card known", ~new)]
    return tuple(one for one in found if one.rows.any())


def _values(column: str, values: NDArray[Any], config: SliceConfig) -> Iterator[Slice]:
    names, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    frequent = [at for at in np.argsort(-counts, kind="stable") if names[at]][: config.values_per_column]
    for at in frequent:
        yield Slice(f"{column} {names[at]}", place == at)


def _bands(amounts: NDArray[np.int64], bands: int) -> Iterator[Slice]:
    if not amounts.size:
        return
    edges = np.unique(np.quantile(amounts, np.arange(1, bands) / bands, method="lower"))
    band = np.searchsorted(edges, amounts, "left")
    between = [f"{low + 1:,} to {high:,}" for low, high in pairwise(edges)]
    names = [f"up to {edges[0]:,}", *between, f"above {edges[-1]:,}"] if edges.size else ["any"]
    for at, name in enumerate(names):
        yield Slice(f"amount {name}", band == at)


def measure_slices(
    slices: Sequence[Slice],
    ours: tuple[Scored, Thresholds],
    champion: tuple[Scored, Thresholds] | None,
    config: SliceConfig,
    bootstrap: Bootstrap,
) -> tuple[SliceEvidence, ...]:
    """Measures a model, and the champion where there is one, in each slice; cards are drawn among those of the slice.

    Args:
        slices: of the split.
        ours: the split as the model scores it, and the thresholds of the model.
        champion: likewise.
        config: what support a slice needs.
        bootstrap: of which the intervals are.
    """
    return tuple(_measured(one, ours, champion, config, bootstrap) for one in slices)


def _measured(
    one: Slice,
    ours: tuple[Scored, Thresholds],
    champion: tuple[Scored, Thresholds] | None,
    config: SliceConfig,
    bootstrap: Bootstrap,
) -> SliceEvidence:
    transactions = ours[0].only(one.rows)
    rows, frauds = transactions.rows, transactions.frauds
    if rows < config.min_rows or frauds < config.min_frauds:
        return SliceEvidence(one.name, rows, frauds, supported=False)
    measured = replicated(transactions, ours[1], bootstrap)
    found = estimates(measured, bootstrap.confidence)
    ratios = {}
    if champion is not None:
        theirs = replicated(champion[0].only(one.rows), champion[1], bootstrap)
        ratios = {name: ratio(measured, theirs, name, bootstrap.confidence) for name in COMPARED}
    return SliceEvidence(
        one.name,
        rows,
        frauds,
        supported=True,
        measures={name: found[name] for name in MEASURES if name in found},
        ratios={name: value for name, value in ratios.items() if value is not None},
    )
