"""Journeys: where each card's owner is at any moment, with the time that travelling takes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from components.simulator.payments import Flags, Integers
from components.simulator.places import distances_km
from components.simulator.world import World

_DAY_US = 86_400 * 1_000_000
_BLOCK_US = 14 * _DAY_US
_KM_PER_H = 800.0
_ON_THE_GROUND_H = 2.0


@dataclass(frozen=True)
class Travels:
    """At most one journey per card and fortnight; fortnights begin on another day for each card.

    Attributes:
        phase_us: when a card's first fortnight begins, `[cards]`.
        leave_us, arrive_us, return_us, home_us: UTC microseconds, `[cards, fortnights]`; later than everything where
            there is no journey.
        destination: city, `[cards, fortnights]`.
    """

    home: Integers
    phase_us: Integers
    leave_us: Integers
    arrive_us: Integers
    return_us: Integers
    home_us: Integers
    destination: Integers

    def at(self, card: Integers, time_us: Integers) -> tuple[Integers, Flags, Flags]:
        """The city of each card's owner at that time, whether that is away from home, and whether in transit.

        Times lie inside the span that the journeys were planned for, or within two days of it.
        """
        block = (time_us - self.phase_us[card]) // _BLOCK_US
        away = (time_us >= self.arrive_us[card, block]) & (time_us < self.return_us[card, block])
        gone = (time_us >= self.leave_us[card, block]) & (time_us < self.home_us[card, block])
        return np.where(away, self.destination[card, block], self.home[card]), away, gone & ~away


def plan(world: World, start_us: int, end_us: int, rng: np.random.Generator) -> Travels:
    """The journeys of all cards from `start_us` to `end_us`, UTC microseconds."""
    begin_us = start_us - 2 * _DAY_US
    blocks = (end_us + 2 * _DAY_US - begin_us) // _BLOCK_US + 2
    shape = (world.cards, blocks)
    phase_us = begin_us - rng.integers(0, _BLOCK_US, world.cards)
    homes = np.repeat(world.home, blocks)
    destination = world.destinations.draw_within(homes, rng.random(len(homes)))
    hours = _ON_THE_GROUND_H + distances_km()[homes, destination] / _KM_PER_H
    flight_us = (hours * 3_600e6).astype(np.int64).reshape(shape)

    travels = rng.random(shape) < world.travels[:, None]
    # Long enough before the fortnight ends: the longest flight takes under a day.
    leave_us = phase_us[:, None] + np.arange(blocks) * _BLOCK_US + rng.integers(0, 2 * _DAY_US, shape)
    leave_us = np.where(travels, leave_us, np.iinfo(np.int64).max // 2)
    stay_us = np.minimum(rng.gamma(1.6, 2.5 * _DAY_US, shape), 10 * _DAY_US).astype(np.int64) + _DAY_US // 3
    arrive_us = leave_us + flight_us
    return_us = arrive_us + stay_us
    return Travels(
        home=world.home,
        phase_us=phase_us,
        leave_us=leave_us,
        arrive_us=arrive_us,
        return_us=return_us,
        home_us=return_us + flight_us,
        destination=destination.reshape(shape),
    )
