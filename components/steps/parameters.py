"""Typed configuration as execution properties: TFX keeps text, and its cache compares it."""

import json
from dataclasses import asdict
from typing import Any, TypeVar

from pydantic import TypeAdapter

Config = TypeVar("Config")


def to_parameter(config: Any) -> str:
    """The canonical JSON of a configuration dataclass: equal settings give equal text."""
    return json.dumps(asdict(config), sort_keys=True)


def from_parameter(kind: type[Config], text: str) -> Config:
    """Reads back `to_parameter`."""
    return TypeAdapter(kind).validate_json(text)
