"""The canonical transaction: its columns, their types and units, and what is read off its timestamp."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeVar

ColumnType = Literal["string", "int64", "float64", "timestamp_us", "bool"]

SECOND_US = 1_000_000
DAY_S = 86_400
WEEK_S = 7 * DAY_S
# 1970-01-01 was a Thursday; three days later in the week than the Monday from which seconds of the week count.
_EPOCH_SECOND_OF_WEEK = 3 * DAY_S

# Transactions are of the years 1970 to 2100; UTC microseconds.
END_US = 4_133_980_800 * SECOND_US
# WGS84: how far from 0 a place can lie.
DEGREES = {"latitude": 90.0, "longitude": 180.0}

Micros = TypeVar("Micros")


@dataclass(frozen=True)
class Column:
    """One column of the canonical transaction.

    Attributes:
        name: the name used everywhere behind the ingest door.
        type: `timestamp_us` is UTC microseconds since the Unix epoch.
        required: a row without a value goes to the dead letters.
        meaning: what it holds, with its unit.
    """

    name: str
    type: ColumnType
    required: bool
    meaning: str


COLUMNS: tuple[Column, ...] = (
    Column("transaction_id", "string", True, "unique in the log; of several rows with one id the first survives"),
    Column("event_time", "timestamp_us", True, "when the payment was made"),
    Column("card_id", "string", True, "token of the card, never its number"),
    Column("merchant_id", "string", True, "the merchant or terminal that was paid"),
    Column("amount_minor", "int64", True, "amount in minor units of `currency`"),
    Column("amount_base_minor", "int64", True, "amount in minor units of the mapping's base currency"),
    Column("currency", "string", False, "ISO 4217 code"),
    Column("merchant_category", "string", False, "the merchant's line of business"),
    Column("channel", "string", False, "how the card was used, such as `online` or `chip`"),
    Column("device_id", "string", False, "the phone, browser or terminal that initiated the payment"),
    Column("ip", "string", False, "address from which the payment was initiated"),
    Column("latitude", "float64", False, "WGS84 degrees of where the payment took place"),
    Column("longitude", "float64", False, "WGS84 degrees of where the payment took place"),
    Column("city", "string", False, "where the payment took place"),
    Column("country", "string", False, "ISO 3166-1 alpha-2 code of where the payment took place"),
    Column("is_fraud", "bool", False, "the label; null while it is not known"),
    Column("label_time", "timestamp_us", False, "when the label became known"),
)
COLUMN: dict[str, Column] = {column.name: column for column in COLUMNS}
LABEL = "is_fraud"
REQUIRED: tuple[str, ...] = tuple(column.name for column in COLUMNS if column.required)

# Columns that a filter or a row input may name although no log carries them: they restate `event_time` in a form
# that float32 holds exactly (microseconds since 1970 would lose 100 s).
CALENDAR_COLUMNS: tuple[str, ...] = ("second_of_day", "second_of_week")


def second_of_day(event_time_us: Micros) -> Micros:
    """Seconds since 00:00 UTC, in [0, 86400); for an int or an integer array alike."""
    return event_time_us // SECOND_US % DAY_S  # type: ignore[operator,return-value]


def second_of_week(event_time_us: Micros) -> Micros:
    """Seconds since Monday 00:00 UTC, in [0, 604800); for an int or an integer array alike."""
    return (event_time_us // SECOND_US + _EPOCH_SECOND_OF_WEEK) % WEEK_S  # type: ignore[operator,return-value]
