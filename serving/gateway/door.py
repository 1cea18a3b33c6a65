"""The door for calls: a transaction of the scoring API in, canonical columns out, or a refusal that names the field.

It lets in what `components.ingest` lets in, and makes the same of it: a model meets here what it was trained on.  Two
things are refused here alone, because the door is open to a network: texts without measure or with control characters,
and times that have not come yet.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from typing import Any

from schemas import scoring_pb2
from schemas.currency import MINOR_UNIT_DECIMALS
from schemas.errors import ConfigurationError, RefusedTransaction
from schemas.masking import mask
from schemas.money import EXACT, Rates, times_half_even
from schemas.sources import SourceMapping
from schemas.tokens import CARD_NUMBER, CardKey, card_token
from schemas.transaction import COLUMN, COLUMNS, DEGREES, END_US, SECOND_US

__all__ = ["MAX_TEXT", "Door", "RefusedTransaction"]

MAX_TEXT = 256

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_CARD_NUMBER = re.compile(CARD_NUMBER, re.ASCII)


class Door:
    """Lets transactions of one source in.

    Args:
        mapping: of the source whose logs the models were trained on.
        card_key: makes card tokens; needed only where the mapping says that card numbers come.
        max_ahead_s: by how many seconds an `event_time` may be ahead of the gateway's clock, so that payment systems
            whose clocks run fast are served.  One far ahead would make all that comes later of its keys late.

    Raises:
        ConfigurationError: card numbers come and there is no key.
    """

    def __init__(self, mapping: SourceMapping, card_key: CardKey | None, max_ahead_s: int = 300) -> None:
        if mapping.card_id_is == "number" and card_key is None:
            raise ConfigurationError(
                f"source {mapping.source} holds card numbers (card_id_is: number); give the card key"
            )
        self._mapping = mapping
        self._card_key = card_key if mapping.card_id_is == "number" else None
        self._max_ahead_s = max_ahead_s
        self._rates = Rates(mapping)
        self._limit = mapping.amount_limit * 10.0 ** MINOR_UNIT_DECIMALS[mapping.base_currency]
        provided = [column for column in COLUMNS if column.name in mapping.provided]
        self._texts = [
            column.name
            for column in provided
            if column.type == "string" and not column.required and column.name != "currency"
        ]
        self._degrees = [column.name for column in provided if column.name in DEGREES]

    def admit(self, message: scoring_pb2.Transaction, now_us: int) -> dict[str, Any]:
        """The canonical columns of a transaction, without its label; what is missing is absent.

        Columns that the source does not have are left aside.

        Args:
            message: as it came.
            now_us: the gateway's clock, UTC microseconds since the Unix epoch.

        Raises:
            RefusedTransaction: of several faults, the first that ingest would find; its message shows no card number.
        """
        admitted: dict[str, Any] = {}
        self._text(message, "transaction_id", admitted)
        time_us = self._event_time(message, now_us)
        admitted["event_time"] = time_us
        self._text(message, "card_id", admitted)
        self._text(message, "merchant_id", admitted)
        if self._card_key is not None:
            if _CARD_NUMBER.fullmatch(admitted["card_id"]) is None:
                raise RefusedTransaction("card_id", "card_id is not a card number of 8 to 19 digits; send the number")
            admitted["card_id"] = card_token(admitted["card_id"], self._card_key)
        self._amounts(message, time_us, admitted)
        for name in self._texts:
            self._text(message, name, admitted)
        for name in self._degrees:
            if message.HasField(name) and not math.isnan(degrees := getattr(message, name)):
                if abs(degrees) > DEGREES[name]:
                    raise RefusedTransaction(
                        name,
                        f"{name} {degrees:g} is no place; send WGS84 degrees from {-DEGREES[name]:g} to "
                        f"{DEGREES[name]:g}",
                    )
                admitted[name] = degrees
        return admitted

    def _text(self, message: scoring_pb2.Transaction, name: str, admitted: dict[str, Any]) -> None:
        text: str = getattr(message, name)
        constant = self._mapping.constants.get(name)
        if constant is not None:
            # Ingest would not look at it; here somebody is at hand who can be asked what is meant.
            if text and text != constant:
                raise RefusedTransaction(
                    name,
                    f"{name} {mask(text[:MAX_TEXT])!r} is not {constant!r}, which the mapping of source "
                    f"{self._mapping.source} has for all; leave it out, or ask another gateway",
                )
            admitted[name] = constant
        elif text:
            if len(text) > MAX_TEXT:
                raise RefusedTransaction(name, f"{name} has {len(text):,} characters; send at most {MAX_TEXT}")
            if control := _CONTROL.search(text):
                raise RefusedTransaction(
                    name,
                    f"{name} has a control character, U+{ord(control[0]):04X} at position {control.start() + 1}; "
                    "send printable text",
                )
            admitted[name] = text
        # Without its currency an amount is no amount.
        elif COLUMN[name].required or name == "currency":
            raise _missing(name)

    def _event_time(self, message: scoring_pb2.Transaction, now_us: int) -> int:
        if not message.HasField("event_time"):
            raise _missing("event_time")
        time_us = message.event_time
        if not 0 <= time_us < END_US:
            raise RefusedTransaction(
                "event_time",
                f"event_time {mask(str(time_us))} is not of the years 1970 to 2100; send UTC microseconds since "
                "1970-01-01",
            )
        if time_us > now_us + self._max_ahead_s * SECOND_US:
            raise RefusedTransaction(
                "event_time",
                f"event_time {_written(time_us)} has not come yet: the gateway's clock says {_written(now_us)} and "
                f"takes up to {self._max_ahead_s:,} s ahead; send UTC microseconds since 1970-01-01",
            )
        return time_us

    def _amounts(self, message: scoring_pb2.Transaction, time_us: int, admitted: dict[str, Any]) -> None:
        if not message.HasField("amount_minor"):
            raise _missing("amount_minor")
        minor, base = message.amount_minor, self._mapping.base_currency
        written = mask(str(minor))
        if minor < 0:
            raise RefusedTransaction(
                "amount_minor", f"amount_minor {written} is negative; refunds are not scored, send 0 or more"
            )
        self._text(message, "currency", admitted)
        currency = admitted["currency"]
        if currency not in MINOR_UNIT_DECIMALS:
            raise RefusedTransaction(
                "currency", f"currency {mask(currency)!r} is not an ISO 4217 code; send one such as {base}"
            )
        if (rate := self._rates.at(currency, time_us)) is None:
            raise RefusedTransaction(
                "currency",
                f"currency {currency} has no rate into {base} at {_written(time_us)}; add one to rates in the mapping "
                f"of source {self._mapping.source}",
            )
        base_minor = times_half_even(minor, rate)
        if minor >= EXACT or base_minor > self._limit:
            raise RefusedTransaction(
                "amount_minor",
                f"amount_minor {written} of {currency} is above the limit of {self._mapping.amount_limit:,.0f} {base}; "
                "send minor units (cents), or raise amount_limit in the mapping",
            )
        # Features are sums of base amounts.  Two rates of one day in them would be skew that nobody sees, and to take
        # no notice of what a payment system says would hide from it that its rates are others.
        if message.HasField("amount_base_minor") and message.amount_base_minor != base_minor:
            given, made = mask(str(message.amount_base_minor)), mask(str(base_minor))
            raise RefusedTransaction(
                "amount_base_minor",
                f"amount_base_minor {given} is not {made}, which the rates of source "
                f"{self._mapping.source} make of {written} {currency}; leave it out, or mend the rates",
            )
        admitted["amount_minor"], admitted["amount_base_minor"] = minor, base_minor


def _missing(name: str) -> RefusedTransaction:
    return RefusedTransaction(name, f"{name} has no value; send it with every transaction")


def _written(time_us: int) -> str:
    """To the second: sixteen digits in the wrong field may be a card number, and microseconds would give it back."""
    return datetime.fromtimestamp(time_us // SECOND_US, UTC).isoformat().replace("+00:00", "Z")
