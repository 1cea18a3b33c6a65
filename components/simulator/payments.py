"""Payments as columns of numbers, the form in which they are made before they are put into words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

FRAUD_KINDS: tuple[str, ...] = (
    "card_testing",
    "impossible_travel",
    "slow_probing",
    "account_takeover",
    "ring",
    "compromised_merchant",
)
GENUINE = -1
CHANNELS: tuple[str, ...] = ("chip", "contactless", "online", "atm")
CHIP, CONTACTLESS, ONLINE, ATM = range(4)
NONE = -1  # no device, no address

DeviceOwner = Literal["phone", "laptop", "household", "kiosk", "atm", "private", "fraudster"]


@dataclass(frozen=True)
class Payments:
    """Payments in any order, one entry of each column per payment; cards, merchants and cities are their positions.

    Attributes:
        time_us: UTC microseconds since the Unix epoch.
        euros: the amount in the base currency.
        channel: position in `CHANNELS`.
        device: number made by `device`, or `NONE`.
        ip: IPv4 address as a number, or `NONE`.
        city: where it took place; online, where the client is.
        kind: position in `FRAUD_KINDS`, or `GENUINE`.
    """

    time_us: Integers
    card: Integers
    merchant: Integers
    euros: Floats
    channel: Integers
    device: Integers
    ip: Integers
    city: Integers
    kind: Integers

    def __len__(self) -> int:
        return len(self.time_us)

    def take(self, rows: Integers | Flags) -> Payments:
        """The payments at these positions, or where the flag is set."""
        return Payments(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


def concatenate(parts: Sequence[Payments]) -> Payments:
    """All the parts, one behind the other."""
    return Payments(**{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Payments)})


def device(owner: DeviceOwner, number: Integers) -> Integers:
    """Numbers of devices that no two owners share; `number` is below 2**48."""
    return np.asarray(get_args(DeviceOwner).index(owner) << 48 | number)


def mix64(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A bijection of 64-bit numbers that leaves no pattern: the finaliser of splitmix64 (Steele, Lea, Flood 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
