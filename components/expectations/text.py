"""Values as people read them in messages."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd


def plain(value: Any) -> float | str | None:
    """The value as JSON can hold it: a float, text, or none for a missing one; times as ISO 8601, infinity as text."""
    if isinstance(value, str):
        return value
    if value is None or pd.isna(value):
        return None
    if isinstance(value, datetime | np.datetime64):
        return str(pd.Timestamp(value).isoformat())
    number = float(value)
    return number if math.isfinite(number) else str(number)


def shown(value: Any) -> str:
    """Floats to six digits, those that are whole without a point; lists by their elements."""
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() else f"{value:.6g}"
    return ", ".join(map(shown, value)) if isinstance(value, list) else str(value)
