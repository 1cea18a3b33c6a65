"""The places of the simulated world: real cities in which one of its five currencies is legal tender."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_EARTH_RADIUS_KM = 6371.0088


@dataclass(frozen=True)
class City:
    """A city.

    Attributes:
        country: ISO 3166-1 alpha-2.
        latitude, longitude: WGS84 degrees of its centre.
        currency: what its shops charge in, ISO 4217.
        utc_offset_h: standard time; the simulated world knows no summer time.
        weight: relative number of cards that live there.
    """

    name: str
    country: str
    latitude: float
    longitude: float
    currency: str
    utc_offset_h: int
    weight: float


CITIES: tuple[City, ...] = (
    City("Berlin", "DE", 52.52, 13.405, "EUR", 1, 16.0),
    City("Paris", "FR", 48.8566, 2.3522, "EUR", 1, 14.0),
    City("London", "GB", 51.5074, -0.1278, "GBP", 0, 12.0),
    City("New York", "US", 40.7128, -74.006, "USD", -5, 10.0),
    City("Beijing", "CN", 39.9042, 116.4074, "CNY", 8, 9.0),
    City("Madrid", "ES", 40.4168, -3.7038, "EUR", 1, 7.0),
    City("Shanghai", "CN", 31.2304, 121.4737, "CNY", 8, 6.0),
    City("Tokyo", "JP", 35.6762, 139.6503, "JPY", 9, 6.0),
    City("Shenzhen", "CN", 22.5431, 114.0579, "CNY", 8, 5.0),
    City("Milan", "IT", 45.4642, 9.19, "EUR", 1, 4.0),
    City("Hamburg", "DE", 53.5511, 9.9937, "EUR", 1, 4.0),
    City("Munich", "DE", 48.1351, 11.582, "EUR", 1, 4.0),
    City("Rome", "IT", 41.9028, 12.4964, "EUR", 1, 3.0),
    City("Barcelona", "ES", 41.3874, 2.1686, "EUR", 1, 3.0),
    City("Amsterdam", "NL", 52.3676, 4.9041, "EUR", 1, 3.0),
    City("Vienna", "AT", 48.2082, 16.3738, "EUR", 1, 3.0),
    City("Los Angeles", "US", 34.0522, -118.2437, "USD", -8, 3.0),
    City("Chicago", "US", 41.8781, -87.6298, "USD", -6, 2.0),
    City("Manchester", "GB", 53.4808, -2.2426, "GBP", 0, 2.0),
    City("Brussels", "BE", 50.8503, 4.3517, "EUR", 1, 2.0),
    City("Lyon", "FR", 45.764, 4.8357, "EUR", 1, 2.0),
    City("Lisbon", "PT", 38.7223, -9.1393, "EUR", 0, 2.0),
    City("Dublin", "IE", 53.3498, -6.2603, "EUR", 0, 2.0),
    City("Guangzhou", "CN", 23.1291, 113.2644, "CNY", 8, 2.0),
    City("Osaka", "JP", 34.6937, 135.5023, "JPY", 9, 2.0),
    City("Athens", "GR", 37.9838, 23.7275, "EUR", 2, 1.0),
    City("Helsinki", "FI", 60.1699, 24.9384, "EUR", 2, 1.0),
    City("Edinburgh", "GB", 55.9533, -3.1883, "GBP", 0, 1.0),
    City("San Francisco", "US", 37.7749, -122.4194, "USD", -8, 1.0),
    City("Miami", "US", 25.7617, -80.1918, "USD", -5, 1.0),
    City("Palma", "ES", 39.5696, 2.6502, "EUR", 1, 0.5),
    City("Honolulu", "US", 21.3069, -157.8583, "USD", -10, 0.5),
)
CURRENCIES: tuple[str, ...] = tuple(sorted({city.currency for city in CITIES}))


def distances_km() -> NDArray[np.float64]:
    """Great-circle distances between the centres, `[cities, cities]` (haversine)."""
    latitude = np.radians([city.latitude for city in CITIES])
    longitude = np.radians([city.longitude for city in CITIES])
    half_chord = (
        np.sin((latitude[:, None] - latitude) / 2) ** 2
        + np.cos(latitude)[:, None] * np.cos(latitude) * np.sin((longitude[:, None] - longitude) / 2) ** 2
    )
    return np.asarray(2 * _EARTH_RADIUS_KM * np.arcsin(np.sqrt(half_chord)))
