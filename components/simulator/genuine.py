"""Genuine payments: the daily round, and the harmless things that look like fraud."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np

from components.simulator import shopping
from components.simulator.payments import GENUINE, NONE, ONLINE, Floats, Integers, Payments, concatenate
from components.simulator.travel import Travels, plan
from components.simulator.world import CATEGORY, IS_ONLINE, World

_SECOND_US = 1_000_000
_HOUR_US = 3_600 * _SECOND_US
DAY_US = 24 * _HOUR_US
# Monday to Sunday, at the place of the card's home.
_WEEKDAY: Floats = np.array([0.92, 0.93, 0.95, 1.0, 1.15, 1.25, 0.8])
_PAYDAY: Floats = np.array([1.5, 1.35, 1.2, 1.1])  # the day itself and those after it

_SHARE_OF_BIG_PURCHASES = 0.006
_SHARE_OF_STRAY_ADDRESSES = 0.003  # roaming exits and wrong entries in tables of addresses
_SHARE_THROUGH_VPN = 0.3  # of what the users of one pay online
_SHARE_PAID_AT_HOME = 0.35  # while the owner is away, where somebody stays
_BURSTS_PER_PAYMENT = 0.001


def genuine(world: World, start_us: int, end_us: int, rng: np.random.Generator) -> Payments:
    """All genuine payments with `start_us` <= time < `end_us`, UTC microseconds, in no particular order."""
    travels = plan(world, start_us, end_us, rng)
    everyday = _everyday(world, travels, start_us, end_us, rng)
    payments = concatenate(
        [
            everyday,
            _subscriptions(world, start_us, end_us, rng),
            _bursts(world, travels, everyday, rng),
            _new_phones(world, travels, start_us, end_us, rng),
            _flash_sales(world, travels, start_us, end_us, rng),
        ]
    )
    return payments.take((payments.time_us >= start_us) & (payments.time_us < end_us))


def _everyday(world: World, travels: Travels, start_us: int, end_us: int, rng: np.random.Generator) -> Payments:
    """The daily round in local time, at home and on journeys, with some big purchases and jumping addresses."""
    # One more day on each side, so that every time zone is complete.
    first_day = start_us // DAY_US - 1
    days = -(-end_us // DAY_US) + 1 - first_day
    per_day = world.daily[:, None] * _rhythm(world, first_day, days)
    counts = rng.poisson(per_day).ravel()
    cell = np.repeat(np.arange(len(counts)), counts)
    card, day = cell // days, first_day + cell % days

    category = world.tastes.draw_within(card, rng.random(len(card)))
    seconds = shopping.seconds_of_day(world, card, IS_ONLINE[category], rng)
    local_us = day * DAY_US + (seconds * 1e6).astype(np.int64)
    time_us = local_us - shopping.UTC_OFFSET_US[world.home[card]]
    city, away, transit = travels.at(card, time_us)
    # On a journey the day follows the clock there; what would fall out of the stay by that is not bought.
    there_us = np.where(away, local_us - shopping.UTC_OFFSET_US[city], time_us)
    _, still_away, _ = travels.at(card, there_us)
    at_home = away & world.stays_paying[card] & (rng.random(len(card)) < _SHARE_PAID_AT_HOME)
    keep = ~transit & (still_away | ~away | at_home)
    keep &= (time_us >= start_us - DAY_US // 2) & (time_us < end_us + DAY_US // 2)
    time_us = np.where(at_home, time_us, there_us)[keep]
    city = np.where(at_home, world.home[card], city)[keep]
    card, merchant = card[keep], shopping.merchants(world, card[keep], city, category[keep], rng)
    payments = shopping.ordinary(world, time_us, card, city, merchant, rng)
    return _stray(world, _big(payments, rng), rng)


def _rhythm(world: World, first_day: int, days: int) -> Floats:
    """How much more than on average each card pays on each local day, `[cards, days]`: weekdays and payday."""
    dates = [datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=int(first_day) + day) for day in range(days)]
    weekday = _WEEKDAY[[date.weekday() for date in dates]]
    day_of_month = np.array([date.day for date in dates])
    paydays = np.unique(world.payday)
    since = (day_of_month - paydays[:, None]) % 31
    after_payday = np.where(since < len(_PAYDAY), _PAYDAY[np.minimum(since, len(_PAYDAY) - 1)], 0.95)
    return np.asarray((weekday * after_payday)[np.searchsorted(paydays, world.payday)])


def _big(payments: Payments, rng: np.random.Generator) -> Payments:
    """Some payments become many times larger: a sofa, a bicycle, a deposit."""
    big = rng.random(len(payments)) < _SHARE_OF_BIG_PURCHASES
    return replace(payments, euros=payments.euros * np.where(big, rng.uniform(3.0, 12.0, len(payments)), 1.0))


def _stray(world: World, payments: Payments, rng: np.random.Generator) -> Payments:
    """Some online payments come out in another city: relays, roaming, wrong geography of addresses."""
    u = rng.random(len(payments))
    share = np.where(world.vpn[payments.card], _SHARE_THROUGH_VPN, _SHARE_OF_STRAY_ADDRESSES)
    stray = (payments.channel == ONLINE) & (u < share)
    city = world.any_city(rng, len(payments))
    return replace(
        payments,
        city=np.where(stray, city, payments.city),
        ip=np.where(stray, shopping.exits(city, rng), payments.ip),
    )


def _subscriptions(world: World, start_us: int, end_us: int, rng: np.random.Generator) -> Payments:
    """Monthly charges by the merchant itself (no device); some begin with a small trial, then cost the full price."""
    owners = np.repeat(np.arange(world.cards), rng.poisson(1.2, world.cards))
    category = np.full(len(owners), CATEGORY["subscription"])
    merchant = shopping.merchants(world, owners, world.home[owners], category, rng)
    euros = np.maximum(np.round(shopping.prices(world, owners, category, rng)) - 0.01, 1.99)
    due_us = start_us + rng.integers(0, 30 * DAY_US, len(owners))

    months = -(-(end_us - start_us) // (30 * DAY_US))
    which = np.repeat(np.arange(len(owners)), months)
    monthly_us = due_us[which] + np.tile(np.arange(months), len(owners)) * 30 * DAY_US
    trial = np.flatnonzero(rng.random(len(owners)) < 0.2)
    trial_us = due_us[trial] - rng.integers(7, 15, len(trial)) * DAY_US
    # A trial turns into a year paid at once now and then.
    yearly = rng.random(len(trial)) < 0.4
    euros_paid = euros[which]
    euros_paid[np.searchsorted(which, trial)] *= np.where(yearly, 10.0, 1.0)

    which = np.concatenate([which, trial])
    card = owners[which]
    return Payments(
        time_us=np.concatenate([monthly_us, trial_us]),
        card=card,
        merchant=merchant[which],
        euros=np.concatenate([euros_paid, rng.choice(np.array([0.5, 0.99, 1.0, 1.99]), len(trial))]),
        channel=np.full(len(which), ONLINE),
        device=np.full(len(which), NONE),
        ip=np.full(len(which), NONE),
        city=world.home[card],
        kind=np.full(len(which), GENUINE),
    )


def _bursts(world: World, travels: Travels, everyday: Payments, rng: np.random.Generator) -> Payments:
    """Several small purchases within minutes (a game, an app store), now and then with a large one behind them."""
    bursts = rng.poisson(len(everyday) * _BURSTS_PER_PAYMENT)
    after = everyday.take((rng.random(bursts) * len(everyday)).astype(np.int64))
    small = rng.integers(3, 6, bursts)
    which = np.repeat(np.arange(bursts), small)
    pause_us = rng.integers(15 * _SECOND_US, 300 * _SECOND_US, len(which))
    elapsed_us = np.cumsum(pause_us) - np.concatenate([[0], np.cumsum(pause_us)])[(np.cumsum(small) - small)[which]]
    small_us = after.time_us[which] + elapsed_us
    category = rng.choice(np.array([CATEGORY["digital_goods"], CATEGORY["gaming"]]), bursts)
    # One source for all of a burst.
    source = _online(world, travels, after.time_us, after.card, category, rng)
    smalls = replace(source.take(which), time_us=small_us, euros=rng.uniform(0.5, 4.9, len(which)))

    large = np.flatnonzero(rng.random(bursts) < 0.5)
    ends_us = after.time_us.copy()
    np.maximum.at(ends_us, which, small_us)
    names = ("marketplace", "travel", "gift_cards")
    category = rng.choice(np.array([CATEGORY[name] for name in names]), len(large))
    large_us = ends_us[large] + rng.integers(2 * 60 * _SECOND_US, _HOUR_US, len(large))
    larges = _online(world, travels, large_us, after.card[large], category, rng)
    larges = replace(larges, euros=larges.euros * rng.uniform(1.5, 6.0, len(large)))
    return concatenate([smalls, larges])


def _new_phones(world: World, travels: Travels, start_us: int, end_us: int, rng: np.random.Generator) -> Payments:
    """A new phone is set up and used at once: a few purchases within hours, some of them big."""
    until_next_s = world.phone_period_s - (start_us // _SECOND_US + world.phone_phase_s) % world.phone_period_s
    new_us = start_us + until_next_s * _SECOND_US
    card = np.flatnonzero((new_us < end_us) & (rng.random(world.cards) < 0.5))
    card = np.repeat(card, rng.integers(2, 6, len(card)))
    time_us = new_us[card] + rng.exponential(2.0 * _HOUR_US, len(card)).astype(np.int64)
    names = ("marketplace", "digital_goods", "money_transfer", "gift_cards", "travel")
    category = rng.choice(np.array([CATEGORY[name] for name in names]), len(card))
    payments = _online(world, travels, time_us, card, category, rng)
    return replace(
        payments,
        device=shopping.phone(world, payments.card, payments.time_us),
        euros=payments.euros * rng.uniform(0.8, 4.0, len(payments)),
    )


def _flash_sales(world: World, travels: Travels, start_us: int, end_us: int, rng: np.random.Generator) -> Payments:
    """Every third day or so an online shop is crowded for a few hours."""
    sales = rng.poisson((end_us - start_us) / (3 * DAY_US))
    category = rng.choice(np.array([CATEGORY["marketplace"], CATEGORY["travel"], CATEGORY["gaming"]]), sales)
    home = np.zeros(sales, np.int64)
    shop = world.merchants.draw(shopping.group_of(home, category), rng.random(sales))
    opens_us, lasts_us = rng.integers(start_us, end_us, sales), rng.integers(_HOUR_US, 5 * _HOUR_US, sales)
    sale = np.repeat(np.arange(sales), rng.poisson(0.012 * world.cards, sales))
    card = rng.integers(0, world.cards, len(sale))
    time_us = opens_us[sale] + (rng.random(len(sale)) * lasts_us[sale]).astype(np.int64)
    city, _, _ = travels.at(card, time_us)
    payments = shopping.ordinary(world, time_us, card, city, shop[sale], rng)
    return replace(payments, euros=payments.euros * 0.75)


def _online(
    world: World, travels: Travels, time_us: Integers, card: Integers, category: Integers, rng: np.random.Generator
) -> Payments:
    """Ordinary payments in online categories, from wherever the owners are; those in transit count as at home."""
    city, _, _ = travels.at(card, time_us)
    merchant = shopping.merchants(world, card, city, category, rng)
    return shopping.ordinary(world, time_us, card, city, merchant, rng)
