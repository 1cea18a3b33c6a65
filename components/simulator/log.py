"""The simulated log: all payments in time order, put into the words of the source mapping `simulated`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from components.simulator.frauds import Scene, delays_us, frauds
from components.simulator.genuine import DAY_US, genuine
from components.simulator.payments import (
    CHANNELS,
    FRAUD_KINDS,
    GENUINE,
    NONE,
    ONLINE,
    Integers,
    Payments,
    concatenate,
    mix64,
)
from components.simulator.places import CITIES, CURRENCIES
from components.simulator.world import CATEGORIES, CATEGORY, World, build
from schemas import sources
from schemas.currency import minor_unit_decimals
from schemas.errors import ConfigurationError
from schemas.sources import Rate, SourceMapping

START = datetime(2024, 1, 1, tzinfo=UTC)
_TIMESTAMP = pa.timestamp("us", tz="UTC")
_CLOCK_US = 1_000  # logs count milliseconds
_MOST_EUROS = 20_000.0  # limits of cards
# What cash machines pay out multiples of, in minor units of the currency.
_NOTE_MINOR = {"CNY": 100_00, "EUR": 10_00, "GBP": 10_00, "JPY": 1_000, "USD": 20_00}
_FOREIGN = tuple(code for code in CURRENCIES if code != "EUR")
_HEX: NDArray[np.uint8] = np.frombuffer(b"0123456789abcdef", np.uint8)
_ROWS_AT_ONCE = 1 << 20


def simulate(cards: int, days: int, seed: int, start: datetime = START) -> pa.Table:
    """A log as the mapping `simulated` reads it, and `fraud_kind` (null for genuine rows), in order of `event_time`.

    The same arguments give the same table.  Cards, merchants and their habits depend on `cards` and `seed` alone, so
    that a log with a later `start` goes on in the same world.

    Args:
        cards: 1 or more; each pays about 1.8 times a day on average.
        days: 1 or more.
        seed: 0 or more.
        start: first moment of the log, with its time zone.

    Raises:
        ConfigurationError: an argument is out of range.
    """
    for name, value, least in (("cards", cards, 1), ("days", days, 1), ("seed", seed, 0)):
        if value < least:
            raise ConfigurationError(f"{name} is {value}; it must be {least} or more")
    mapping = sources.load("simulated")
    rated_since = max(min(rate.since for rate in mapping.rates if rate.currency == code) for code in _FOREIGN)
    if start.tzinfo is None:
        raise ConfigurationError(f"start {start.isoformat()} has no time zone; write {start.isoformat()}+00:00 for UTC")
    if start.astimezone(UTC).date() < rated_since:
        raise ConfigurationError(f"start {start.isoformat()} lies before the first rates, {rated_since}; start later")

    start_us = int(start.timestamp() * 1_000) * _CLOCK_US
    end_us = start_us + days * DAY_US
    world = build(cards, np.random.default_rng([seed, cards]))
    of_genuine, of_frauds, of_log = np.random.default_rng([seed, cards, days, start_us]).spawn(3)
    lawful = genuine(world, start_us, end_us, of_genuine)
    payments = concatenate([lawful, frauds(Scene(world, start_us, end_us, lawful), of_frauds)])
    payments = replace(payments, time_us=payments.time_us // _CLOCK_US * _CLOCK_US)
    payments = payments.take(np.argsort(payments.time_us, kind="stable"))

    label = hashlib.sha256(f"{seed} {cards} {days} {start_us}".encode()).hexdigest()[:8]
    parts = []
    for first in range(0, max(len(payments), 1), _ROWS_AT_ONCE):
        part = payments.take(np.arange(first, min(first + _ROWS_AT_ONCE, len(payments))))
        parts.append(_rows(world, part, mapping, f"t{label}", first, of_log))
    return pa.concat_tables(parts)


def frauds_by_kind(log: pa.Table) -> dict[str, int]:
    """How many frauds of each kind a simulated log holds."""
    counts = {item["values"]: item["counts"] for item in pc.value_counts(log["fraud_kind"]).to_pylist()}
    return {kind: counts.get(kind, 0) for kind in FRAUD_KINDS}


def _rows(
    world: World, payments: Payments, mapping: SourceMapping, id_prefix: str, first: int, rng: np.random.Generator
) -> pa.Table:
    """Payments in words, `first` being the position of their first row in the log."""
    rows, fraud = len(payments), payments.kind != GENUINE
    at_terminal = payments.channel != ONLINE
    currency = _currency(world, payments)
    # What nobody has reported by the mapping's delay counts as genuine.
    known_us = np.full(rows, mapping.label_delay_s * 1_000_000)
    known_us[fraud] = delays_us(payments.kind[fraud], rng)
    north = np.where(at_terminal, world.merchant_north[payments.merchant], 0.0)
    east = np.where(at_terminal, world.merchant_east[payments.merchant], 0.0)
    category = world.merchant_category[payments.merchant]
    return pa.table(
        {
            "transaction_id": _hex(id_prefix, np.arange(first, first + rows, dtype=np.uint64), 10),
            "event_time": pa.array(payments.time_us, _TIMESTAMP),
            "card_id": _names("c", payments.card, world.salt + 1),
            "merchant_id": _names("m", payments.merchant, world.salt + 2),
            "amount_minor": pa.array(_amount_minor(payments, currency, category, mapping.rates, rng)),
            "currency": _of(CURRENCIES, currency),
            "merchant_category": _of([item.name for item in CATEGORIES], category),
            "channel": _of(CHANNELS, payments.channel),
            "device_id": _names("d", payments.device, world.salt + 3),
            "ip": _dotted(payments.ip),
            "latitude": pa.array(np.round(np.array([c.latitude for c in CITIES])[payments.city] + north, 5)),
            "longitude": pa.array(np.round(np.array([c.longitude for c in CITIES])[payments.city] + east, 5)),
            "city": _of([city.name for city in CITIES], payments.city),
            "country": _of([city.country for city in CITIES], payments.city),
            "is_fraud": pa.array(fraud),
            "label_time": pa.array(payments.time_us + known_us, _TIMESTAMP),
            "fraud_kind": _of(FRAUD_KINDS, payments.kind),
        }
    )


def _currency(world: World, payments: Payments) -> Integers:
    """What each payment is charged in, as a position in `CURRENCIES`: the money of the merchant or of the card."""
    localised = world.merchant_localised[payments.merchant]
    city = np.where(localised, world.home[payments.card], world.merchant_city[payments.merchant])
    return np.array([CURRENCIES.index(place.currency) for place in CITIES])[city]


def _amount_minor(
    payments: Payments, currency: Integers, category: Integers, rates: Sequence[Rate], rng: np.random.Generator
) -> Integers:
    """Amounts in minor units of the currency, priced as shops do it: even sums, one below them, or neither."""
    minor_per_euro = np.empty(len(payments))
    note = np.array([_NOTE_MINOR[code] for code in CURRENCIES])[currency]
    for position, code in enumerate(CURRENCIES):
        own = currency == position
        dated = [rate for rate in rates if rate.currency == code] or [Rate(code, START.date(), 1.0)]
        since = np.searchsorted([rate.since_us for rate in dated], payments.time_us[own], side="right") - 1
        minor_per_euro[own] = 10 ** minor_unit_decimals(code) / np.array([rate.rate for rate in dated])[since]
    minor = np.minimum(payments.euros, _MOST_EUROS) * minor_per_euro
    u = rng.random(len(payments))
    even, below = (u < 0.2) & (minor >= 200), (u >= 0.2) & (u < 0.45) & (minor >= 200)
    priced = np.where(even, minor // 100 * 100, np.where(below, minor // 100 * 100 - 1, np.round(minor)))
    notes = np.maximum(np.round(minor / note), 1) * note
    return np.maximum(np.where(category == CATEGORY["cash"], notes, priced), 1).astype(np.int64)


def _of(words: Sequence[str], position: Integers) -> pa.Array:
    """The word at each position as text; null for negative positions."""
    codes = pa.array(position.astype(np.int32), mask=position < 0)
    return pa.DictionaryArray.from_arrays(codes, pa.array(list(words), pa.string())).cast(pa.string())


def _names(prefix: str, number: Integers, salt: int) -> pa.Array:
    """Names that tell nothing of the numbers behind them; null for `NONE`."""
    mixed = mix64(number.astype(np.uint64) + np.uint64(salt))
    return pc.if_else(pa.array(number != NONE), _hex(prefix, mixed, 16), pa.scalar(None, pa.string()))


def _hex(prefix: str, value: NDArray[np.uint64], digits: int) -> pa.Array:
    """The prefix and the last hexadecimal digits of each value, as text of one width."""
    width = len(prefix) + digits
    text = np.empty((len(value), width), np.uint8)
    text[:, : len(prefix)] = np.frombuffer(prefix.encode(), np.uint8)
    for digit in range(digits):
        text[:, width - 1 - digit] = _HEX[(value >> np.uint64(4 * digit)) & np.uint64(15)]
    offsets = np.arange(len(value) + 1, dtype=np.int32) * width
    return pa.StringArray.from_buffers(len(value), pa.py_buffer(offsets), pa.py_buffer(text.ravel()))


def _dotted(ip: Integers) -> pa.Array:
    """IPv4 addresses in dotted notation; null for `NONE`."""
    numbers = [str(octet) for octet in range(256)]
    octets = [_of(numbers, np.where(ip == NONE, NONE, ip >> shift & 255)) for shift in (24, 16, 8, 0)]
    return pc.binary_join_element_wise(*octets, ".")
