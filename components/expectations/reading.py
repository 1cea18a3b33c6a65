"""Transactions and features from Parquet, so many rows at a time whatever the files' row groups are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from schemas.features import FeatureSpec

# Large enough that Arrow's own work counts, small beside what a run may have: some 100 bytes a row.
LOG_ROWS = 131_072
# All declared numbers are some 700 bytes a row.
FEATURE_ROWS = 32_768


def transactions(path: Path) -> tuple[int, Iterator[pa.RecordBatch]]:
    """How many rows the file has, and they themselves in batches of at most `LOG_ROWS`."""
    file = pq.ParquetFile(path)
    return file.metadata.num_rows, file.iter_batches(LOG_ROWS)


def numbers(examples: Path, split: str, spec: FeatureSpec) -> Iterator[dict[str, np.ndarray]]:
    """The numbers of a split's examples by name, float32 `[batch]`, vectors `[batch, k]`; at most `FEATURE_ROWS`."""
    for path in sorted((examples / f"Split-{split}").glob("*.parquet")):
        for batch in pq.ParquetFile(path).iter_batches(FEATURE_ROWS, columns=[i.name for i in spec.numeric]):
            flat = {i: batch[i.name].flatten().to_numpy() for i in spec.numeric}
            yield {i.name: values.reshape(-1, i.width) if i.is_vector else values for i, values in flat.items()}
