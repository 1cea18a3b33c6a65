"""A table that expectations are judged on."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True)
class Table:
    """What some rows of the data came to.

    Attributes:
        frame: small, whatever the data are.
        rows_checked: rows of the data that it was made of.
        rows_read: rows that there were.
        segment: the column that names a row of the frame; none where rows have no name.
        sampled: whether the frame's rows are rows of the data themselves.
    """

    frame: pd.DataFrame
    rows_checked: int
    rows_read: int
    segment: str | None = None
    sampled: bool = False
