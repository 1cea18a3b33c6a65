"""Durations as people write them in declarations and mappings: `90s`, `15min`, `24h`, `7d`."""

from __future__ import annotations

import re

from schemas.errors import ConfigurationError

_UNIT_S = {"s": 1, "min": 60, "h": 3_600, "d": 86_400}
_FORM = re.compile(r"(\d+)(s|min|h|d)")


def seconds(text: str) -> int:
    """Seconds in a duration such as `24h`.

    Raises:
        ConfigurationError: the text is not a whole number followed by s, min, h or d.
    """
    match = _FORM.fullmatch(text)
    if match is None:
        raise ConfigurationError(f"duration {text!r} is not a whole number and a unit; write 90s, 15min, 24h or 7d")
    return int(match[1]) * _UNIT_S[match[2]]
