"""The profile: what is counted of some rows, per feature and segment; profiles of one layout add up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from components.profiles.layout import ALL, Edges, Layout, Split, feature_columns, flat, is_text, number_values
from components.profiles.repeats import NO_REPEATS, Repeats, signatures
from components.profiles.sketch import SKETCH_WIDTH, count_values, sketch_places
from schemas.errors import ArtifactError
from schemas.features import AMOUNT
from schemas.transaction import DAY_S, LABEL, SECOND_US, second_of_day

Counts = npt.NDArray[np.int64]

# Labels as positions: not known, genuine, fraud.
UNKNOWN, GENUINE, FRAUD = range(3)
_LABELS = 3
HALF_HOURS = 48
# How many values of a text are known by name beyond those of the layout: enough for each that has half a percent.
NAMED_VALUES = 200
_ROWS_AT_ONCE = 262_144
# Most of the counting lets go of the interpreter's lock.
_COLUMNS_AT_ONCE = 4


@dataclass(frozen=True)
class NumberCounts:
    """What is counted of one number.

    Attributes:
        bins: values `[segments, fine edges + 2]`: up to each edge, above the last, missing.
        sketch: values of all rows `[label, SKETCH_WIDTH]` by magnitude, the missing first.
    """

    bins: Counts
    sketch: Counts


@dataclass(frozen=True)
class TextCounts:
    """What is counted of one text.

    Attributes:
        bins: values `[segments, named values + 2]`: each named one, all others, missing.
        named: of all rows, `[label]` by value for the most frequent values, never the missing; of a column with more
            than `NAMED_VALUES` a rare value may be counted too low.
        total: values of all rows `[label]`, the missing included.
        missing: values of all rows `[label]`.
    """

    bins: Counts
    named: Mapping[str, tuple[int, int, int]]
    total: Counts
    missing: Counts


@dataclass(frozen=True)
class Profile:
    """What is counted of some rows.

    Attributes:
        layout: of what.
        rows: `[segments, label]`.
        span_us: first and last event time; None without rows, or where they have no time.
        half_hours: rows `[segments, 48]` by the half hour of the UTC day; all 0 where the rows have no time.
        days: rows by UTC day, as days since 1970-01-01.
        numbers, texts: by column; columns that the layout does not know have no bins.
        amounts: rows `[SKETCH_WIDTH]` by currency, "" where the rows have none.
        repeats: a sample of signatures.
    """

    layout: Layout
    rows: Counts
    span_us: tuple[int, int] | None
    half_hours: Counts
    days: Mapping[int, int]
    numbers: Mapping[str, NumberCounts]
    texts: Mapping[str, TextCounts]
    amounts: Mapping[str, Counts]
    repeats: Repeats

    @property
    def total(self) -> int:
        """How many rows there are."""
        return int(self.rows[0].sum())

    @property
    def columns(self) -> frozenset[str]:
        return frozenset((*self.numbers, *self.texts))

    def to_dict(self) -> dict[str, Any]:
        """A JSON object; profiles of the same rows give the same one."""
        return {
            "layout": self.layout.to_dict(),
            "rows": self.rows.tolist(),
            "span_us": self.span_us,
            "half_hours": self.half_hours.tolist(),
            "days": {str(day): rows for day, rows in self.days.items()},
            "numbers": {
                name: {"bins": c.bins.tolist(), "sketch": [_sparse(of_label) for of_label in c.sketch]}
                for name, c in self.numbers.items()
            },
            "texts": {
                name: {
                    "bins": c.bins.tolist(),
                    "named": dict(c.named),
                    "total": c.total.tolist(),
                    "missing": c.missing.tolist(),
                }
                for name, c in self.texts.items()
            },
            "amounts": {currency: _sparse(sketch) for currency, sketch in self.amounts.items()},
            "repeats": self.repeats.to_dict(),
        }

    @staticmethod
    def from_dict(raw: Mapping[str, Any]) -> Profile:
        """Reads back `to_dict`.

        Raises:
            ArtifactError: it is no profile.
        """
        try:
            return Profile(
                Layout.from_dict(raw["layout"]),
                _array(raw["rows"]),
                None if raw["span_us"] is None else (int(raw["span_us"][0]), int(raw["span_us"][1])),
                _array(raw["half_hours"]),
                {int(day): int(rows) for day, rows in raw["days"].items()},
                {
                    name: NumberCounts(_array(c["bins"]), np.stack([_dense(of_label) for of_label in c["sketch"]]))
                    for name, c in raw["numbers"].items()
                },
                {
                    name: TextCounts(
                        _array(c["bins"]),
                        {value: tuple(counts) for value, counts in c["named"].items()},
                        _array(c["total"]),
                        _array(c["missing"]),
                    )
                    for name, c in raw["texts"].items()
                },
                {currency: _dense(sketch) for currency, sketch in raw["amounts"].items()},
                Repeats.from_dict(raw["repeats"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise ArtifactError(f"not a profile ({error!r}); profile the data again") from error


def profile(rows: pa.Table | Iterable[pa.Table], layout: Layout) -> Profile:
    """The profile of a table, or of the tables that an iterator gives, one at a time in memory.

    Args:
        rows: features as `compute_features` gives them, as float32 or float64, `is_fraud` where labels are known, and
            those of the transaction's own columns that are to be watched; `event_time` is needed for faults of time,
            `card_id` and `merchant_id` for repeated days.  All tables have the same columns.
        layout: of the baseline.
    """
    tables = [rows] if isinstance(rows, pa.Table) else rows
    return merge(_profile(batch, layout) for table in tables for batch in _batches(table))


def merge(profiles: Iterable[Profile]) -> Profile:
    """The profile of the rows of all.

    Raises:
        ArtifactError: there is none, or they count different things.
    """
    parts = iter(profiles)
    first = next(parts, None)
    if first is None:
        raise ArtifactError("there is no profile to merge; give the rows of at least one batch")
    return reduce(_add, parts, first)


def _batches(table: pa.Table) -> Iterator[pa.Table]:
    for first in range(0, max(table.num_rows, 1), _ROWS_AT_ONCE):
        yield table.slice(first, _ROWS_AT_ONCE)


def _profile(batch: pa.Table, layout: Layout) -> Profile:
    label = _labels(batch)
    splits = list(_segment_positions(batch, layout))
    together = np.array(splits, np.int64).reshape(len(splits), batch.num_rows)
    segments = len(layout.segments)

    def count(name: str) -> NumberCounts | TextCounts:
        width = batch[name].type.list_size if pa.types.is_fixed_size_list(batch[name].type) else 1
        if is_text(batch[name].type):
            of_values, labels = [np.repeat(positions, width) for positions in splits], np.repeat(label, width)
            return _count_text(batch[name], layout.texts.get(name, ()), labels, of_values, segments)
        edges = layout.numbers.get(name, Edges())
        return _count_number(number_values(batch[name]), width, edges, label, together, segments)

    names = feature_columns(batch)
    with ThreadPoolExecutor(_COLUMNS_AT_ONCE) as threads:
        columns = dict(zip(names, threads.map(count, names), strict=True))
    micros = _event_times(batch)
    return Profile(
        layout,
        _by_segment(label, 3, splits, segments),
        (int(micros.min()), int(micros.max())) if len(micros) else None,
        _by_segment(second_of_day(micros) // (DAY_S // HALF_HOURS), HALF_HOURS, splits, segments)
        if len(micros)
        else np.zeros((segments, HALF_HOURS), np.int64),
        _days(micros),
        {name: counts for name, counts in columns.items() if isinstance(counts, NumberCounts)},
        {name: counts for name, counts in columns.items() if isinstance(counts, TextCounts)},
        dict(_amounts(batch)),
        signatures(batch) if {"card_id", "merchant_id", AMOUNT, "event_time"} <= {*batch.column_names} else NO_REPEATS,
    )


def _labels(batch: pa.Table) -> Counts:
    if LABEL not in batch.column_names:
        return np.full(batch.num_rows, UNKNOWN)
    return flat(batch[LABEL].cast(pa.int8())).cast(pa.int64()).fill_null(-1).to_numpy() + 1


def _segment_positions(batch: pa.Table, layout: Layout) -> Iterator[Counts]:
    """For each split the position of each row's segment in `layout.segments`."""
    first = layout.segments.index(ALL) + 1
    for split in layout.splits:
        yield first + _within(split, batch)
        first += len(split.names)


def _within(split: Split, batch: pa.Table) -> Counts:
    rest = len(split.names) - 1
    if split.column not in batch.column_names:
        return np.full(batch.num_rows, rest)
    if split.edges:
        amounts = number_values(batch[split.column])
        return np.where(np.isnan(amounts), rest, np.searchsorted(split.edges, amounts))
    return _text_positions(batch[split.column], split.values, rest=rest, missing=rest)[0]


def _text_positions(
    column: pa.ChunkedArray, values: tuple[str, ...], rest: int, missing: int
) -> tuple[Counts, Counts, pa.Array]:
    """The bin of each value, its position in the dictionary, and the dictionary; "" and null are missing."""
    encoded = flat(column).fill_null("").dictionary_encode()
    position_of = {value: position for position, value in enumerate(values)} | {"": missing}
    words = encoded.dictionary
    of_word = np.array([position_of.get(word, rest) for word in words.to_pylist()], np.int64)
    codes = encoded.indices.to_numpy().astype(np.int64)
    return of_word[codes], codes, words


def _by_segment(bins: Counts, width: int, splits: list[Counts], segments: int) -> Counts:
    """Counts `[segments, width]`: of all rows, and of each segment."""
    counts = np.zeros(segments * width, np.int64)
    counts[:width] = np.bincount(bins, minlength=width)
    for positions in splits:
        counts += np.bincount(positions * width + bins, minlength=len(counts))
    return counts.reshape(segments, width)


def _count_number(
    values: npt.NDArray[np.float64], width: int, edges: Edges, label: Counts, splits: Counts, segments: int
) -> NumberCounts:
    counted = NumberCounts(
        np.zeros((segments, len(edges.fine) + 2), np.int64), np.zeros((_LABELS, SKETCH_WIDTH), np.int64)
    )
    count_values(values, width, np.array(edges.fine), label, splits, counted.bins, counted.sketch)
    return counted


def _count_text(
    column: pa.ChunkedArray, values: tuple[str, ...], label: Counts, splits: list[Counts], segments: int
) -> TextCounts:
    rest, missing = len(values), len(values) + 1
    bins, codes, words = _text_positions(column, values, rest, missing)
    of_word = np.bincount(codes * 3 + label, minlength=3 * len(words)).reshape(len(words), 3).astype(np.int64)
    # One more than are kept, since one of them may be the missing.
    order = np.argsort(-of_word.sum(axis=1), kind="stable")[: NAMED_VALUES + 1]
    frequent = words.take(pa.array(order)).to_pylist()
    named = {word: tuple(of_word[i].tolist()) for word, i in zip(frequent, order, strict=True) if word}
    return TextCounts(
        _by_segment(bins, len(values) + 2, splits, segments),
        _most_frequent(named),
        np.bincount(label, minlength=3).astype(np.int64),
        np.bincount(label[bins == missing], minlength=3).astype(np.int64),
    )


def _most_frequent(named: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, int, int]]:
    ranked = sorted(named.items(), key=lambda item: (-sum(item[1]), item[0]))
    return {value: (counts[0], counts[1], counts[2]) for value, counts in ranked[:NAMED_VALUES]}


def _event_times(batch: pa.Table) -> Counts:
    """UTC microseconds `[rows]`; none where the rows have no time."""
    if "event_time" not in batch.column_names:
        return np.array([], np.int64)
    return flat(batch["event_time"]).cast(pa.int64()).to_numpy()


def _days(micros: Counts) -> dict[int, int]:
    days, rows = np.unique(micros // (DAY_S * SECOND_US), return_counts=True)
    return dict(zip(days.tolist(), rows.tolist(), strict=True))


def _amounts(batch: pa.Table) -> Iterator[tuple[str, Counts]]:
    if AMOUNT not in batch.column_names:
        return
    places = sketch_places(number_values(batch[AMOUNT]))
    if "currency" not in batch.column_names:
        yield "", np.bincount(places, minlength=SKETCH_WIDTH).astype(np.int64)
        return
    _, codes, words = _text_positions(batch["currency"], (), rest=0, missing=0)
    for code, currency in enumerate(words.to_pylist()):
        yield currency, np.bincount(places[codes == code], minlength=SKETCH_WIDTH).astype(np.int64)


def _add(a: Profile, b: Profile) -> Profile:
    if a.layout != b.layout:
        raise ArtifactError("profiles of two layouts cannot be added; profile both in the layout of the baseline")
    if a.columns != b.columns:
        raise ArtifactError(
            f"profiles of different columns cannot be added; only one has {', '.join(sorted(a.columns ^ b.columns))}"
        )
    none = np.zeros(SKETCH_WIDTH, np.int64)
    return Profile(
        a.layout,
        a.rows + b.rows,
        _add_spans(a.span_us, b.span_us),
        a.half_hours + b.half_hours,
        {day: a.days.get(day, 0) + b.days.get(day, 0) for day in sorted({*a.days, *b.days})},
        {
            name: NumberCounts(c.bins + b.numbers[name].bins, c.sketch + b.numbers[name].sketch)
            for name, c in a.numbers.items()
        },
        {name: _add_texts(c, b.texts[name]) for name, c in a.texts.items()},
        {
            currency: a.amounts.get(currency, none) + b.amounts.get(currency, none)
            for currency in sorted({*a.amounts, *b.amounts})
        },
        a.repeats + b.repeats,
    )


def _add_spans(a: tuple[int, int] | None, b: tuple[int, int] | None) -> tuple[int, int] | None:
    return (min(a[0], b[0]), max(a[1], b[1])) if a and b else a or b


def _add_texts(a: TextCounts, b: TextCounts) -> TextCounts:
    nothing = (0, 0, 0)
    named = {
        value: tuple(x + y for x, y in zip(a.named.get(value, nothing), b.named.get(value, nothing), strict=True))
        for value in {*a.named, *b.named}
    }
    return TextCounts(a.bins + b.bins, _most_frequent(named), a.total + b.total, a.missing + b.missing)


def _sparse(sketch: Counts) -> dict[str, int]:
    return {str(place): int(sketch[place]) for place in np.flatnonzero(sketch)}


def _dense(raw: Mapping[str, int]) -> Counts:
    sketch = np.zeros(SKETCH_WIDTH, np.int64)
    for place, count in raw.items():
        sketch[int(place)] = count
    return sketch


def _array(raw: list[Any]) -> Counts:
    return np.array(raw, np.int64)
