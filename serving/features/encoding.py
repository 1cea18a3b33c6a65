"""How values are written: as compact JSON, which holds integers of any size and is read by every later version."""

from __future__ import annotations

import json
from typing import Any

_DECODER = json.JSONDecoder()
# Kept, because `json.dumps` would make a new one for each value.
_ENCODER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)


def encode(value: Any) -> bytes:
    """The bytes of a value of lists, texts and numbers."""
    return _ENCODER.encode(value).encode()


def decode(written: bytes) -> Any:
    """Reads back `encode`."""
    return _DECODER.decode(written.decode())
