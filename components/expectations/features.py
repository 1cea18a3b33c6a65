"""The tables that the features' expectations are judged on: what follows from the declaration, counted over all rows.

The laws are read off the declaration: which values a number can have, when it is missing, and which of two numbers can
never be below the other.  Casting to float32 keeps all of them, because it never turns two numbers round.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

from components.expectations.table import Table
from components.expectations.text import shown
from components.schema_update import possible_range
from schemas.features import KEYS, LOOK_BACK, Aggregate, Feature, FeatureSpec, RowInput, Window
from schemas.transaction import CALENDAR_COLUMNS, COLUMN

COLUMNS: dict[str, tuple[str, ...]] = {
    "features": (
        "feature", "rows", "smallest", "largest", "lowest_possible", "highest_possible", "impossible", "fractions",
        "lost", "made_up",
    ),
    "relations": ("relation", "larger", "smaller", "because", "violations", "example"),
}  # fmt: skip
"""The tables and their columns.  Counts are of rows; of a vector a row counts once.  A law that does not concern a
feature has no value there."""

_COUNTING: tuple[Aggregate, ...] = ("count", "distinct", "fraud_count")
_OVER_VALUES: tuple[Aggregate, ...] = ("sum", "mean", "std", "min", "max")
_GROWING: tuple[Aggregate, ...] = ("count", "sum", "max", "distinct", "fraud_count", "seconds_since_first_fraud")
# In one window of amounts, none of which is negative, each is at least the one before it.
_ASCENDING: tuple[Aggregate, ...] = ("min", "mean", "max", "sum")


@dataclass(frozen=True)
class Relation:
    """Two numbers of a row, by name, of which `larger` is never below `smaller`; a missing one contradicts nothing."""

    larger: str
    smaller: str
    because: str


def relations(spec: FeatureSpec) -> tuple[Relation, ...]:
    """Every relation between two declared numbers that holds by their definition on any log."""
    declared = [f for f in spec.features if not f.is_text and not f.is_vector]
    found = (*_nested(declared), *_ordered(declared), *_parts(declared))
    return tuple(Relation(larger.name, smaller.name, because) for larger, smaller, because in found)


_Found = Iterator[tuple[Feature, Feature, str]]


def _nested(declared: Iterable[Feature]) -> _Found:
    alike = defaultdict(list)
    for f in declared:
        if f.aggregate in (*_GROWING, "min"):
            alike[f.key, f.aggregate, f.column, f.where, f.cap].append(f)
    for family in alike.values():
        for short, long in pairwise(sorted(family, key=lambda f: f.window.length_s)):
            # The tail of a window moves in hops: the longer one must begin earlier wherever the shorter one's tail is.
            if long.window.length_s >= short.window.length_s + short.window.hop_s:
                larger, smaller = (short, long) if short.aggregate == "min" else (long, short)
                yield larger, smaller, "the longer window holds the shorter one"


def _ordered(declared: Iterable[Feature]) -> _Found:
    alike: dict[tuple[str, str | None, Window], dict[Aggregate, Feature]] = defaultdict(dict)
    for f in declared:
        if f.aggregate in _OVER_VALUES and f.where is None:
            alike[f.key, f.column, f.window][f.aggregate] = f
    for family in alike.values():
        for smaller, larger in pairwise([family[aggregate] for aggregate in _ASCENDING if aggregate in family]):
            yield larger, smaller, f"a {larger.aggregate} is at least the {smaller.aggregate} of its window"
        if "std" in family and "max" in family:
            yield (
                family["max"],
                family["std"],
                "amounts deviate by no more than the largest of them",
            )


def _parts(declared: Iterable[Feature]) -> _Found:
    by_definition = {(f.key, f.aggregate, f.column, f.where, f.window): f for f in declared}
    for f in by_definition.values():
        whole = by_definition.get((f.key, "count", None, None, f.window))
        if whole is not None and f.aggregate == "count" and f.where is not None:
            yield whole, f, "a filter keeps no more than all"
        if whole is not None and f.aggregate == "distinct":
            yield whole, f, "there are no more distinct values than transactions"
        frauds = by_definition.get((f.key, "fraud_count", None, None, f.window))
        if frauds is not None and f.aggregate == "fraud_rate":
            yield frauds, f, "a share of frauds above 0 takes a fraud"
        for key, columns in KEYS.items():
            coarser = by_definition.get((key, f.aggregate, f.column, f.where, f.window))
            if f.aggregate in ("count", "sum", "max") and coarser is not None and set(columns) < set(KEYS[f.key]):
                yield coarser, f, "what a part of the transactions has, all of them have"


class FeatureSummary:
    """Takes the features batch by batch and makes `COLUMNS` of them."""

    def __init__(self, spec: FeatureSpec) -> None:
        self._numbers = spec.numeric
        self._laws = {declaration.name: _law(declaration, spec) for declaration in spec.numeric}
        self._relations = relations(spec)
        self._rows = 0
        self._smallest = dict.fromkeys(self._laws, np.inf)
        self._largest = dict.fromkeys(self._laws, -np.inf)
        self._counts: dict[str, dict[str, int]] = {
            name: dict.fromkeys(law.counted, 0) for name, law in self._laws.items()
        }
        self._violations = dict.fromkeys(self._relations, 0)
        self._examples = dict.fromkeys(self._relations, "")

    def add(self, batch: Mapping[str, np.ndarray]) -> None:
        """Counts rows in: of each declared number by name, float32 `[batch]`, vectors `[batch, k]`."""
        self._rows += len(next(iter(batch.values())))
        for name, law in self._laws.items():
            values = batch[name]
            present = values[~np.isnan(values)]
            if len(present):
                self._smallest[name] = min(self._smallest[name], float(present.min()))
                self._largest[name] = max(self._largest[name], float(present.max()))
            for count, rows in law.count(values, batch):
                self._counts[name][count] += rows
        for relation in self._relations:
            larger, smaller = batch[relation.larger], batch[relation.smaller]
            below = larger < smaller
            violations = int(np.count_nonzero(below))
            if violations and not self._violations[relation]:
                first = int(below.argmax())
                self._examples[relation] = f"{shown(float(larger[first]))} below {shown(float(smaller[first]))}"
            self._violations[relation] += violations

    def tables(self, rows_read: int) -> dict[str, Table]:
        """The tables by name, of `rows_read` rows in all; none where no row was added."""
        if not self._rows:
            return {}
        features = [
            {
                "feature": name,
                "rows": self._rows,
                "smallest": self._smallest[name],
                "largest": self._largest[name],
                "lowest_possible": law.lowest,
                "highest_possible": law.highest,
                **self._counts[name],
            }
            for name, law in self._laws.items()
        ]
        related = [
            {
                "relation": f"{relation.larger} >= {relation.smaller}",
                "larger": relation.larger,
                "smaller": relation.smaller,
                "because": relation.because,
                "violations": self._violations[relation],
                "example": self._examples[relation],
            }
            for relation in self._relations
        ]
        frames = {"features": (features, "feature"), "relations": (related, "relation")}
        return {
            name: Table(pd.DataFrame(rows, columns=list(COLUMNS[name])), self._rows, rows_read, by)
            for name, (rows, by) in frames.items()
            if rows
        }


@dataclass(frozen=True)
class _Presence:
    """When a number is there.

    Attributes:
        by: the count that says so; none where the number is always there.
        from_events: whether that count has to be above 0, or just to be there itself.
    """

    by: str | None = None
    from_events: bool = False

    def missing(self, batch: Mapping[str, np.ndarray], rows: int) -> np.ndarray:
        """In which rows it has to be missing, `[rows]`."""
        if self.by is None:
            return np.zeros(rows, bool)
        counts = batch[self.by]
        return ~(counts > 0) if self.from_events else np.isnan(counts)


@dataclass(frozen=True)
class _Law:
    """What one declared number keeps to by itself.

    Attributes:
        lowest, highest: what it can be at all.
        whole: whether it has no fraction.
        presence: none where no count tells when it is there.
    """

    lowest: float
    highest: float
    whole: bool
    presence: _Presence | None

    @property
    def counted(self) -> tuple[str, ...]:
        """The columns that `count` has something to say about."""
        return (
            "impossible",
            *(("fractions",) if self.whole else ()),
            *(("lost", "made_up") if self.presence is not None else ()),
        )

    def count(self, values: np.ndarray, batch: Mapping[str, np.ndarray]) -> Iterator[tuple[str, int]]:
        """How many rows break each part of the law; of a vector, the newest value says whether it is there."""
        # A float32 may lie a hair beyond the exact end.
        limit = np.float32(min(self.highest, float(np.finfo(np.float32).max)))
        yield "impossible", _rows((values < np.float32(self.lowest)) | (values > limit))
        if self.whole:
            yield "fractions", _rows((values != np.rint(values)) & ~np.isnan(values))
        if self.presence is not None:
            missing = np.isnan(values[:, 0] if values.ndim == 2 else values)
            expected = self.presence.missing(batch, len(values))
            yield "lost", _rows(missing & ~expected)
            yield "made_up", _rows(expected & ~missing)


def _law(declaration: RowInput | Feature, spec: FeatureSpec) -> _Law:
    lowest, highest = possible_range(declaration)
    column = COLUMN.get(declaration.column or "")
    integers = column is not None and column.type == "int64"
    if isinstance(declaration, RowInput):
        calendar = declaration.column in CALENDAR_COLUMNS
        always = calendar or (column is not None and column.required)
        return _Law(lowest, highest, integers or calendar, _Presence() if always else None)
    whole = declaration.aggregate in (*_COUNTING, "first_seen") or (
        integers and declaration.aggregate in ("sum", "min", "max", "last", "recent")
    )
    return _Law(lowest, highest, whole, _presence(declaration, {f.name for f in spec.features}))


def _presence(feature: Feature, declared: set[str]) -> _Presence | None:
    keyed = all(COLUMN[column].required for column in KEYS[feature.key])
    filled = feature.column is None or COLUMN[feature.column].required
    if feature.aggregate in _COUNTING and keyed:
        return _Presence()
    if feature.aggregate in _COUNTING:
        # It is missing with its key only, as any other count of that key is.
        count = Feature(feature.key, "count", LOOK_BACK).name
        return _Presence(count) if count in declared and count != feature.name else None
    if feature.aggregate == "first_seen":
        return _Presence() if keyed and filled else None
    if feature.aggregate in (*_OVER_VALUES, "last", "recent", "seconds_since_last") and filled:
        count = Feature(feature.key, "count", feature.window, where=feature.where).name
        return _Presence(count, from_events=True) if count in declared else None
    return None


def _rows(cells: np.ndarray) -> int:
    return int(np.count_nonzero(cells.any(axis=1) if cells.ndim == 2 else cells))
