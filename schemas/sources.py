"""Source mappings: how a foreign transaction log becomes canonical transactions."""

from __future__ import annotations

import hashlib
import math
import zoneinfo
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from importlib import resources
from pathlib import Path
from typing import Any, Literal, cast

import yaml

from schemas.currency import minor_unit_decimals
from schemas.durations import seconds
from schemas.errors import ConfigurationError, MappingError
from schemas.transaction import COLUMN

# The amount comes as one column, in minor or major units, and leaves as `amount_minor` and `amount_base_minor`.
_MAPPED = {"amount", *COLUMN} - {"amount_minor", "amount_base_minor"}
MAPPED_ALWAYS = ("transaction_id", "event_time", "card_id", "merchant_id", "amount")
# Major units: with four decimals a single amount stays far within the integers that float64 holds.
MAX_AMOUNT = 1e11
_KEYS = {
    "source", "description", "columns", "constants", "unused", "amount_unit", "base_currency", "rates", "time_zone",
    "card_id_is", "label_delay", "amount_limit", "bad_rows_limit", "expected_median_amount", "expected_fraud_share",
}  # fmt: skip


@dataclass(frozen=True)
class Rate:
    """One unit of `currency` equals `rate` units of the base currency from `since`, 00:00 UTC, until the next rate."""

    currency: str
    since: date
    rate: float

    @property
    def since_us(self) -> int:
        return int(datetime(self.since.year, self.since.month, self.since.day, tzinfo=UTC).timestamp()) * 1_000_000


@dataclass(frozen=True)
class SourceMapping:
    """How one kind of log is read.

    Attributes:
        source: the mapping's name.
        columns: canonical name (or `amount`) to the log's column.
        constants: canonical name to the value that every row has.
        unused: columns that the log may have and that are deliberately not read.
        amount_unit: whether `amount` counts minor units (cents) or major ones (euros).
        base_currency: what `amount_base_minor` is counted in.
        rates: rates into the base currency, by currency and date; the base currency needs none.
        time_zone: IANA name; the zone of timestamps that carry none.
        card_id_is: `number` when the log holds card numbers (they are tokenised at the door), `token` when it does not.
        label_delay_s: the longest time in seconds after which a label is known; also its delay where the log has
            no `label_time`.
        amount_limit: amounts above this many major units of the base currency are absurd.
        bad_rows_limit: share of dead rows in the log above which the run stops.
        expected_median_amount: band, in major units of the base currency, in which the log's median amount lies.
        expected_fraud_share: band in which the share of frauds among labelled rows lies.
        digest: SHA-256 of the mapping's text.
    """

    source: str
    description: str
    columns: Mapping[str, str]
    constants: Mapping[str, str]
    unused: tuple[str, ...]
    amount_unit: Literal["minor", "major"]
    base_currency: str
    rates: tuple[Rate, ...]
    time_zone: str
    card_id_is: Literal["number", "token"]
    label_delay_s: int
    amount_limit: float
    bad_rows_limit: float
    expected_median_amount: tuple[float, float]
    expected_fraud_share: tuple[float, float]
    digest: str

    @property
    def provided(self) -> frozenset[str]:
        """The canonical columns that a log of this source fills."""
        return frozenset(
            {*self.columns, *self.constants} - {"amount"} | {"amount_minor", "amount_base_minor", "currency"}
        ) | (frozenset({"label_time"}) if "is_fraud" in self.columns else frozenset())


def load(source: str) -> SourceMapping:
    """The mapping of a known source, or of a YAML file when `source` is a path to one.

    Raises:
        MappingError: there is no such source, or its mapping is malformed.
    """
    if source.endswith((".yaml", ".yml")):
        path = Path(source)
        if not path.is_file():
            raise MappingError(f"source mapping {source} does not exist; known sources: {', '.join(known())}")
        try:
            return parse(path.read_text(encoding="utf-8"), str(path))
        except UnicodeDecodeError:
            raise MappingError(f"source mapping {source} is not UTF-8 text; write it again") from None
    file = resources.files("schemas") / "sources" / f"{source}.yaml"
    if not file.is_file():
        raise MappingError(
            f"source {source!r} is unknown; known: {', '.join(known())}, or give the path of a mapping (*.yaml)"
        )
    return parse(file.read_text(encoding="utf-8"), f"schemas/sources/{source}.yaml")


def known() -> tuple[str, ...]:
    """Names of the sources whose mappings ship."""
    files = (resources.files("schemas") / "sources").iterdir()
    return tuple(sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml")))


def parse(text: str, where: str) -> SourceMapping:
    """Reads a mapping from YAML text; `where` names it in errors.

    Raises:
        MappingError: names the key, its value and what it should be.
    """
    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise MappingError(f"{where} is not YAML: {error}") from error
    if not isinstance(raw, dict):
        raise MappingError(
            f"{where} holds {type(raw).__name__}, not a mapping of keys; see schemas/sources/simulated.yaml"
        )
    unknown, missing = sorted(set(raw) - _KEYS), sorted(_KEYS - set(raw) - {"constants", "unused", "rates"})
    if unknown or missing:
        raise MappingError(
            f"{where}: unknown keys {unknown}, missing keys {missing}; see schemas/sources/simulated.yaml"
        )
    try:
        return _mapping(raw, hashlib.sha256(text.encode()).hexdigest())
    except (ConfigurationError, MappingError) as error:
        raise MappingError(f"{where}: {error}") from error
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise MappingError(f"{where}: malformed value ({error}); see schemas/sources/simulated.yaml") from error


def _mapping(raw: dict[str, Any], digest: str) -> SourceMapping:
    columns, constants = _texts("columns", raw["columns"]), _texts("constants", raw.get("constants") or {})
    for name in sorted({*columns, *constants} - _MAPPED):
        raise MappingError(f"column {name!r} is not one of a transaction; known: {', '.join(sorted(_MAPPED))}")
    for name in set(columns) & set(constants):
        raise MappingError(f"{name!r} is both a column and a constant; keep one")
    for name in constants:
        if COLUMN[name].type != "string":
            raise MappingError(f"constant {name!r} is not a text column; only such columns can be constants")
    for name in MAPPED_ALWAYS:
        if name not in columns:
            raise MappingError(f"columns lack {name!r}; every log must name the column that holds it")
    if "currency" not in columns and "currency" not in constants:
        raise MappingError("nothing says the currency; map a column or give the constant")
    if "label_time" in columns and "is_fraud" not in columns:
        raise MappingError("label_time is mapped and is_fraud is not; a time without its label says nothing")
    card_id_is = cast(Literal["number", "token"], _one_of("card_id_is", raw["card_id_is"], ("number", "token")))
    twins = sorted(name for name, column in columns.items() if column == columns["card_id"] and name != "card_id")
    if card_id_is == "number" and twins:
        raise MappingError(
            f"{', '.join(twins)} would hold card numbers in clear ({columns['card_id']!r}); map card_id alone"
        )
    zone = str(raw["time_zone"])
    if zone not in zoneinfo.available_timezones():
        raise MappingError(f"time_zone {zone!r} is not an IANA name; write one such as UTC or Asia/Shanghai")
    minor_unit_decimals(base := str(raw["base_currency"]))
    mapping = SourceMapping(
        source=str(raw["source"]),
        description=str(raw["description"]),
        columns=columns,
        constants=constants,
        unused=tuple(str(column) for column in raw.get("unused") or ()),
        amount_unit=cast(Literal["minor", "major"], _one_of("amount_unit", raw["amount_unit"], ("minor", "major"))),
        base_currency=base,
        rates=_rates(raw.get("rates") or {}, base),
        time_zone=zone,
        card_id_is=card_id_is,
        label_delay_s=seconds(str(raw["label_delay"])),
        amount_limit=float(raw["amount_limit"]),
        bad_rows_limit=float(raw["bad_rows_limit"]),
        expected_median_amount=_band("expected_median_amount", raw["expected_median_amount"]),
        expected_fraud_share=_band("expected_fraud_share", raw["expected_fraud_share"]),
        digest=digest,
    )
    if not 0 <= mapping.bad_rows_limit <= 1:
        raise MappingError(f"bad_rows_limit {mapping.bad_rows_limit} is not a share between 0 and 1")
    if not 0 < mapping.amount_limit <= MAX_AMOUNT:
        raise MappingError(
            f"amount_limit {mapping.amount_limit} is not between 0 and {MAX_AMOUNT:.0e}, where sums stay exact"
        )
    constant = constants.get("currency")
    if constant is not None and constant != base and constant not in {rate.currency for rate in mapping.rates}:
        raise MappingError(f"currency {constant!r} has no rate into {base}; add it under rates")
    return mapping


def _rates(raw: dict[str, Any], base: str) -> tuple[Rate, ...]:
    rates = []
    for currency, by_date in raw.items():
        minor_unit_decimals(currency)
        if currency == base:
            raise MappingError(f"rates name the base currency {base}; its rate is 1 by definition")
        for since, rate in by_date.items():
            day = since if isinstance(since, date) else date.fromisoformat(str(since))
            if not 0 < float(rate) < math.inf:
                raise MappingError(f"rate of {currency} since {day} is {rate}; it must be a number above 0")
            rates.append(Rate(currency, day, float(rate)))
    return tuple(sorted(rates, key=lambda rate: (rate.currency, rate.since)))


def _texts(key: str, raw: dict[str, Any]) -> dict[str, str]:
    for name, value in raw.items():
        # YAML reads NO, on and 1 as something else than text, and no name may change on the way.
        if not isinstance(name, str) or not isinstance(value, str):
            raise MappingError(f"{key} has {name!r}: {value!r}, which YAML does not read as text; put it in quotes")
    return dict(raw)


def _one_of(key: str, value: object, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise MappingError(f"{key} is {value!r}; it must be one of {', '.join(allowed)}")
    return str(value)


def _band(key: str, value: Any) -> tuple[float, float]:
    low, high = (float(bound) for bound in value)
    if not low < high:
        raise MappingError(f"{key} is [{low}, {high}]; the first must be below the second")
    return low, high
