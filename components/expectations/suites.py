"""Suites: the files of `schemas/expectations`, read and their placeholders filled from a source mapping."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib import resources
from string import Template
from typing import Any, get_args

import yaml

from components.expectations import features, log
from components.expectations.text import shown
from components.gate import Severity
from schemas.errors import ConfigurationError
from schemas.sources import SourceMapping
from schemas.transaction import COLUMN

ROWS = "rows"
# What entries may speak about, by suite and table.
COLUMNS: dict[str, dict[str, tuple[str, ...]]] = {
    "transactions": {**log.COLUMNS, ROWS: tuple(COLUMN)},
    "features": features.COLUMNS,
}
_DAY_S = 86_400


@dataclass(frozen=True)
class Expectation:
    """One entry of a suite, its placeholders for mapping values filled in.

    Attributes:
        type: the name that Great Expectations knows it by.
        arguments: its keyword arguments.
        message: for people when it fails; `$observed` and the table's columns are still placeholders.
        severity: what its failure means to the gate.
    """

    type: str
    arguments: Mapping[str, Any]
    message: str
    severity: Severity = "stop"

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(str(self.arguments[key]) for key in ("column", "column_A", "column_B") if key in self.arguments)

    @property
    def limit(self) -> str:
        """The arguments without the columns, such as `min_value: 20, max_value: 100`."""
        if len(self.columns) == 2:
            return f"at least {self.columns[1]}"
        return ", ".join(f"{key}: {shown(value)}" for key, value in self.arguments.items() if key != "column")


@dataclass(frozen=True)
class Suite:
    """Expectations by the table that they are about, in the order of the file."""

    name: str
    tables: Mapping[str, tuple[Expectation, ...]]


def load_suite(name: str, mapping: SourceMapping) -> Suite:
    """The suite of `schemas/expectations/<name>.yaml`, its placeholders filled from the mapping."""
    text = (resources.files("schemas") / "expectations" / f"{name}.yaml").read_text(encoding="utf-8")
    return parse_suite(text, mapping, f"schemas/expectations/{name}.yaml")


def parse_suite(text: str, mapping: SourceMapping, where: str) -> Suite:
    """Reads a suite from YAML text; `where` names it in errors.

    Raises:
        ConfigurationError: the suite or a table is unknown; an entry lacks its type or message, has an unknown
            severity, or names a placeholder or a column that there is not.
    """
    raw = yaml.safe_load(text)
    name = raw.pop("suite", None)
    if name not in COLUMNS:
        raise ConfigurationError(f"{where}: suite {name!r} is unknown; known: {', '.join(COLUMNS)}")
    known = _placeholders(mapping)
    tables = {}
    for table, entries in raw.items():
        if table not in COLUMNS[name]:
            raise ConfigurationError(f"{where}: {table!r} is no table of {name}; known: {', '.join(COLUMNS[name])}")
        tables[table] = tuple(_entry(entry, known, COLUMNS[name][table], where) for entry in entries)
    return Suite(name, tables)


def _placeholders(mapping: SourceMapping) -> dict[str, Any]:
    constant = mapping.constants.get("currency")
    return {
        "source": mapping.source,
        "base_currency": mapping.base_currency,
        "currencies": sorted(
            {mapping.base_currency, *(rate.currency for rate in mapping.rates), *filter(None, [constant])}
        ),
        "amount_limit": mapping.amount_limit,
        "expected_median_amount_low": mapping.expected_median_amount[0],
        "expected_median_amount_high": mapping.expected_median_amount[1],
        "expected_fraud_share_low": mapping.expected_fraud_share[0],
        "expected_fraud_share_high": mapping.expected_fraud_share[1],
        "label_delay": f"{shown(mapping.label_delay_s / _DAY_S)} days",
    }


def _entry(raw: Mapping[str, Any], known: Mapping[str, Any], columns: Collection[str], where: str) -> Expectation:
    try:
        arguments = {
            key: _filled(value, known) for key, value in raw.items() if key not in ("type", "message", "severity")
        }
        if "column_A" in arguments:
            # Missing values satisfy a relation; Great Expectations by itself lets only a pair of them do so.
            arguments.setdefault("ignore_row_if", "either_value_is_missing")
        left = {name: f"${name}" for name in ("observed", "segment", *columns)}
        message = Template(raw["message"]).substitute(left | {key: shown(value) for key, value in known.items()})
        expectation = Expectation(raw["type"], arguments, message, raw.get("severity", "stop"))
    except (KeyError, ValueError) as error:
        raise ConfigurationError(f"{where}: {error} is neither given nor known in the entry {dict(raw)}") from error
    if expectation.severity not in get_args(Severity):
        raise ConfigurationError(
            f"{where}: severity {expectation.severity!r} is none of {', '.join(get_args(Severity))}"
        )
    for column in expectation.columns:
        if column not in columns:
            raise ConfigurationError(f"{where}: {column!r} is no column there; known: {', '.join(columns)}")
    return expectation


def _filled(value: Any, known: Mapping[str, Any]) -> Any:
    """The mapping's value where the whole text is one placeholder; elsewhere the text, `$$` standing for `$`."""
    if not isinstance(value, str):
        return value
    return known[value[1:]] if value[:1] == "$" else Template(value).substitute(known)
