"""Six kinds of fraud, as campaigns against the world's cards and merchants, and how long each stays unknown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from components.simulator import shopping
from components.simulator.genuine import DAY_US
from components.simulator.payments import (
    CHIP,
    CONTACTLESS,
    FRAUD_KINDS,
    NONE,
    ONLINE,
    Integers,
    Payments,
    concatenate,
    device,
)
from components.simulator.places import CITIES, distances_km
from components.simulator.world import CATEGORY, World

PREVALENCE = 0.005
_SECOND_US = 1_000_000
_MINUTE_US = 60 * _SECOND_US
_HOUR_US = 60 * _MINUTE_US
# The farthest apart that a card can be in an hour.
_KM_PER_H = 1_000.0
_RING_CARDS = 6
_SITTINGS = 8


@dataclass(frozen=True)
class Scene:
    """What fraud happens in: the world, the span in UTC microseconds, and the genuine payments in it."""

    world: World
    start_us: int
    end_us: int
    genuine: Payments

    @property
    def span_us(self) -> int:
        return self.end_us - self.start_us


@dataclass(frozen=True)
class Kind:
    """A kind of fraud.

    Attributes:
        share: of all frauds.
        delay_h: shortest, most frequent and longest time until a payment is known to be fraud, hours.
        commit: makes about so many payments.
    """

    share: float
    delay_h: tuple[float, float, float]
    commit: Callable[[Scene, int, np.random.Generator], Payments]


def frauds(scene: Scene, rng: np.random.Generator) -> Payments:
    """Frauds of all kinds inside the span, `PREVALENCE` of the whole log in all, in no particular order."""
    if not len(scene.genuine):  # nobody is there to be defrauded
        return scene.genuine
    wanted = PREVALENCE / (1 - PREVALENCE) * len(scene.genuine)
    parts = []
    for position, (name, stream) in enumerate(zip(FRAUD_KINDS, rng.spawn(len(FRAUD_KINDS)), strict=True)):
        committed = KINDS[name].commit(scene, round(KINDS[name].share * wanted), stream)
        parts.append(replace(committed, kind=np.full(len(committed), position)))
    return concatenate(parts)


def delays_us(kind: Integers, rng: np.random.Generator) -> Integers:
    """How long after each fraud it becomes known, microseconds (triangular between the bounds of its kind)."""
    low, mode, high = np.array([KINDS[name].delay_h for name in FRAUD_KINDS]).T
    hours = rng.triangular(low[kind], mode[kind], high[kind])
    return (hours * 3_600).astype(np.int64) * _SECOND_US


def _card_testing(scene: Scene, wanted: int, rng: np.random.Generator) -> Payments:
    """Three probes below 5 euros within minutes, then a large payment, all from the tester's device."""
    world = scene.world
    size = _campaigns(np.full(wanted + 1, 4), wanted, least=4)
    campaign, step = _unroll(size)
    count = len(size)
    victim = _victims(world, count, rng)
    begin_us = _begin(scene, victim, 2 * _HOUR_US, rng)
    probe_gap_us = rng.integers(15 * _SECOND_US, 200 * _SECOND_US, (count, 3)).cumsum(axis=1)
    large_gap_us = probe_gap_us[:, 2] + rng.integers(1 * _MINUTE_US, 60 * _MINUTE_US, count)
    time_us = begin_us[campaign] + np.column_stack([probe_gap_us, large_gap_us])[campaign, step]

    large = step == 3
    card = victim[campaign]
    category = np.where(
        large,
        _one_of(rng, ("marketplace", "travel", "gift_cards"), len(card)),
        _one_of(rng, ("digital_goods", "gaming"), count)[campaign],
    )
    merchant = shopping.merchants(world, card, world.home[card], category, rng)
    # The same shop takes all three probes.
    merchant = np.where(large, merchant, merchant[campaign * 4])
    payments = shopping.ordinary(world, time_us, card, world.home[card], merchant, rng)
    much = np.maximum(payments.euros, world.median_euros[card, category]) * rng.uniform(1.5, 6.0, len(card))
    payments = replace(payments, euros=np.where(large, np.maximum(much, 40.0), rng.uniform(0.5, 4.9, len(card))))
    return _by_outsider(scene, payments, campaign, _somewhere(scene, card, campaign, 0.5, rng), 0.15, rng)


def _impossible_travel(scene: Scene, wanted: int, rng: np.random.Generator) -> Payments:
    """Minutes after its owner paid in one city, a copy of the card pays in another, as Shenzhen after Beijing."""
    world = scene.world
    size = _campaigns(rng.integers(1, 4, wanted + 1), wanted)
    campaign, step = _unroll(size)
    in_person = np.flatnonzero(scene.genuine.channel != ONLINE)
    # A tiny log may hold no payment in person.
    pool = in_person if len(in_person) else np.arange(len(scene.genuine))
    anchor = scene.genuine.take(rng.choice(pool, len(size)))
    gap_us = rng.integers(3 * _MINUTE_US, 25 * _MINUTE_US, len(size))
    city = _out_of_reach(world, anchor.city, gap_us, rng)
    later_us = np.where(step == 0, 0, step * rng.integers(10 * _MINUTE_US, 120 * _MINUTE_US, len(step)))
    time_us = (anchor.time_us + gap_us)[campaign] + later_us

    card = anchor.card[campaign]
    names = ("grocery", "clothing", "electronics", "restaurant", "cash", "marketplace")
    merchant = shopping.merchants(world, card, city[campaign], _one_of(rng, names, len(card)), rng)
    payments = shopping.ordinary(world, time_us, card, city[campaign], merchant, rng)
    payments = replace(_by_copy(payments), euros=payments.euros * rng.uniform(1.2, 5.0, len(card)), city=city[campaign])
    return _inside(scene, _by_outsider(scene, payments, campaign, payments.city, 0.0, rng))


def _slow_probing(scene: Scene, wanted: int, rng: np.random.Generator) -> Payments:
    """Small payments from several devices, again and again over days."""
    world = scene.world
    size = _campaigns(rng.integers(6, 15, wanted + 1), wanted)
    campaign, _ = _unroll(size)
    victim = _victims(world, len(size), rng)
    lasts_us = rng.integers(2 * DAY_US, 6 * DAY_US, len(size))
    time_us = _spread(scene, victim, lasts_us, campaign, rng)
    card = victim[campaign]
    category = _one_of(rng, ("digital_goods", "gaming", "food_delivery", "subscription"), len(card))
    merchant = shopping.merchants(world, card, world.home[card], category, rng)
    payments = shopping.ordinary(world, time_us, card, world.home[card], merchant, rng)
    payments = replace(payments, euros=np.minimum(payments.euros, rng.uniform(2.0, 12.0, len(card))))
    # Each campaign uses two to four devices; some stay with one campaign, others serve several.
    tool = campaign * 4 + rng.integers(0, 1 + rng.integers(1, 4, len(size))[campaign])
    return _by_outsider(scene, payments, tool, _somewhere(scene, card, tool, 0.6, rng), 0.12, rng)


def _account_takeover(scene: Scene, wanted: int, rng: np.random.Generator) -> Payments:
    """A new device, and the account is drained within hours; at times through the owner's own device."""
    world = scene.world
    size = _campaigns(rng.integers(4, 10, wanted + 1), wanted)
    campaign, step = _unroll(size)
    victim = _victims(world, len(size), rng)
    begin_us = _begin(scene, victim, 12 * _HOUR_US, rng)
    gap_us = rng.exponential(0.5 * _HOUR_US, len(campaign)).astype(np.int64) + 30 * _SECOND_US
    elapsed_us = np.cumsum(gap_us)
    time_us = begin_us[campaign] + elapsed_us - elapsed_us[np.flatnonzero(step == 0)][campaign]
    card = victim[campaign]
    category = _one_of(rng, ("money_transfer", "gift_cards", "marketplace", "travel"), len(card))
    merchant = shopping.merchants(world, card, world.home[card], category, rng)
    payments = shopping.ordinary(world, time_us, card, world.home[card], merchant, rng)
    payments = replace(payments, euros=payments.euros * rng.uniform(2.0, 5.0, len(card)) * (1 + 0.25 * step))
    city = _somewhere(scene, card, campaign, 0.5, rng)
    return _inside(scene, _by_outsider(scene, payments, campaign, city, 0.15, rng))


def _ring(scene: Scene, wanted: int, rng: np.random.Generator) -> Payments:
    """Several cards at the same few merchants from the same few devices, in ordinary amounts."""
    world = scene.world
    size = _campaigns(rng.integers(8, 19, wanted + 1), wanted)
    campaign, _ = _unroll(size)
    count = len(size)
    members = rng.integers(0, world.cards, (count, _RING_CARDS))
    shops_in = _one_of(rng, ("marketplace", "digital_goods", "gift_cards", "money_transfer"), (count, 3))
    shops = world.merchants.draw(
        shopping.group_of(np.zeros(count * 3, np.int64), shops_in.ravel()), rng.random(count * 3)
    )
    which = rng.integers(0, 3, len(campaign))
    card = members[campaign, rng.integers(0, _RING_CARDS, len(campaign))]
    time_us = _spread(scene, members[:, 0], rng.integers(4 * DAY_US, 12 * DAY_US, count), campaign, rng)
    payments = shopping.ordinary(world, time_us, card, world.home[card], shops.reshape(count, 3)[campaign, which], rng)
    tool = campaign * 2 + rng.integers(0, 2, len(campaign))
    return _by_outsider(scene, payments, tool, _somewhere(scene, card, tool, 0.7, rng), 0.1, rng)


def _compromised_merchant(scene: Scene, wanted: int, rng: np.random.Generator) -> Payments:
    """For one to two weeks the cards that were used at a merchant are used again, mostly there, by somebody else."""
    world, genuine = scene.world, scene.genuine
    size = _campaigns(rng.integers(20, 37, wanted + 1), wanted)
    campaign, step = _unroll(size)
    by_merchant = np.argsort(genuine.merchant, kind="stable")
    customers = np.searchsorted(genuine.merchant[by_merchant], np.arange(len(world.merchant_city) + 1))
    leak = rng.choice(np.flatnonzero(np.diff(customers)), len(size))
    shop = leak[campaign]
    among = customers[shop] + (rng.random(len(shop)) * (customers[shop + 1] - customers[shop])).astype(np.int64)
    card = genuine.card[by_merchant[among]]

    there = rng.random(len(card)) < 0.9
    # In several sittings of an hour, each from one device where it is online.
    sittings = np.repeat(np.arange(len(size)), _SITTINGS)
    lasts_us = rng.integers(7 * DAY_US, 14 * DAY_US, len(size))
    sitting_us = _spread(scene, card[step == 0], lasts_us, sittings, rng)
    sitting = campaign * _SITTINGS + rng.integers(0, _SITTINGS, len(campaign))
    time_us = np.minimum(sitting_us[sitting] + rng.integers(0, _HOUR_US, len(campaign)), scene.end_us - 1)
    names = ("marketplace", "gift_cards", "digital_goods", "food_delivery")
    elsewhere = shopping.merchants(world, card, world.home[card], _one_of(rng, names, len(card)), rng)
    payments = shopping.ordinary(world, time_us, card, world.home[card], np.where(there, shop, elsewhere), rng)
    payments = replace(_by_copy(payments), euros=payments.euros * rng.uniform(2.0, 6.0, len(card)))
    return _by_outsider(scene, payments, sitting, _somewhere(scene, card, sitting, 0.6, rng), 0.2, rng)


KINDS: dict[str, Kind] = {
    "card_testing": Kind(0.20, (2, 8, 48), _card_testing),
    "impossible_travel": Kind(0.13, (0.2, 2, 24), _impossible_travel),
    "slow_probing": Kind(0.17, (36, 72, 119), _slow_probing),
    "account_takeover": Kind(0.20, (6, 24, 72), _account_takeover),
    "ring": Kind(0.18, (24, 72, 119), _ring),
    "compromised_merchant": Kind(0.12, (6, 24, 72), _compromised_merchant),
}


def _campaigns(sizes: Integers, wanted: int, least: int = 2) -> Integers:
    """The first campaigns of these sizes that together make about `wanted` payments; at least one, of `least`."""
    sizes = np.minimum(sizes, max(wanted, least))
    middle = np.cumsum(sizes) - sizes / 2
    return sizes[: max(1, int(np.searchsorted(middle, wanted, side="right")))]


def _unroll(size: Integers) -> tuple[Integers, Integers]:
    """The campaign of each payment, and its position in it."""
    campaign = np.repeat(np.arange(len(size)), size)
    return campaign, np.arange(len(campaign)) - (np.cumsum(size) - size)[campaign]


def _victims(world: World, count: int, rng: np.random.Generator) -> Integers:
    """Cards, each once as long as there are enough."""
    return rng.choice(world.cards, count, replace=count > world.cards)


def _one_of(rng: np.random.Generator, names: tuple[str, ...], shape: int | tuple[int, int]) -> Integers:
    return rng.choice(np.array([CATEGORY[name] for name in names]), shape)


def _begin(scene: Scene, card: Integers, lasts_us: Integers | int, rng: np.random.Generator) -> Integers:
    """When campaigns begin, so that they end inside the span: mostly when the owner shops too, else at any hour."""
    latest_us = np.maximum(scene.span_us - lasts_us, 1)
    # Evenly over the span: a few campaigns by chance would crowd one week and leave out another.
    slot = rng.permutation(len(card)) + rng.random(len(card))
    offset_us = (slot / len(card) * latest_us).astype(np.int64)
    local_us = (shopping.seconds_of_day(scene.world, card, np.ones(len(card), bool), rng) * 1e6).astype(np.int64)
    day_us = (scene.start_us + offset_us) // DAY_US * DAY_US
    habitual_us = day_us + local_us - shopping.UTC_OFFSET_US[scene.world.home[card]]
    fits = (habitual_us >= scene.start_us) & (habitual_us < scene.start_us + latest_us) & (rng.random(len(card)) < 0.7)
    return np.where(fits, habitual_us, scene.start_us + offset_us)


def _spread(
    scene: Scene, owner: Integers, lasts_us: Integers, campaign: Integers, rng: np.random.Generator
) -> Integers:
    """Times of payments anywhere in campaigns of these lengths, `[payments]`.

    Campaigns begin at any time, so that the last days of a log hold as many frauds as the others: what would fall
    behind its end falls to its beginning, as from a campaign that was on when the log began.  `owner` is a card of
    each campaign; `[campaigns]` as `lasts_us`.
    """
    begin_us = _begin(scene, owner, 0, rng)
    elapsed_us = begin_us[campaign] - scene.start_us + (rng.random(len(campaign)) * lasts_us[campaign]).astype(np.int64)
    return scene.start_us + elapsed_us % scene.span_us


def _somewhere(scene: Scene, card: Integers, tool: Integers, near: float, rng: np.random.Generator) -> Integers:
    """Where fraudsters seem to be, one city per tool: near the victim with probability `near`, else anywhere."""
    tools = int(tool.max()) + 1
    close = rng.random(tools) < near
    return np.where(close[tool], scene.world.home[card], scene.world.any_city(rng, tools)[tool])


def _by_copy(payments: Payments) -> Payments:
    """A copied card pays without the owner's phone, and not without touching the terminal."""
    tapped = payments.channel == CONTACTLESS
    channel, chosen = np.where(tapped, CHIP, payments.channel), np.where(tapped, NONE, payments.device)
    return replace(payments, channel=channel, device=chosen)


def _by_outsider(
    scene: Scene, payments: Payments, tool: Integers, city: Integers, hidden: float, rng: np.random.Generator
) -> Payments:
    """Online payments from fraudsters' devices, through relays in these cities; `tool` numbers the devices.

    With probability `hidden`, drawn for each tool, it is the owner's own device, by malware or at a distance, and
    nothing about the place is strange.
    """
    tools = int(tool.max()) + 1
    number = rng.integers(0, 2 * tools, tools)  # crews use a device again for other campaigns
    stream = rng.integers(2**20) << 24  # and no device for another kind of fraud
    own = (rng.random(tools) < hidden)[tool] | (payments.channel != ONLINE)
    return replace(
        payments,
        device=np.where(own, payments.device, device("fraudster", stream + number[tool])),
        city=np.where(own, payments.city, city),
        ip=np.where(own, payments.ip, shopping.exits(city, rng)),
    )


def _out_of_reach(world: World, city: Integers, gap_us: Integers, rng: np.random.Generator) -> Integers:
    """For each city another that nobody reaches in that time, the populous ones more often."""
    reachable_km = gap_us / _HOUR_US * _KM_PER_H
    weight = np.array([place.weight for place in CITIES]) * (distances_km()[city] > reachable_km[:, None] + 100)
    cumulative = weight.cumsum(axis=1)
    return np.asarray((cumulative <= (rng.random(len(city)) * cumulative[:, -1])[:, None]).sum(axis=1))


def _inside(scene: Scene, payments: Payments) -> Payments:
    """The payments inside the span."""
    return payments.take((payments.time_us >= scene.start_us) & (payments.time_us < scene.end_us))
