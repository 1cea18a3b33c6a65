"""The ordinary payment: to which merchant, how much, through which channel, from which device, and when."""

from __future__ import annotations

import numpy as np

from components.simulator.payments import (
    ATM,
    CHIP,
    CONTACTLESS,
    GENUINE,
    NONE,
    ONLINE,
    Flags,
    Floats,
    Integers,
    Payments,
    device,
    mix64,
)
from components.simulator.places import CITIES
from components.simulator.world import CATEGORIES, CATEGORY, FAVOURITES, IS_ONLINE, World, group_of

_SECOND_US = 1_000_000
UTC_OFFSET_US: Integers = np.array([city.utc_offset_h for city in CITIES]) * 3_600 * _SECOND_US
_SPREAD: Floats = np.array([category.spread for category in CATEGORIES])
_LOYALTY = 0.7
_CONTACTLESS_LIMIT_EUROS = 50.0
_KIOSKS_PER_CITY = 12
_MACHINES_PER_BANK = 6

# Relative activity in each hour of the local day.
_IN_TOWN = (1, 1, 1, 1, 1, 3, 10, 25, 35, 35, 38, 48, 60, 52, 42, 42, 52, 68, 70, 52, 36, 22, 10, 4)
_ONLINE = (14, 9, 6, 4, 4, 5, 10, 18, 24, 28, 30, 32, 36, 34, 32, 32, 34, 38, 44, 54, 60, 58, 44, 26)


def seconds_of_day(world: World, card: Integers, online: Flags, rng: np.random.Generator) -> Floats:
    """When in its local day each card pays, seconds; may pass midnight for owners who live early or late."""
    u = rng.random(len(card))
    hour = np.where(online, _quantile(_ONLINE, u), _quantile(_IN_TOWN, u))
    return hour * 3_600 + world.shift_s[card]


def _quantile(activity: tuple[int, ...], u: Floats) -> Floats:
    cumulative = np.concatenate([[0.0], np.cumsum(activity) / sum(activity)])
    return np.interp(u, cumulative, np.arange(25.0))


def merchants(world: World, card: Integers, city: Integers, category: Integers, rng: np.random.Generator) -> Integers:
    """A merchant of the category in the city for each payment: mostly one that the card goes back to."""
    loyal = rng.random(len(card)) < _LOYALTY
    favourite = world.favourites[card, category, rng.integers(0, FAVOURITES, len(card))]
    return world.merchants.draw(group_of(city, category), np.where(loyal, favourite, rng.random(len(card))))


def prices(world: World, card: Integers, category: Integers, rng: np.random.Generator) -> Floats:
    """What the card pays in the category, euros: log-normal."""
    return world.median_euros[card, category] * np.exp(_SPREAD[category] * rng.normal(size=len(card)))


def own_device(world: World, card: Integers, time_us: Integers, rng: np.random.Generator) -> Integers:
    """The device behind an online payment: the owner's, the household's, a public one, or a browser that forgets."""
    rows = len(card)
    u = rng.random(rows)
    mobile = u < 0.85 * world.phone_share[card]
    chosen = np.where(mobile, phone(world, card, time_us), device("laptop", card))
    chosen = np.where((u >= 0.85) & (u < 0.97), device("household", world.household[card]), chosen)
    kiosk = device("kiosk", world.home[card] * _KIOSKS_PER_CITY + rng.integers(0, _KIOSKS_PER_CITY, rows))
    chosen = np.where((u >= 0.97) & (u < 0.985), kiosk, chosen)
    return np.where(u >= 0.985, device("private", rng.integers(0, 2**48, rows)), chosen)


def phone(world: World, card: Integers, time_us: Integers) -> Integers:
    """The phone that the card's owner has at that time; a new one every year or few."""
    generation = (time_us // _SECOND_US + world.phone_phase_s[card]) // world.phone_period_s[card]
    return device("phone", card << 16 | generation)


def addresses(world: World, card: Integers, city: Integers, rng: np.random.Generator) -> Integers:
    """IPv4 addresses in 10.0.0.0/8, which is nobody's: the household's, one that phones share, or a relay."""
    u = rng.random(len(card))
    household = world.household[card].astype(np.uint64) + np.uint64(world.salt)
    fixed = 10 << 24 | city << 16 | (mix64(household) >> np.uint64(48)).astype(np.int64)
    shared = 10 << 24 | (64 + city) << 16 | rng.integers(0, 64, len(card))
    chosen = np.where((city == world.home[card]) & (u < 0.7), fixed, shared)
    return np.where(u >= 0.94, exits(city, rng), chosen)


def exits(city: Integers, rng: np.random.Generator) -> Integers:
    """IPv4 addresses of relays (VPN, proxies) in a city."""
    return 10 << 24 | (128 + city) << 16 | rng.integers(0, 16, len(city))


def ordinary(
    world: World, time_us: Integers, card: Integers, city: Integers, merchant: Integers, rng: np.random.Generator
) -> Payments:
    """Genuine payments by these cards, whose owners are in these cities, to these merchants, `[rows]` each."""
    rows = len(card)
    category = world.merchant_category[merchant]
    online, cash = IS_ONLINE[category], category == CATEGORY["cash"]
    euros = prices(world, card, category, rng)
    tap = (euros < _CONTACTLESS_LIMIT_EUROS) & (rng.random(rows) < world.contactless[card])
    channel = np.where(online, ONLINE, np.where(cash, ATM, np.where(tap, CONTACTLESS, CHIP)))
    machine = device("atm", merchant * _MACHINES_PER_BANK + rng.integers(0, _MACHINES_PER_BANK, rows))
    by_phone = (channel == CONTACTLESS) & world.wallet[card]
    at_terminal = np.where(cash, machine, np.where(by_phone, phone(world, card, time_us), NONE))
    return Payments(
        time_us=time_us,
        card=card,
        merchant=merchant,
        euros=euros,
        channel=channel,
        device=np.where(online, own_device(world, card, time_us, rng), at_terminal),
        ip=np.where(online, addresses(world, card, city, rng), NONE),
        city=np.where(online, city, world.merchant_reported[merchant]),
        kind=np.full(rows, GENUINE),
    )
