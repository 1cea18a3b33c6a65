"""What drift is looked for in: the features of a run's examples and the transaction's own columns, in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from components.examples import feature_table
from schemas.errors import ArtifactError
from schemas.features import FeatureSpec
from schemas.transaction import LABEL

# Of the transaction's own columns those that no feature holds, as far as the source has them.
_OF_ROWS = ("event_time", "card_id", "merchant_id", "device_id")
# Of a sample, from how many places of a split it comes, and how many rows it has at most.
_PLACES, _SAMPLED_ROWS = 16, 100_000


def watched(root: Path, splits: Sequence[str], spec: FeatureSpec) -> Iterator[pa.Table]:
    """The rows of some splits in their order, a row group at a time, as `profiles.profile` takes them.

    Args:
        root: folder of the examples.
        splits: their names, in the order of their times.
        spec: the features.

    Raises:
        ArtifactError: the rows that lie beside a split are not as many as its examples.
    """
    for split in splits:
        yield from _read(root, split, spec, every=1)


def sample(root: Path, split: str, spec: FeatureSpec) -> pa.Table:
    """Some rows from all over a split: about 100,000 at most, out of some sixteen row groups.

    An error of a decile is a tenth of a percent then.
    """
    files = [pq.read_metadata(path) for path in _files(root, split)]
    every = max(1, sum(file.num_row_groups for file in files) // _PLACES)
    apart = -(-sum(file.num_rows for file in files) // (every * _SAMPLED_ROWS))
    return pa.concat_tables(
        table.take(pa.array(np.arange(0, table.num_rows, apart))) for table in _read(root, split, spec, every)
    )


def event_times_us(root: Path, splits: Sequence[str]) -> npt.NDArray[np.int64]:
    """Event times of the rows of some splits, in UTC microseconds `[rows]`."""
    files = [root / "rows" / f"{split}.parquet" for split in splits]
    return np.concatenate([pq.read_table(f, columns=["event_time"])[0].cast(pa.int64()).to_numpy() for f in files])


def _read(root: Path, split: str, spec: FeatureSpec, every: int) -> Iterator[pa.Table]:
    """Of each `every` row groups the first."""
    names = [*(i.name for i in spec.inputs), LABEL]
    rows = _Rows(root / "rows" / f"{split}.parquet")
    for path in _files(root, split):
        file = pq.ParquetFile(path)
        for group in range(file.num_row_groups):
            beside = rows.take(file.metadata.row_group(group).num_rows)
            if group % every:
                continue
            examples = file.read_row_group(group, columns=names)
            table = feature_table(examples, spec)
            table = table.append_column(LABEL, examples[LABEL].combine_chunks().flatten().cast(pa.bool_()))
            for name, column in zip(beside.column_names, beside.columns, strict=True):
                table = table.append_column(name, column)
            yield table
    rows.end()


def _files(root: Path, split: str) -> list[Path]:
    return sorted((root / f"Split-{split}").glob("*.parquet"))


class _Rows:
    """The columns beside the examples of a split, taken as many rows at a time as these have."""

    def __init__(self, path: Path) -> None:
        self._path = path
        file = pq.ParquetFile(path)
        self._names = [name for name in _OF_ROWS if name in file.schema_arrow.names]
        self._batches = file.iter_batches(columns=self._names)
        self._waiting = file.schema_arrow.empty_table().select(self._names)

    def take(self, rows: int) -> pa.Table:
        while self._waiting.num_rows < rows:
            batch = next(self._batches, None)
            if batch is None:
                raise ArtifactError(f"{self._path} has fewer rows than the examples beside it; {_AGAIN}")
            self._waiting = pa.concat_tables([self._waiting, pa.Table.from_batches([batch]).select(self._names)])
        taken, self._waiting = self._waiting.slice(0, rows), self._waiting.slice(rows)
        return taken

    def end(self) -> None:
        if self._waiting.num_rows or next(self._batches, None) is not None:
            raise ArtifactError(f"{self._path} has more rows than the examples beside it; {_AGAIN}")


_AGAIN = "run the step examples again"
