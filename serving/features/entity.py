"""The features of one kind of key (the card, say), and how they are read from its series and sightings."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

from schemas.features import EARTH_RADIUS_KM, KEYS, LOOK_BACK, OVER_LABEL_TIMES, OVER_LABELS, Feature
from schemas.transaction import SECOND_US
from serving.features.folding import Event, Number, Values
from serving.features.keys import AFTER, ENTITY_BYTES, STATE, entity, floor
from serving.features.past import FRAUD_TIME, GENUINE_TIME, IS_FRAUD, Past, label_columns
from serving.features.series import OPEN, Series, Single, View
from serving.features.sightings import Sightings, sighted
from serving.features.table import KeyRange, Plan, Range, Row, one, together
from serving.features.tiles import Asked

Value = float | str | list[float] | list[str]

_HOUR_US = 3_600 * SECOND_US
_LOOK_BACK_US, _LOOK_BACK_HOP_US = LOOK_BACK.length_s * SECOND_US, LOOK_BACK.hop_s * SECOND_US
_EVENT_MARK, _LABEL_MARK, _SIGHTING_MARK = b"e", b"l", b"s"
# What the keys of the rows end with that tell how new a key's state is; each key has one of them, or both.
HEADS = tuple(STATE + mark + OPEN for mark in (_EVENT_MARK, _LABEL_MARK))

# What a feature is computed from: numbers of a tile, by aggregate.
_FROM_NUMBERS: dict[str, tuple[str, ...]] = {
    "count": ("count",), "sum": ("count", "sum"), "mean": ("count", "sum"), "std": ("count", "sum", "squares"),
    "min": ("min",), "max": ("max",), "fraud_count": ("sum",), "fraud_rate": ("count", "sum"),
    "seconds_since_first_fraud": ("min",), "seconds_since_last_fraud": ("max",), "seconds_since_last_genuine": ("max",),
}  # fmt: skip
_BETWEEN = ("recent_seconds_between", "recent_distance_km_between")
_FROM_LAST = ("last", "seconds_since_last", "distance_km_since_last", "speed_km_per_h_since_last")
_FROM_PLACES = ("distance_km_since_last", "speed_km_per_h_since_last", "recent_distance_km_between")


@dataclass(frozen=True)
class Sight:
    """What a transaction sees of one key."""

    now: Event
    time_us: int
    events: View
    labels: View | None
    sightings: dict[str, tuple[bytes, Sightings | None]]


class Entity:
    """The features of one kind of key; reads them, and adds events and labels.

    Args:
        kind: a name in `KEYS`.
        features: those of the kind, in the order in which they are read.
        hops_us: the hops that heads of windows may be filled from.
        lateness_us: how much older than the key's newest event another may come without loss.
    """

    def __init__(self, kind: str, features: Sequence[Feature], hops_us: Collection[int], lateness_us: int) -> None:
        self.kind = kind
        self._features = tuple(features)
        of_labels = [f for f in features if f.aggregate in OVER_LABELS]
        of_events = [f for f in features if f.aggregate not in OVER_LABELS]
        self._events = Series(
            _EVENT_MARK,
            [asked for feature in of_events for asked in _asked(feature)],
            set().union(*map(_columns, of_events)),
            max(map(_previous, of_events), default=0),
            hops_us,
            lateness_us,
        )
        labels = [asked for feature in of_labels for asked in _asked(feature)]
        kept = {_label_column(feature) for feature in of_labels}
        self._labels = Series(_LABEL_MARK, labels, kept, 0, hops_us, lateness_us) if labels else None
        self._sighted = sorted({str(f.column) for f in features if f.aggregate == "first_seen"})
        self._lateness_us = lateness_us
        self._series = [self._events, self._labels] if self._labels else [self._events]
        self._readers = [self._reader(feature) for feature in features]

    def prefix(self, transaction: Event) -> bytes | None:
        """What the rows of a transaction's key begin with; None for a transaction without the key."""
        parts = [transaction.get(column) for column in KEYS[self.kind]]
        return None if None in parts else entity(self.kind, [str(part) for part in parts])

    def look(self, prefix: bytes, now: Event, time_us: int) -> Plan[Sight]:
        """Reads what the features of a transaction need."""
        keys = {
            column: self._sighting(prefix, number, value)
            for number, column in enumerate(self._sighted)
            if (value := now.get(column)) is not None
        }
        rows, *found = yield [_state_range(prefix), *map(one, keys.values())]
        sightings = {
            column: (key, Sightings.unpack(seen[0][1]) if seen else None)
            for (column, key), seen in zip(keys.items(), found, strict=True)
        }
        state = _by_place(rows)
        events, *labels = yield from together([series.view(state, prefix, time_us) for series in self._series])
        return Sight(now, time_us, events, labels[0] if labels else None, sightings)

    def values(self, sight: Sight) -> list[Value]:
        """The features of a transaction, in their order."""
        return [read(sight) for read in self._readers]

    def missing(self) -> list[Value]:
        """The features of a transaction without the key."""
        return [_vector(f, []) if f.is_vector else _missing(f) for f in self._features]

    def add(self, prefix: bytes, sight: Sight, transaction_id: str) -> Plan[tuple[list[Row], list[KeyRange]]]:
        """The rows to write, and those to forget, for the transaction that saw this."""
        rows, forgotten = yield from self._events.add(prefix, sight.events, transaction_id, sight.now)
        oldest_us = self._events.oldest_us(sight.events)
        if self._sighted and _opens_hop(sight.events):
            # Before the rows are put, so that a sighting of now is not forgotten with the old ones.
            begin_us = floor(oldest_us - _LOOK_BACK_US, _LOOK_BACK_HOP_US)
            forgotten += yield from _outdated_sightings(prefix, begin_us)
        rows += [(key, sighted(before, sight.time_us, oldest_us).pack()) for key, before in sight.sightings.values()]
        return rows, forgotten

    def add_label(
        self, prefix: bytes, transaction_id: str, is_fraud: bool, time_us: int
    ) -> Plan[tuple[list[Row], list[KeyRange]]]:
        """The rows to write, and those to forget, for a label; none where the key has this one already."""
        if self._labels is None:
            return [], []
        held, [rows] = yield from together(
            [self._labels.holds(prefix, time_us, transaction_id), _read([_state_range(prefix)])]
        )
        if held:
            return [], []
        view = yield from self._labels.view(_by_place(rows), prefix, time_us)
        return (yield from self._labels.add(prefix, view, transaction_id, label_columns(is_fraud, time_us)))

    def left(self, events: Past, labels: Past, from_us: int) -> Iterator[tuple[bytes, Callable[[], list[Row]]]]:
        """What the past leaves behind, key by key: the prefix, and how to get the rows.

        Args:
            events: of all keys before `from_us`.
            labels: of all keys that became known before.
            from_us: the earliest time at which a transaction may yet come; what none of them looks at is left out.
        """
        events_left = self._events.left(events, from_us)
        labels_left = self._labels.left(labels, from_us) if self._labels else None
        labels_by_key = labels.rows_by_key(KEYS[self.kind]) if self._labels else {}
        sightings_left = self._sightings_left(events, from_us)

        def of_key(key: tuple[str, ...], prefix: bytes, rows: list[int]) -> list[Row]:
            found = [*events_left(prefix, rows), *sightings_left(prefix, rows)]
            return found + labels_left(prefix, labels_by_key.get(key, [])) if labels_left else found

        for key, rows in events.rows_by_key(KEYS[self.kind]).items():
            prefix = entity(self.kind, [str(part) for part in key])
            yield prefix, partial(of_key, key, prefix, rows)

    def _sightings_left(self, past: Past, from_us: int) -> Callable[[bytes, Sequence[int]], Iterator[Row]]:
        columns = [past.column(name) for name in self._sighted]
        oldest = past.first_row(floor(from_us - _LOOK_BACK_US, _LOOK_BACK_HOP_US))

        def of_key(prefix: bytes, rows: Sequence[int]) -> Iterator[Row]:
            rows = rows[bisect_left(rows, oldest) :]
            for number, column in enumerate(columns):
                seen: dict[Any, Sightings] = {}
                for row in rows:
                    if (value := column[row]) is not None:
                        time_us = past.times_us[row]
                        seen[value] = sighted(seen.get(value), time_us, time_us - self._lateness_us)
                for value, sightings in seen.items():
                    yield self._sighting(prefix, number, value), sightings.pack()

        return of_key

    def _sighting(self, prefix: bytes, number: int, value: Any) -> bytes:
        return prefix + _SIGHTING_MARK + bytes([number]) + str(value).encode()

    def _reader(self, feature: Feature) -> Callable[[Sight], Value]:
        match feature.aggregate:
            case "distinct":
                [place] = [self._events.tiling.answer(asked) for asked in _asked(feature)]
                return lambda sight: float(sight.events.totals[place])
            case "first_seen":
                return lambda sight: _first_seen(sight, str(feature.column))
            case "recent":
                return lambda sight: _vector(feature, [_of_event(feature, s.event) for s in sight.events.previous])
            case "recent_seconds_between":
                return lambda sight: _vector(feature, _gaps_s(sight.events.previous))
            case "recent_distance_km_between":
                return lambda sight: _vector(feature, _distances_km(sight.events.previous))
            case aggregate if aggregate in OVER_LABEL_TIMES:
                label_us = self._number_reader(feature)
                return lambda sight: (sight.time_us - label_us(sight)) / SECOND_US
            case aggregate if aggregate in _FROM_LAST:
                return lambda sight: _from_last(feature, sight)
            case _:
                return self._number_reader(feature)

    def _number_reader(self, feature: Feature) -> Callable[[Sight], float]:
        of_labels = feature.aggregate in OVER_LABELS
        series = self._labels if of_labels and self._labels else self._events
        places = [series.tiling.answer(asked) for asked in _asked(feature)]
        finish = _FINISH[feature.aggregate]

        def read(sight: Sight) -> float:
            totals = (sight.labels if of_labels and sight.labels else sight.events).totals
            return finish([totals[place] for place in places])

        return read


def _asked(feature: Feature) -> list[Asked]:
    """What of its window a feature is computed from."""
    if feature.aggregate == "distinct":
        return [(Values(str(feature.column), feature.where, feature.cap or 0), feature.window)]
    column = _label_column(feature) if feature.aggregate in OVER_LABELS else feature.column
    measures = _FROM_NUMBERS.get(feature.aggregate, ())
    return [(Number(measure, column, feature.where), feature.window) for measure in measures]  # type: ignore[arg-type]


def _label_column(feature: Feature) -> str:
    if feature.aggregate not in OVER_LABEL_TIMES:
        return IS_FRAUD
    return GENUINE_TIME if feature.aggregate == "seconds_since_last_genuine" else FRAUD_TIME


def _state_range(prefix: bytes) -> Range:
    return Range(prefix + STATE, prefix + STATE + AFTER)


def _by_place(rows: Sequence[Row]) -> dict[bytes, bytes]:
    """Rows of a key's state by what follows in their keys."""
    return {key[ENTITY_BYTES + len(STATE) :]: value for key, value in rows}


def _read(ranges: Sequence[Range]) -> Plan[list[list[Row]]]:
    return (yield ranges)


def _columns(feature: Feature) -> set[str]:
    """What of an event is asked for after it came; its key and time are known anyway."""
    columns = {feature.column} if feature.column and feature.aggregate != "first_seen" else set()
    if feature.where:
        columns.add(feature.where.column)
    if feature.aggregate in _FROM_PLACES:
        columns |= {"latitude", "longitude"}
    return columns


def _mean(numbers: Sequence[int | None]) -> float:
    count, total = numbers
    return int(total or 0) / count if count else math.nan


def _deviation(numbers: Sequence[int | None]) -> float:
    count, total, squares = (int(number or 0) for number in numbers)
    return math.sqrt(count * squares - total * total) / count if count else math.nan


def _extreme(numbers: Sequence[int | None]) -> float:
    [number] = numbers
    return math.nan if number is None else float(number)


_FINISH: dict[str, Callable[[Sequence[int | None]], float]] = {
    "count": lambda numbers: float(numbers[0] or 0),
    "sum": lambda numbers: float(numbers[1] or 0) if numbers[0] else math.nan,
    "mean": _mean,
    "std": _deviation,
    "min": _extreme,
    "max": _extreme,
    "fraud_count": lambda numbers: float(numbers[0] or 0),
    "fraud_rate": _mean,
    # In microseconds, which a float holds exactly until the year 2255.
    **dict.fromkeys(OVER_LABEL_TIMES, _extreme),
}


def _first_seen(sight: Sight, column: str) -> float:
    if column not in sight.sightings:
        return math.nan
    _, sightings = sight.sightings[column]
    begin_us = floor(sight.time_us - _LOOK_BACK_US, _LOOK_BACK_HOP_US)
    return float(sightings is None or not sightings.within(begin_us, sight.time_us))


def _from_last(feature: Feature, sight: Sight) -> Value:
    if not sight.events.previous:
        return _missing(feature)
    last = sight.events.previous[0]
    if feature.aggregate == "last":
        return _of_event(feature, last.event)
    if feature.aggregate == "seconds_since_last":
        return (sight.time_us - last.time_us) / SECOND_US
    distance_km = _distance_km(sight.now, last.event)
    if feature.aggregate == "distance_km_since_last":
        return distance_km
    return distance_km / ((sight.time_us - last.time_us) / _HOUR_US)


def _vector(feature: Feature, values: list[Any]) -> Value:
    """As many values as the feature is wide, the newest first."""
    width = feature.width
    return values[:width] if len(values) >= width else [*values, *[_missing(feature)] * (width - len(values))]


def _gaps_s(newest: Sequence[Single]) -> list[float]:
    return [(event.time_us - before.time_us) / SECOND_US for event, before in pairwise(newest)]


def _distances_km(newest: Sequence[Single]) -> list[float]:
    return [_between_km(here, there) for here, there in pairwise([_place(single.event) for single in newest])]


def _of_event(feature: Feature, event: Event) -> float | str:
    value = event[str(feature.column)]
    if value is None:
        return _missing(feature)
    return str(value) if feature.is_text else float(value)


def _missing(feature: Feature) -> float | str:
    return "" if feature.is_text else math.nan


def _previous(feature: Feature) -> int:
    """How many events before the transaction are looked at."""
    if feature.aggregate in _BETWEEN:
        return feature.width + 1
    return feature.width if feature.aggregate == "recent" or feature.aggregate in _FROM_LAST else 0


def _distance_km(event: Event, before: Event) -> float:
    return _between_km(_place(event), _place(before))


# Latitude, its cosine, and longitude, in radians.
_Place = tuple[float, float, float]


def _place(event: Event) -> _Place | None:
    """Where an event took place, None where that is not known."""
    latitude, longitude = event.get("latitude"), event.get("longitude")
    if latitude is None or longitude is None:
        return None
    north = math.radians(latitude)
    return north, math.cos(north), math.radians(longitude)


def _between_km(here: _Place | None, there: _Place | None) -> float:
    """Great-circle distance by the haversine formula."""
    if here is None or there is None:
        return math.nan
    half_north, half_east = math.sin((there[0] - here[0]) / 2), math.sin((there[2] - here[2]) / 2)
    chord = half_north * half_north + here[1] * there[1] * half_east * half_east
    return 2 * EARTH_RADIUS_KM * math.asin(math.sqrt(min(1.0, chord)))


def _opens_hop(view: View) -> bool:
    """Whether the transaction is the key's first in a hop of the look-back."""
    return view.newest_us is None or floor(view.newest_us, _LOOK_BACK_HOP_US) < floor(view.time_us, _LOOK_BACK_HOP_US)


def _outdated_sightings(prefix: bytes, begin_us: int) -> Plan[list[KeyRange]]:
    """The values that were seen before `begin_us` only."""
    first = prefix + _SIGHTING_MARK
    [rows] = yield [Range(first, first + AFTER)]
    return [(key, key + b"\0") for key, packed in rows if Sightings.unpack(packed).last < begin_us]
