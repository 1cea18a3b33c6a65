"""Rules: a YAML file of conditions on a transaction and its features, read once and evaluated on each transaction.

    rules:
      - name: card-testing
        action: BLOCK                   # or REVIEW
        reason: PROBING                 # a code of schemas/reasons.py
        when:
          all:                          # `all` and `any` hold conditions and one another, to any depth
            - {field: card_id_probe_count_1h, ">=": 3}
            - any:
              - {field: amount_base_minor, ">=": 10000}
              - {field: merchant_category, in: [electronics, jewellery]}
            - {field: device_id, is_missing: false}

A condition has a field, one operator (`>`, `>=`, `<`, `<=`, `==`, `in`, `is_missing`) and a value.  Fields are the
columns of a transaction that are numbers or text, its seconds of day and week, and the declared features that have one
value.  Nothing is known of a missing value: of all conditions only `is_missing: true` holds on it.
"""

from __future__ import annotations

import hashlib
import json
import math
import operator
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from schemas.decision import Outcome
from schemas.errors import ConfigurationError
from schemas.features import FEATURES
from schemas.reasons import REASONS
from schemas.transaction import CALENDAR_COLUMNS, COLUMNS

Value = float | str | None

# field -> whether it holds text
FIELDS: dict[str, bool] = {
    **{column.name: column.type == "string" for column in COLUMNS if column.type in ("string", "int64", "float64")},
    **dict.fromkeys(CALENDAR_COLUMNS, False),
    **{feature.name: feature.is_text for feature in FEATURES if feature.width == 1},
}

_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "in": lambda value, values: value in values,
}
_ON_TEXT = ("==", "in", "is_missing")
_OPERATORS = (*_COMPARISONS, "is_missing")
_ACTIONS = (Outcome.REVIEW.name, Outcome.BLOCK.name)
_RULE_KEYS = ("name", "action", "reason", "when")


@dataclass(frozen=True)
class Condition:
    """Holds where the field compares to the value as the operator says."""

    field: str
    operator: str
    value: float | str | bool | tuple[float, ...] | tuple[str, ...]

    @property
    def fields(self) -> frozenset[str]:
        return frozenset({self.field})

    def holds(self, values: Mapping[str, Value]) -> bool:
        """Whether it holds on these values; see `RuleSet.hits`."""
        value = values.get(self.field)
        missing = value is None or value == "" or value != value
        if self.operator == "is_missing":
            return missing == self.value
        return not missing and _COMPARISONS[self.operator](value, self.value)

    def plain(self) -> object:
        """As it is written in YAML."""
        return {"field": self.field, self.operator: self.value}


@dataclass(frozen=True)
class Group:
    """Holds where all of its parts do, or any of them; there is at least one."""

    of: str
    parts: tuple[Group | Condition, ...]

    @property
    def fields(self) -> frozenset[str]:
        return frozenset().union(*(part.fields for part in self.parts))

    def holds(self, values: Mapping[str, Value]) -> bool:
        """Whether it holds on these values; see `RuleSet.hits`."""
        if self.of == "all":
            return all(part.holds(values) for part in self.parts)
        return any(part.holds(values) for part in self.parts)

    def plain(self) -> object:
        """As it is written in YAML."""
        return {self.of: [part.plain() for part in self.parts]}


@dataclass(frozen=True)
class Rule:
    """What to do with transactions on which a condition holds.

    Attributes:
        name: names it in decisions.
        action: REVIEW or BLOCK.
        reason: a code of `schemas.reasons`.
        when: the condition.
    """

    name: str
    action: Outcome
    reason: str
    when: Group | Condition


@dataclass(frozen=True)
class RuleSet:
    """Rules in the order of their file; there may be none."""

    rules: tuple[Rule, ...]

    def hits(self, values: Mapping[str, Value]) -> tuple[Rule, ...]:
        """The rules that hold, in order.

        Args:
            values: of one transaction, by field: numbers, and text; None, NaN, "" or a field left out is missing.
                Amounts are in minor units of the base currency.
        """
        return tuple(rule for rule in self.rules if rule.when.holds(values))

    @cached_property
    def fields(self) -> frozenset[str]:
        """Every field that a rule looks at."""
        return frozenset().union(*(rule.when.fields for rule in self.rules))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the rules as canonical JSON: one digest for one meaning, however the files are written."""
        plain = [[rule.name, rule.action.name, rule.reason, rule.when.plain()] for rule in self.rules]
        return hashlib.sha256(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def load(path: Path | None = None) -> RuleSet:
    """The rules in a YAML file; without one, those that ship.

    Raises:
        ConfigurationError: the file cannot be read, or a rule in it is malformed; the message names rule and field.
    """
    if path is None:
        default = resources.files("schemas") / "rules" / "default.yaml"
        return parse(default.read_text(encoding="utf-8"), "default rules")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"rules {path} cannot be read ({error}); give a file of UTF-8 text") from error
    return parse(text, f"rules {path}")


def parse(text: str, where: str) -> RuleSet:
    """Reads rules from YAML; `where` begins every message.

    Raises:
        ConfigurationError: a rule is malformed.
    """
    try:
        raw = yaml.load(text, _Loader)
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigurationError(f"{where}: not YAML: {error}") from error
    if not isinstance(raw, dict) or raw.keys() != {"rules"} or not isinstance(raw["rules"], list):
        raise ConfigurationError(f"{where}: write one key, `rules`, with a list of rules (`rules: []` for none)")
    rules: list[Rule] = []
    for position, one in enumerate(raw["rules"], 1):
        try:
            rule = _rule(one, where, position)
        except RecursionError:  # a YAML alias that holds itself, too
            raise ConfigurationError(f"{where}: rule {position} is nested too deeply; write it flatter") from None
        if any(rule.name == other.name for other in rules):
            raise ConfigurationError(f"{where}: two rules are named {rule.name!r}; a name stands for one rule")
        rules.append(rule)
    return RuleSet(tuple(rules))


class _Loader(yaml.SafeLoader):
    """Refuses a key that is written twice, of which PyYAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key.value for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is there twice", node.start_mark)
        return super().construct_mapping(node, deep)


def _rule(raw: object, where: str, position: int) -> Rule:
    name = raw.get("name") if isinstance(raw, dict) else None
    if not isinstance(raw, dict) or not isinstance(name, str) or not name.strip():
        raise ConfigurationError(f"{where}: rule {position} has no name; give it one")
    here = f"{where}: rule {name!r}"
    if raw.keys() != set(_RULE_KEYS):
        wrong = sorted(map(str, raw.keys() ^ set(_RULE_KEYS)))
        raise ConfigurationError(f"{here}: missing or unknown: {', '.join(wrong)}; a rule has {', '.join(_RULE_KEYS)}")
    if raw["action"] not in _ACTIONS:
        raise ConfigurationError(f"{here}: action is {raw['action']!r}; use {' or '.join(_ACTIONS)}")
    if not isinstance(raw["reason"], str) or raw["reason"] not in REASONS:
        raise ConfigurationError(f"{here}: reason {raw['reason']!r} is not one of {', '.join(REASONS)}")
    return Rule(name, Outcome[raw["action"]], raw["reason"], _part(raw["when"], here))


def _part(raw: object, here: str) -> Group | Condition:
    if isinstance(raw, dict) and len(raw) == 1 and (of := next(iter(raw))) in ("all", "any"):
        parts = raw[of]
        if not isinstance(parts, list) or not parts:
            raise ConfigurationError(f"{here}: {of} holds {parts!r}; give it a list of one or more conditions")
        return Group(of, tuple(_part(part, here) for part in parts))
    if not isinstance(raw, dict) or len(raw) != 2 or "field" not in raw:
        raise ConfigurationError(
            f"{here}: {raw!r} is no condition; write {{field: NAME, OPERATOR: VALUE}}, or all or any with a list"
        )
    field = raw["field"]
    if not isinstance(field, str) or field not in FIELDS:
        raise ConfigurationError(
            f"{here}: field {field!r} is unknown; use a column of a transaction that is a number or text, "
            f"{' or '.join(CALENDAR_COLUMNS)}, or a declared feature with one value"
        )
    (operator_,) = raw.keys() - {"field"}
    here = f"{here}: field {field!r}"
    if operator_ not in _OPERATORS:
        raise ConfigurationError(f"{here}: operator {operator_!r} is unknown; use one of {', '.join(_OPERATORS)}")
    if FIELDS[field] and operator_ not in _ON_TEXT:
        raise ConfigurationError(f"{here}: it holds text, which {operator_} cannot compare; use {', '.join(_ON_TEXT)}")
    return Condition(field, operator_, _value(raw[operator_], operator_, FIELDS[field], here))


def _value(raw: Any, operator_: str, is_text: bool, here: str) -> Any:
    if operator_ == "is_missing":
        if not isinstance(raw, bool):
            raise ConfigurationError(f"{here}: is_missing is {raw!r}; use true or false")
        return raw
    if operator_ == "in":
        if not isinstance(raw, list) or not raw:
            raise ConfigurationError(f"{here}: in is {raw!r}; give it a list of one or more values")
        return tuple(_scalar(value, is_text, here) for value in raw)
    return _scalar(raw, is_text, here)


def _scalar(raw: Any, is_text: bool, here: str) -> float | str:
    if is_text:
        # YAML reads NO, on and 1 as something else than text.
        if not isinstance(raw, str) or not raw:
            raise ConfigurationError(f"{here}: the value {raw!r} is not text; put it in quotes")
        return raw
    if isinstance(raw, bool) or not isinstance(raw, int | float) or not math.isfinite(raw):
        raise ConfigurationError(f"{here}: the value {raw!r} is not a number; the field holds numbers")
    return float(raw)  # so that 3 and 3.0 have one digest
