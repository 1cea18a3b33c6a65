"""The simulated world: merchants and cards with their habits, the same for every log of one seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.simulator.payments import Flags, Floats, Integers
from components.simulator.places import CITIES, distances_km


@dataclass(frozen=True)
class Category:
    """A line of business; amounts are log-normal around `median_euros`, `spread` deviating their logarithm."""

    name: str
    online: bool
    weight: float
    median_euros: float
    spread: float


CATEGORIES: tuple[Category, ...] = (
    Category("grocery", False, 24.0, 26.0, 0.7),
    Category("restaurant", False, 14.0, 22.0, 0.6),
    Category("transport", False, 12.0, 5.0, 0.9),
    Category("clothing", False, 6.0, 45.0, 0.7),
    Category("electronics", False, 2.0, 110.0, 0.9),
    Category("health", False, 4.0, 18.0, 0.7),
    Category("hotel", False, 1.0, 130.0, 0.5),
    Category("cash", False, 5.0, 70.0, 0.6),
    Category("marketplace", True, 11.0, 30.0, 0.9),
    Category("digital_goods", True, 7.0, 5.0, 0.9),
    Category("gaming", True, 3.0, 5.0, 0.9),
    Category("food_delivery", True, 5.0, 24.0, 0.4),
    Category("travel", True, 1.2, 170.0, 0.8),
    Category("gift_cards", True, 1.2, 40.0, 0.6),
    Category("money_transfer", True, 1.6, 90.0, 1.0),
    Category("subscription", True, 0.0, 10.0, 0.5),  # paid monthly, apart from the daily round
)
CATEGORY: dict[str, int] = {category.name: position for position, category in enumerate(CATEGORIES)}
IS_ONLINE: Flags = np.array([category.online for category in CATEGORIES])
_WEIGHT: Floats = np.array([category.weight for category in CATEGORIES])
_LOCAL: Integers = np.flatnonzero(~IS_ONLINE)
# Position of a category among the local ones, or among the online ones.
_RANK: Integers = np.where(IS_ONLINE, np.cumsum(IS_ONLINE), np.cumsum(~IS_ONLINE)) - 1
FAVOURITES = 3


@dataclass(frozen=True)
class GroupedChoice:
    """One discrete distribution per group, drawn from for many rows at once.

    Attributes:
        edges: group number + cumulative share inside the group, ascending over all groups.
        first: position of each group's first item; one more entry for the end.
    """

    edges: Floats
    first: Integers

    @staticmethod
    def of(weights: Floats, sizes: Integers) -> GroupedChoice:
        """From the items' weights, group by group, and the number of items of each group (1 or more)."""
        first = np.concatenate([[0], np.cumsum(sizes)])
        group = np.repeat(np.arange(len(sizes)), sizes)
        running = np.cumsum(weights)
        before = np.concatenate([[0.0], running])[first]
        return GroupedChoice(group + (running - before[group]) / np.diff(before)[group], first)

    def draw(self, group: Integers, uniform: Floats) -> Integers:
        """Positions of the drawn items among those of all groups, `[rows]`; `uniform` in [0, 1) decides which."""
        item = np.searchsorted(self.edges, group + uniform, side="right")
        return np.clip(item, self.first[group], self.first[group + 1] - 1)

    def draw_within(self, group: Integers, uniform: Floats) -> Integers:
        """As `draw`, but positions inside the group."""
        return self.draw(group, uniform) - self.first[group]


@dataclass(frozen=True)
class World:
    """Who pays and who is paid.  Merchants are sorted by group: each city's local categories, then the online ones.

    Attributes:
        salt: makes the names of this world's cards, merchants and devices.
        merchants: by popularity within the group, `[merchants]`.
        merchant_city: where it sits, `[merchants]`; of an online shop the seat.
        merchant_reported: the city that its terminals report; of a few the head office's.
        merchant_north, merchant_east: degrees of latitude and longitude from the centre of the reported city.
        merchant_localised: an online shop that charges in the customer's currency.
        merchant_category: position in `CATEGORIES`.
        residents: cities by how many cards live there (one group).
        destinations: cities by how often the cards of a home city travel there (a group per home city).
        home: each card's city, `[cards]`, as all that follow.
        household: consecutive cards that share a home and a tablet.
        daily: mean payments a day.
        tastes: categories by how often the card buys there (a group per card).
        median_euros: what the card typically pays, `[cards, categories]`.
        favourites: which merchants it goes back to, as uniform numbers, `[cards, categories, FAVOURITES]`.
        shift_s: how much later than others its owner lives, seconds.
        contactless: share of small payments at terminals made without a chip.
        wallet: whether contactless payments come from the phone.
        phone_share: share of online payments made on the phone.
        phone_period_s, phone_phase_s: how often, and when, it gets a new phone.
        travels: probability of a journey in a fortnight.
        stays_paying: a second person at home pays with the card during journeys.
        vpn: its online payments often come out elsewhere.
        payday: day of the month.
    """

    salt: int
    merchants: GroupedChoice
    merchant_city: Integers
    merchant_reported: Integers
    merchant_north: Floats
    merchant_east: Floats
    merchant_localised: Flags
    merchant_category: Integers
    residents: GroupedChoice
    destinations: GroupedChoice
    home: Integers
    household: Integers
    daily: Floats
    tastes: GroupedChoice
    median_euros: Floats
    favourites: NDArray[np.float32]
    shift_s: Floats
    contactless: Floats
    wallet: Flags
    phone_share: Floats
    phone_period_s: Integers
    phone_phase_s: Integers
    travels: Floats
    stays_paying: Flags
    vpn: Flags
    payday: Integers

    @property
    def cards(self) -> int:
        return len(self.home)

    def any_city(self, rng: np.random.Generator, rows: int) -> Integers:
        """Cities as populous as they are, `[rows]`."""
        return self.residents.draw(np.zeros(rows, np.int64), rng.random(rows))


def group_of(city: Integers, category: Integers) -> Integers:
    """The group of merchants that serves a category in a city; online categories are the same everywhere."""
    local = city * len(_LOCAL) + _RANK[category]
    return np.where(IS_ONLINE[category], len(CITIES) * len(_LOCAL) + _RANK[category], local)


def build(cards: int, rng: np.random.Generator) -> World:
    """A world with this many cards."""
    city_weight = np.array([city.weight for city in CITIES])
    residents = GroupedChoice.of(city_weight, np.array([len(CITIES)]))
    distance = distances_km()
    pull = np.where(distance > 0, np.sqrt(city_weight) * np.exp(-distance / 4_000), 0.0)

    starts_household = rng.random(cards) < 0.55
    starts_household[0] = True
    household = np.cumsum(starts_household) - 1
    homes = rng.random(household[-1] + 1)
    favour = rng.gamma(2.0, size=(cards, len(CATEGORIES)))
    typical = np.array([category.median_euros for category in CATEGORIES])
    wealth = rng.normal(0.0, 0.45, size=(cards, 1))
    return World(
        salt=int(rng.integers(2**63)),
        **_merchants(cards, city_weight, rng),
        residents=residents,
        destinations=GroupedChoice.of(pull.ravel(), np.full(len(CITIES), len(CITIES))),
        home=residents.draw(np.zeros(len(homes), np.int64), homes)[household],
        household=household,
        daily=1.75 * np.exp(rng.normal(-0.2, 0.63, cards)),
        tastes=GroupedChoice.of((_WEIGHT * favour).ravel(), np.full(cards, len(CATEGORIES))),
        median_euros=typical * np.exp(wealth + rng.normal(0.0, 0.25, favour.shape)),
        favourites=rng.random((cards, len(CATEGORIES), FAVOURITES), dtype=np.float32),
        shift_s=rng.normal(0.0, 4_500.0, cards),
        contactless=rng.beta(4.0, 2.0, cards),
        wallet=rng.random(cards) < 0.45,
        phone_share=rng.beta(3.0, 2.0, cards),
        phone_period_s=rng.integers(400, 1_100, cards) * 86_400,
        phone_phase_s=rng.integers(0, 1_100 * 86_400, cards),
        travels=rng.beta(0.8, 6.0, cards),
        stays_paying=rng.random(cards) < 0.06,
        vpn=rng.random(cards) < 0.04,
        payday=rng.choice(np.array([1, 15, 25, 28]), cards),
    )


def _merchants(cards: int, city_weight: Floats, rng: np.random.Generator) -> dict[str, Any]:
    """The columns of `World` about merchants; every group has at least one, and a few take most of the custom."""
    local_share = np.outer(city_weight / city_weight.sum(), _WEIGHT[_LOCAL] / _WEIGHT[_LOCAL].sum()).ravel()
    online_share = np.full(IS_ONLINE.sum(), 1 / IS_ONLINE.sum())
    sizes = np.concatenate([1 + rng.poisson(cards / 30 * local_share), 3 + rng.poisson(cards / 60 * online_share)])
    group = np.repeat(np.arange(len(sizes)), sizes)
    rank = np.arange(len(group)) - (np.cumsum(sizes) - sizes)[group]
    merchants = GroupedChoice.of(1 / (1.0 + rank), sizes)

    is_local = group < len(local_share)
    seat = rng.integers(0, len(CITIES), len(group))
    city = np.where(is_local, group // len(_LOCAL), seat)
    # Some chains register all terminals at the head office; never the first of a group, which has most custom.
    at_head_office = is_local & (rank > 0) & (rng.random(len(group)) < 0.03)
    reported = np.where(at_head_office, seat, city)
    category = np.concatenate([np.tile(_LOCAL, len(CITIES)), np.flatnonzero(IS_ONLINE)])[group]
    return {
        "merchants": merchants,
        "merchant_city": city,
        "merchant_reported": reported,
        "merchant_north": rng.normal(0.0, 0.04, len(group)),
        "merchant_east": rng.normal(0.0, 0.06, len(group)),
        "merchant_localised": ~is_local & (rng.random(len(group)) < 0.7),
        "merchant_category": category,
    }
