"""Transactions and features from Parquet, so many rows at a time whatever the files' row groups are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from schemas.errors import ArtifactError
from schemas.features import FeatureSpec

# Large enough that Arrow's own work counts, small beside what a run may have: some 100 bytes a row.
LOG_ROWS = 131_072
# All declared numbers are some 700 bytes a row.
FEATURE_ROWS = 32_768
# So many columns take seconds per million rows, and what breaks a law that follows from the declaration does so often.
MOST_FEATURE_ROWS = 1 << 20

Batch = TypeVar("Batch")


@dataclass(frozen=True)
class Source(Generic[Batch]):
    """Rows that can be read once.

    Attributes:
        rows: how many there are.
        batches: they, or a part of them.
    """

    rows: int
    batches: Iterable[Batch]


def transactions(path: Path) -> Source[pa.RecordBatch]:
    """All rows of a file, in batches of at most `LOG_ROWS`."""
    file = pq.ParquetFile(path)
    return Source(file.metadata.num_rows, file.iter_batches(LOG_ROWS))


def numbers(examples: Path, split: str, spec: FeatureSpec) -> Source[dict[str, np.ndarray]]:
    """The numbers of a split's examples by name, float32 `[batch]`, vectors `[batch, k]`; at most `FEATURE_ROWS` each.

    Of more than `MOST_FEATURE_ROWS` rows every n-th row group comes, from the first on, n as small as fits.

    Raises:
        ArtifactError: there are no examples of that split.
    """
    files = [pq.ParquetFile(path) for path in sorted((examples / f"Split-{split}").glob("*.parquet"))]
    rows = sum(file.metadata.num_rows for file in files)
    if not rows:
        raise ArtifactError(f"{examples} holds no examples of split {split}; build them again")
    return Source(rows, _numbers(files, -(-rows // MOST_FEATURE_ROWS), spec))


def _numbers(files: Iterable[pq.ParquetFile], step: int, spec: FeatureSpec) -> Iterator[dict[str, np.ndarray]]:
    passed = 0
    for file in files:
        groups = list(range(-passed % step, file.num_row_groups, step))
        passed += file.num_row_groups
        for batch in file.iter_batches(FEATURE_ROWS, groups, [i.name for i in spec.numeric]):
            flat = {i: batch[i.name].flatten().to_numpy() for i in spec.numeric}
            yield {i.name: values.reshape(-1, i.width) if i.is_vector else values for i, values in flat.items()}
