"""What drift is looked for in: the features of a run's examples and the transaction's own columns, in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from components.examples import feature_table
from schemas.errors import ArtifactError
from schemas.features import FeatureSpec
from schemas.transaction import LABEL

# Of the transaction's own columns those that the features hold already are not needed twice.
_OF_ROWS = ("event_time", "card_id", "merchant_id", "device_id")
# Row groups at once: a profile has a fixed cost per batch, and of 90 features these take 50 MiB.
_GROUPS = 4


def watched(root: Path, splits: Sequence[str], spec: FeatureSpec) -> Iterator[pa.Table]:
    """The rows of some splits in their order, a few row groups at a time, as `profiles.profile` takes them.

    Args:
        root: folder of the examples.
        splits: their names, in the order of their times.
        spec: the features.

    Raises:
        ArtifactError: the rows that lie beside a split are not as many as its examples.
    """
    names = [*(i.name for i in spec.inputs), LABEL]
    for split in splits:
        rows = _Rows(root / "rows" / f"{split}.parquet")
        for path in sorted((root / f"Split-{split}").glob("*.parquet")):
            file = pq.ParquetFile(path)
            for first in range(0, file.num_row_groups, _GROUPS):
                groups = list(range(first, min(first + _GROUPS, file.num_row_groups)))
                examples = file.read_row_groups(groups, columns=names)
                table = feature_table(examples, spec)
                table = table.append_column(LABEL, examples[LABEL].combine_chunks().flatten().cast(pa.bool_()))
                for name, column in zip(_OF_ROWS, rows.take(table.num_rows).columns, strict=True):
                    table = table.append_column(name, column)
                yield table
        rows.end()


def count(root: Path, splits: Sequence[str]) -> int:
    """How many rows some splits have, read off the files' ends."""
    return sum(pq.read_metadata(root / "rows" / f"{split}.parquet").num_rows for split in splits)


class _Rows:
    """The columns beside the examples of a split, taken as many rows at a time as these have."""

    def __init__(self, path: Path) -> None:
        self._path = path
        file = pq.ParquetFile(path)
        self._batches = file.iter_batches(columns=list(_OF_ROWS))
        self._waiting = file.schema_arrow.empty_table().select(_OF_ROWS)

    def take(self, rows: int) -> pa.Table:
        while self._waiting.num_rows < rows:
            batch = next(self._batches, None)
            if batch is None:
                raise ArtifactError(f"{self._path} has fewer rows than the examples beside it; {_AGAIN}")
            self._waiting = pa.concat_tables([self._waiting, pa.Table.from_batches([batch]).select(_OF_ROWS)])
        taken, self._waiting = self._waiting.slice(0, rows), self._waiting.slice(rows)
        return taken

    def end(self) -> None:
        if self._waiting.num_rows or next(self._batches, None) is not None:
            raise ArtifactError(f"{self._path} has more rows than the examples beside it; {_AGAIN}")


_AGAIN = "run the step examples again"
