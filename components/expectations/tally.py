"""Rows per combination of values, counted batch by batch in memory that grows with the combinations alone."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa

_FEW = 65_536


class Tally:
    """Counts the rows of each combination of values of some columns; a row that lacks one of them is in none.

    Attributes:
        columns: whose values are combined.
    """

    def __init__(self, columns: tuple[str, ...]) -> None:
        self.columns = columns
        self._merged: pa.Table | None = None
        self._waiting: list[pa.Table] = []

    def add(self, batch: pa.Table) -> None:
        """Counts the rows of a batch, which has the columns and may have others."""
        counts = batch.select(self.columns).drop_null().group_by(list(self.columns)).aggregate([([], "count_all")])
        self._waiting.append(counts.rename_columns([*self.columns, "rows"]))
        # What waits is merged when it has become as much as what is merged, so that each count is merged a few times.
        merged = 0 if self._merged is None else self._merged.num_rows
        if sum(table.num_rows for table in self._waiting) > max(merged, _FEW):
            self._merge()

    def counts(self) -> pd.DataFrame:
        """The combinations in their own order, and their number of `rows`."""
        self._merge()
        if self._merged is None:
            return pd.DataFrame(columns=[*self.columns, "rows"])
        return self._merged.to_pandas().sort_values(list(self.columns), ignore_index=True)

    def _merge(self) -> None:
        if self._waiting:
            tables = self._waiting if self._merged is None else [self._merged, *self._waiting]
            both = pa.concat_tables(tables).group_by(list(self.columns)).aggregate([("rows", "sum")])
            self._merged = both.select([*self.columns, "rows_sum"]).rename_columns([*self.columns, "rows"])
            self._waiting = []
