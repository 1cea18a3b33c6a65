"""Typed configuration as execution properties: TFX keeps text, and its cache compares it."""

import json
from typing import Any, TypeVar

from pydantic import TypeAdapter
from pydantic_core import to_jsonable_python

Config = TypeVar("Config")


def to_parameter(config: Any) -> str:
    """The canonical JSON of a configuration dataclass, or of a tuple of such: equal settings give equal text."""
    return json.dumps(to_jsonable_python(config), sort_keys=True)


def from_parameter(kind: type[Config], text: str) -> Config:
    """Reads back `to_parameter`."""
    return TypeAdapter(kind).validate_json(text)
