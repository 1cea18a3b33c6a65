"""The feature declaration: every stateful feature, once, as data; the batch engine and the online store both read it.

Semantics, for a transaction at time `t` with key `k`:

- A window of length `w` and hop `h` holds the events of `k` with `floor(t - w, h) <= event_time < t`, hops counted from
  the Unix epoch in UTC: never the transaction itself, nor another with its timestamp.  The leading edge is exact, the
  tail moves in hops.
- A label is an event of its own at `label_time`: `fraud_count` and `fraud_rate` hold the labels of `k` with
  `floor(t - w, h) <= label_time < t`, so that nothing sees a label before it was known.  Among the same labels,
  `seconds_since_first_fraud`, `seconds_since_last_fraud` and `seconds_since_last_genuine` are the time since the one
  that they name became known: how long an attack has been going on, and whether it still does, as far as one can tell.
- `last`, `seconds_since_last`, `distance_km_since_last`, `speed_km_per_h_since_last`, `first_seen` and the vectors look
  at the events of the window `LOOK_BACK`; the last event is the one with the largest (event_time, transaction_id), ids
  compared as UTF-8 bytes.
- Vectors hold k values, that of the last event first: `recent` the event's own, `recent_seconds_between` and
  `recent_distance_km_between` the time and the way from the event before it, which lies in the window too.  The
  transaction itself is in none of them.
- `count`, `distinct` and `fraud_count` are 0 on an empty window, everything else is missing there.  Missing is NaN for
  numbers and "" for text, never 0.
- Events whose column is missing are skipped by `sum`, `mean`, `std`, `min`, `max` and `distinct`, and pass no filter on
  it; `last` and the vectors keep their place with a missing value.  `first_seen` is 1 when no event in the window has
  the transaction's own value, 0 when one has, missing when the transaction has none.
- A transaction without the key (no device, say) belongs to no state, and all its features for that key are missing.
- `mean` is sum / count, `std` is the population's, sqrt(n S2 - S1^2) / n from exact integer sums; distances are great
  circles (haversine) on a sphere of radius `EARTH_RADIUS_KM`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal, get_args

from schemas.durations import seconds
from schemas.errors import ArtifactError, DeclarationError
from schemas.transaction import CALENDAR_COLUMNS, COLUMN

EARTH_RADIUS_KM = 6371.0088

KEYS: dict[str, tuple[str, ...]] = {
    "card": ("card_id",),
    "merchant": ("merchant_id",),
    "device": ("device_id",),
    "card_merchant": ("card_id", "merchant_id"),
}

Aggregate = Literal[
    "count", "sum", "mean", "std", "min", "max", "distinct", "last", "seconds_since_last", "distance_km_since_last",
    "speed_km_per_h_since_last", "first_seen", "recent", "recent_seconds_between", "recent_distance_km_between",
    "fraud_count", "fraud_rate", "seconds_since_first_fraud", "seconds_since_last_fraud", "seconds_since_last_genuine",
]  # fmt: skip
_OVER_INTEGERS = ("sum", "mean", "std", "min", "max")
OVER_LABEL_TIMES: tuple[Aggregate, ...] = (
    "seconds_since_first_fraud", "seconds_since_last_fraud", "seconds_since_last_genuine",
)  # fmt: skip
OVER_LABELS: tuple[Aggregate, ...] = ("fraud_count", "fraud_rate", *OVER_LABEL_TIMES)
_OVER_PLACES = ("distance_km_since_last", "speed_km_per_h_since_last", "recent_distance_km_between")
_VECTORS = ("recent", "recent_seconds_between", "recent_distance_km_between")
_OVER_TIMES = ("seconds_since_last", "recent_seconds_between")
_LOOKING_BACK = ("last", *_OVER_TIMES, *_OVER_PLACES, "first_seen", "recent")
_WITHOUT_COLUMN = ("count", *_OVER_TIMES, *_OVER_PLACES, *OVER_LABELS)
_COMPARING = ("distinct", "first_seen")
_TEXT_KEEPING = ("last", "recent")
_LABEL_COLUMNS = ("is_fraud", "label_time")


@dataclass(frozen=True)
class Window:
    """A sliding window: its name, length and hop in seconds."""

    name: str
    length_s: int
    hop_s: int

    def __post_init__(self) -> None:
        if self.length_s <= 0 or self.hop_s <= 0 or self.length_s % self.hop_s:
            raise DeclarationError(
                f"window {self.name}: hop {self.hop_s} s does not divide the length {self.length_s} s; "
                "use a positive length and a hop that does"
            )


def window(length: str, hop: str) -> Window:
    """A window from durations, such as `window("24h", "1h")`; the length is also its name."""
    return Window(length, seconds(length), seconds(hop))


HOUR, DAY, WEEK, MONTH = window("1h", "1min"), window("24h", "1h"), window("7d", "1h"), window("30d", "1d")
LOOK_BACK = MONTH


@dataclass(frozen=True)
class Filter:
    """Keeps the events whose `column` compares to `value` as `op` says; the name becomes part of the feature's name."""

    name: str
    column: str
    op: Literal["<", ">="]
    value: int

    def __post_init__(self) -> None:
        if self.column not in CALENDAR_COLUMNS and (self.column not in COLUMN or COLUMN[self.column].type != "int64"):
            raise DeclarationError(
                f"filter {self.name!r} names {self.column!r}; it must be an integer column of a transaction"
            )
        if self.op not in ("<", ">="):
            raise DeclarationError(f"filter {self.name!r} compares by {self.op!r}; use < or >=")


PROBE = Filter("probe", "amount_base_minor", "<", 500)
NIGHT = Filter("night", "second_of_day", "<", 6 * 3_600)
WEEKEND = Filter("weekend", "second_of_week", ">=", 5 * 86_400)


@dataclass(frozen=True)
class Feature:
    """One declared feature.

    Attributes:
        key: a name in `KEYS`.
        aggregate: what is computed.
        window: which events count.
        column: what is aggregated; none for counts and labels.
        where: keeps only some events.
        cap: `distinct` stops at it.
        k: how many values a vector has.
    """

    key: str
    aggregate: Aggregate
    window: Window = LOOK_BACK
    column: str | None = None
    where: Filter | None = None
    cap: int | None = None
    k: int | None = None

    def __post_init__(self) -> None:
        for complaint in _complaints(self):
            raise DeclarationError(f"feature {self.key} {self.column or ''} {self.aggregate}: {complaint}")

    @property
    def name(self) -> str:
        """Derived, never typed: key, filter, column, aggregate, window."""
        span = None if self.aggregate in _LOOKING_BACK else self.window.name
        tail = str(self.k) if self.is_vector else span
        parts = ("_".join(KEYS[self.key]), self.where and self.where.name, self.column, self.aggregate, tail)
        return "_".join(part for part in parts if part)

    @property
    def is_text(self) -> bool:
        return self.aggregate in _TEXT_KEEPING and self.column is not None and COLUMN[self.column].type == "string"

    @property
    def is_vector(self) -> bool:
        return self.aggregate in _VECTORS

    @property
    def width(self) -> int:
        """How many values one transaction has: k for a vector, else 1."""
        return self.k or 1

    @property
    def inputs(self) -> frozenset[str]:
        """The canonical columns it is computed from."""
        columns = {*KEYS[self.key], "event_time"}
        if self.column:
            columns.add(self.column)
        if self.where and self.where.column in COLUMN:
            columns.add(self.where.column)
        if self.aggregate in OVER_LABELS:
            columns |= {"is_fraud", "label_time"}
        if self.aggregate in _OVER_PLACES:
            columns |= {"latitude", "longitude"}
        return frozenset(columns)


def _complaints(feature: Feature) -> Iterable[str]:
    if feature.key not in KEYS:
        yield f"unknown key {feature.key!r}; use one of {', '.join(KEYS)}"
    if feature.aggregate not in get_args(Aggregate):
        yield f"unknown aggregate {feature.aggregate!r}; use one of {', '.join(get_args(Aggregate))}"
    if feature.column is not None and feature.column not in COLUMN:
        yield f"unknown column {feature.column!r}; use one of {', '.join(COLUMN)}"
    if (feature.column is None) != (feature.aggregate in _WITHOUT_COLUMN):
        yield "give the column to aggregate" if feature.column is None else "it takes no column; leave the column out"
    if feature.aggregate in _OVER_INTEGERS and COLUMN[str(feature.column)].type != "int64":
        yield f"column {feature.column!r} is no integer one; sums are exact, so use amount_base_minor or amount_minor"
    if feature.column in _LABEL_COLUMNS:
        yield f"column {feature.column!r} is not known when the event happens; use fraud_count or fraud_rate"
    if feature.aggregate in _COMPARING and COLUMN[str(feature.column)].type == "float64":
        yield f"column {feature.column!r} holds fractions, which are hardly ever equal; use a text or integer column"
    if (feature.cap is not None) != (feature.aggregate == "distinct") or (feature.cap is not None and feature.cap < 1):
        yield "distinct, and only distinct, needs a cap of 1 or more (state per key must be bounded)"
    if (feature.k is not None) != feature.is_vector or (feature.k is not None and feature.k < 1):
        yield "a vector, and only a vector, needs k of 1 or more: how many values it has"
    if feature.aggregate in _LOOKING_BACK and feature.window != LOOK_BACK:
        yield f"it looks back {LOOK_BACK.name}; leave the window out"
    if feature.where and feature.aggregate in (*_LOOKING_BACK, *OVER_LABELS):
        yield "filters work on counts, sums, means, deviations, extremes and distinct only"


@dataclass(frozen=True)
class RowInput:
    """A column of the transaction itself that goes to the model as it is; deriving more from it is the model's work."""

    column: str

    def __post_init__(self) -> None:
        if self.column not in COLUMN and self.column not in CALENDAR_COLUMNS:
            raise DeclarationError(f"row input {self.column!r} is not a column of a transaction")
        if self.column in ("transaction_id", "event_time", *_LABEL_COLUMNS):
            raise DeclarationError(
                f"row input {self.column!r} names the row or its label, which no model may see; "
                "use second_of_week for the time"
            )

    @property
    def name(self) -> str:
        return self.column

    @property
    def is_text(self) -> bool:
        return self.column in COLUMN and COLUMN[self.column].type == "string"

    @property
    def is_vector(self) -> bool:
        return False

    @property
    def width(self) -> int:
        return 1

    @property
    def inputs(self) -> frozenset[str]:
        return frozenset({"event_time" if self.column in CALENDAR_COLUMNS else self.column})


ROW_INPUTS: tuple[RowInput, ...] = tuple(
    map(RowInput, ("amount_base_minor", "second_of_week", "merchant_category", "channel", "currency", "country"))
)

AMOUNT = "amount_base_minor"
_ALL = (HOUR, DAY, WEEK, MONTH)
_RECENT = 16
FEATURES: tuple[Feature, ...] = (
    *(Feature("card", "count", w) for w in _ALL),
    *(Feature("card", "sum", w, AMOUNT) for w in _ALL),
    *(Feature("card", "mean", w, AMOUNT) for w in _ALL),
    *(Feature("card", "std", w, AMOUNT) for w in (DAY, WEEK, MONTH)),
    *(Feature("card", "min", w, AMOUNT) for w in (HOUR, MONTH)),
    *(Feature("card", "max", w, AMOUNT) for w in _ALL),
    *(Feature("card", "count", w, where=PROBE) for w in (HOUR, DAY)),
    *(Feature("card", "count", MONTH, where=f) for f in (NIGHT, WEEKEND)),
    *(Feature("card", "distinct", DAY, c, cap=16) for c in ("merchant_id", "merchant_category", "city", "country")),
    Feature("card", "distinct", WEEK, "device_id", cap=16),
    Feature("card", "last", column=AMOUNT),
    Feature("card", "last", column="merchant_category"),
    Feature("card", "seconds_since_last"),
    Feature("card", "distance_km_since_last"),
    Feature("card", "speed_km_per_h_since_last"),
    *(Feature("card", "first_seen", column=c) for c in ("merchant_id", "merchant_category", "device_id")),
    *(Feature("card", "first_seen", column=c) for c in ("city", "country")),
    *(Feature("card", "recent", column=c, k=_RECENT) for c in (AMOUNT, "merchant_category")),
    Feature("card", "recent_seconds_between", k=_RECENT),
    Feature("card", "recent_distance_km_between", k=_RECENT),
    Feature("card", "fraud_count", MONTH),
    Feature("card", "seconds_since_first_fraud", MONTH),
    *(Feature("merchant", "count", w) for w in _ALL),
    *(Feature("merchant", "sum", w, AMOUNT) for w in (HOUR, DAY)),
    *(Feature("merchant", "mean", w, AMOUNT) for w in (DAY, WEEK, MONTH)),
    *(Feature("merchant", "std", w, AMOUNT) for w in (WEEK, MONTH)),
    *(Feature("merchant", "max", w, AMOUNT) for w in (DAY, MONTH)),
    Feature("merchant", "count", HOUR, where=PROBE),
    *(Feature("merchant", "distinct", w, "card_id", cap=64) for w in (HOUR, DAY)),
    *(Feature("merchant", "fraud_count", w) for w in (DAY, WEEK, MONTH)),
    *(Feature("merchant", "fraud_rate", w) for w in (DAY, WEEK, MONTH)),
    *(Feature("merchant", a, MONTH) for a in OVER_LABEL_TIMES),
    *(Feature("device", "count", w) for w in _ALL),
    *(Feature("device", "sum", w, AMOUNT) for w in (DAY, MONTH)),
    *(Feature("device", "mean", w, AMOUNT) for w in (DAY, MONTH)),
    Feature("device", "std", MONTH, AMOUNT),
    Feature("device", "max", DAY, AMOUNT),
    *(Feature("device", "distinct", w, "card_id", cap=16) for w in (DAY, WEEK)),
    Feature("device", "seconds_since_last"),
    *(Feature("device", a, MONTH) for a in ("fraud_count", "fraud_rate", "seconds_since_first_fraud")),
    *(Feature("card_merchant", "count", w) for w in (DAY, WEEK, MONTH)),
    Feature("card_merchant", "sum", MONTH, AMOUNT),
    Feature("card_merchant", "mean", MONTH, AMOUNT),
    Feature("card_merchant", "std", MONTH, AMOUNT),
    Feature("card_merchant", "max", MONTH, AMOUNT),
    Feature("card_merchant", "seconds_since_last"),
)


@dataclass(frozen=True)
class FeatureSpec:
    """The inputs of one model: what a source can provide of the declaration, in the fixed order of `score_packed`.

    Attributes:
        row_inputs: the transaction's own columns.
        features: the stateful features.
        left_out: names of declared inputs that the source lacks a column for.
    """

    row_inputs: tuple[RowInput, ...]
    features: tuple[Feature, ...]
    left_out: tuple[str, ...]

    @cached_property
    def inputs(self) -> tuple[RowInput | Feature, ...]:
        return (*self.row_inputs, *self.features)

    @cached_property
    def numeric(self) -> tuple[RowInput | Feature, ...]:
        return tuple(i for i in self.inputs if not i.is_text)

    @cached_property
    def categorical(self) -> tuple[RowInput | Feature, ...]:
        return tuple(i for i in self.inputs if i.is_text)

    @property
    def numeric_width(self) -> int:
        """F of `numeric` float32 `[batch, F]`; a vector takes as many columns as it is wide."""
        return sum(i.width for i in self.numeric)

    @property
    def categorical_width(self) -> int:
        """C of `categorical` string `[batch, C]`."""
        return sum(i.width for i in self.categorical)

    @property
    def reach_s(self) -> int:
        """No window of any feature holds what is older than this, in seconds; 0 without features."""
        return max((feature.window.length_s + feature.window.hop_s for feature in self.features), default=0)

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON: two specs with one digest are computed and packed alike."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @staticmethod
    def from_json(text: str) -> FeatureSpec:
        """Reads back `to_json`.

        Raises:
            ArtifactError: the text is not a feature specification that this version can compute.
        """
        try:
            raw = json.loads(text)
            return FeatureSpec(
                tuple(RowInput(**i) for i in raw["row_inputs"]),
                tuple(_feature(f) for f in raw["features"]),
                tuple(raw["left_out"]),
            )
        except (ValueError, KeyError, TypeError, DeclarationError) as error:
            raise ArtifactError(
                f"not a feature specification of this version: {error}; retrain the model with it"
            ) from error


def _feature(raw: dict[str, Any]) -> Feature:
    where = Filter(**raw["where"]) if raw["where"] else None
    return Feature(**{**raw, "window": Window(**raw["window"]), "where": where})


def specify(
    provided: Iterable[str], features: tuple[Feature, ...] = FEATURES, row_inputs: tuple[RowInput, ...] = ROW_INPUTS
) -> FeatureSpec:
    """What of the declaration can be computed from the canonical columns that a source provides."""
    columns = frozenset(provided)
    declared: tuple[RowInput | Feature, ...] = (*row_inputs, *features)
    names = [i.name for i in declared]
    for name in {n for n in names if names.count(n) > 1}:
        raise DeclarationError(f"two declared inputs are named {name!r}; remove one")
    return FeatureSpec(
        tuple(i for i in row_inputs if i.inputs <= columns),
        tuple(f for f in features if f.inputs <= columns),
        tuple(i.name for i in declared if not i.inputs <= columns),
    )
