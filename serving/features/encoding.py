"""How values are written: as compact JSON, which every later version reads."""

from __future__ import annotations

import json
from typing import Any

import orjson

# Before JSON that holds an integer of more than 64 bits, which orjson would read as a fraction.
_WIDE = b"w"


def encode(value: Any) -> bytes:
    """The bytes of a value of lists, texts and numbers; integers of any size."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return _WIDE + json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def decode(written: bytes) -> Any:
    """Reads back `encode`."""
    return json.loads(written[1:]) if written[:1] == _WIDE else orjson.loads(written)
