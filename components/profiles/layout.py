"""The layout of profiles: bins of numbers, named values of text and segments, as the baseline fixes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.errors import ArtifactError, ConfigurationError
from schemas.features import AMOUNT
from schemas.transaction import CALENDAR_COLUMNS, LABEL

ALL = "all"
REST = "(rest)"
# They name the row, its time or its answer: nothing that could drift as a feature does.  What restates the time would,
# from one part of a week to another.
_NOT_FEATURES = ("transaction_id", "event_time", "label_time", LABEL, *CALENDAR_COLUMNS)


@dataclass(frozen=True)
class LayoutConfig:
    """How finely a baseline is laid out.

    Attributes:
        bins: into how many bins the baseline's quantiles cut a number for PSI and Jensen-Shannon divergence.
        fine: into how many pieces each of these is cut for the Kolmogorov-Smirnov distance, which needs no full bins.
        categories: how many of the baseline's most frequent texts have a bin of their own; the others share one.
        segment_columns: text columns whose most frequent values are segments.
        segments_per_column: how many of them at most; all other rows are the segment `(rest)` of the column.
        amount_bands: how many bands of equal size amounts are cut into.
    """

    bins: int = 10
    fine: int = 4
    categories: int = 20
    segment_columns: tuple[str, ...] = ("channel", "country", "merchant_category")
    segments_per_column: int = 12
    amount_bands: int = 4

    def __post_init__(self) -> None:
        least = {"bins": 2, "fine": 1, "categories": 1, "segments_per_column": 1, "amount_bands": 1}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise ConfigurationError(f"profile setting {name} is {getattr(self, name)}; it must be {bound} or more")


@dataclass(frozen=True)
class Edges:
    """The bins of one number: bin i holds what lies above `fine[i - 1]` and not above `fine[i]`.

    Attributes:
        fine: ascending; none for a number that the baseline does not have.
        coarse: positions in `fine` of the edges of the wide bins.
    """

    fine: tuple[float, ...] = ()
    coarse: tuple[int, ...] = ()

    def name(self, position: int, wide: bool) -> str:
        """The bin as an interval, `missing` for the one behind the last."""
        edges = [self.fine[i] for i in self.coarse] if wide else list(self.fine)
        if position > len(edges):
            return "missing"
        low = f"({edges[position - 1]:g}" if position else "(-inf"
        return f"{low}, {edges[position]:g}]" if position < len(edges) else f"{low}, inf)"


@dataclass(frozen=True)
class Split:
    """How one column parts the rows into segments: every row falls into exactly one.

    Attributes:
        column: a text column, or the amount.
        values: of text, those that are a segment each; everything else, and the missing, is the rest.
        edges: of the amount, the upper ends of all bands but the last, in minor units of the base currency.
    """

    column: str
    values: tuple[str, ...] = ()
    edges: tuple[float, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        if not self.edges:
            return tuple(f"{self.column}={value}" for value in (*self.values, REST))
        bands = Edges(self.edges, tuple(range(len(self.edges))))
        intervals = (bands.name(band, wide=True) for band in range(len(self.edges) + 1))
        return tuple(f"{self.column}={interval}" for interval in (*intervals, REST))


@dataclass(frozen=True)
class Layout:
    """What profiles count; two profiles of one layout can be added and compared.

    Attributes:
        numbers: edges by column.
        texts: by column the values that have a bin of their own, the most frequent first.
        splits: how rows are parted into segments.
    """

    numbers: Mapping[str, Edges]
    texts: Mapping[str, tuple[str, ...]]
    splits: tuple[Split, ...] = ()

    @property
    def segments(self) -> tuple[str, ...]:
        """All rows, then the segments of each split."""
        return (ALL, *(name for split in self.splits for name in split.names))

    def to_dict(self) -> dict[str, Any]:
        return {
            "numbers": {name: {"fine": e.fine, "coarse": e.coarse} for name, e in self.numbers.items()},
            "texts": dict(self.texts),
            "splits": [{"column": s.column, "values": s.values, "edges": s.edges} for s in self.splits],
        }

    @staticmethod
    def from_dict(raw: Mapping[str, Any]) -> Layout:
        """Reads back `to_dict`.

        Raises:
            ArtifactError: it is no layout.
        """
        try:
            return Layout(
                {name: Edges(tuple(e["fine"]), tuple(e["coarse"])) for name, e in raw["numbers"].items()},
                {name: tuple(values) for name, values in raw["texts"].items()},
                tuple(Split(s["column"], tuple(s["values"]), tuple(s["edges"])) for s in raw["splits"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ArtifactError(f"not the layout of a profile ({error!r}); profile the baseline again") from error


def segment_column(segment: str) -> str:
    """The column that parts the rows into this segment and its neighbours; `all` for all rows."""
    return segment.partition("=")[0]


def lay_out(baseline: pa.Table, config: LayoutConfig) -> Layout:
    """The layout that cuts the baseline into bins and segments of about equal size.

    Args:
        baseline: features, and columns of the transaction that have no feature of their name; a sample of 100,000 rows
            that are spread over its whole time is enough.
        config: how finely.
    """
    numbers, texts = {}, {}
    for name in feature_columns(baseline):
        if is_text(baseline[name].type):
            texts[name] = _most_frequent(baseline[name], config.categories)
        else:
            numbers[name] = _edges(number_values(baseline[name]), config)
    return Layout(numbers, texts, tuple(_splits(baseline, config)))


def feature_columns(table: pa.Table) -> list[str]:
    """The columns of a table that a profile counts: text, numbers and vectors of them."""
    return [
        name
        for name in table.column_names
        if name not in _NOT_FEATURES and (is_text(table[name].type) or _is_number(table[name].type))
    ]


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type, or a vector of it, holds text."""
    kind = kind.value_type if pa.types.is_fixed_size_list(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def number_values(column: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    """All values, those of vectors row by row; NaN for what is missing."""
    values = flat(column).cast(pa.float64())
    return values.to_numpy(zero_copy_only=False)


def flat(column: pa.ChunkedArray) -> pa.Array:
    """The values of a column as one array, those of vectors row by row."""
    values = column.combine_chunks()
    return values.flatten() if pa.types.is_fixed_size_list(values.type) else values


def _is_number(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_fixed_size_list(kind) else kind
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind))


def _edges(values: npt.NDArray[np.float64], config: LayoutConfig) -> Edges:
    present = values[~np.isnan(values)]
    if not len(present):
        return Edges()
    pieces = config.bins * config.fine
    # Edges are values of the data, so that a number with few values has each in a bin of its own.
    quantiles = np.quantile(present, np.arange(1, pieces) / pieces, method="inverted_cdf")
    zero = [0.0] if present.min() == 0 else []
    coarse = np.unique(np.append(quantiles[config.fine - 1 :: config.fine], zero))
    fine = np.unique(np.append(quantiles, zero))
    return Edges(tuple(fine.tolist()), tuple(np.searchsorted(fine, coarse).tolist()))


def _most_frequent(column: pa.ChunkedArray, at_most: int) -> tuple[str, ...]:
    counts = {item["values"]: item["counts"] for item in flat(column).value_counts().to_pylist()}
    # Equal counts go by value: the same rows in another order give the same layout.
    ranked = sorted((value for value in counts if value), key=lambda value: (-counts[value], value))
    return tuple(ranked[:at_most])


def _splits(baseline: pa.Table, config: LayoutConfig) -> Iterator[Split]:
    for column in config.segment_columns:
        if column in baseline.column_names:
            yield Split(column, values=_most_frequent(baseline[column], config.segments_per_column))
    if AMOUNT in baseline.column_names and config.amount_bands > 1 and baseline.num_rows:
        bands = np.arange(1, config.amount_bands) / config.amount_bands
        amounts = number_values(baseline[AMOUNT])
        edges = np.unique(np.nanquantile(amounts, bands, method="inverted_cdf"))
        yield Split(AMOUNT, edges=tuple(edges.tolist()))
