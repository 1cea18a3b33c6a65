"""Examples on disk: Parquet that stock TFX components read, the rows' keys beside it, and arrays for the model.

Layout below an `Examples` artifact: `Split-<name>/examples.parquet` holds what the schema names, one list per value as
TFX's Parquet reader wants it; `rows/<name>.parquet` holds, in the same order, what people and evidence need of a row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from components.features import to_float32
from components.splits import PARTS, SPLITS, Part, SplitConfig, assign, counts, plan
from schemas.errors import ArtifactError, LogError
from schemas.features import FeatureSpec
from schemas.transaction import LABEL

ROW_COLUMNS = (
    "transaction_id",
    "event_time",
    "card_id",
    "merchant_id",
    "device_id",
    "amount_base_minor",
    "label_time",
)
COUNTS_FILE = "rows.json"
# Statistics and transform are fastest on batches of ten to a hundred thousand rows; TFX takes a row group as a batch.
ROWS_PER_BATCH = 32_768
# The rows meet by position alone: one row off, and every label would belong to another transaction.
_MISPLACED = "the features are not in the order of the log's rows; compute them again"


def to_examples(features: pa.Table, spec: FeatureSpec) -> pa.Table:
    """Feature rows as TFX reads them: one list of floats or of bytes per input and for the label, in schema order.

    Args:
        features: columns named as `spec.inputs` (float32, text, or fixed-size lists of either) and `is_fraud`, which
            must not be null.
        spec: the inputs.
    """
    columns = {}
    for declaration in spec.inputs:
        values = _flat(features[declaration.name].combine_chunks())
        if declaration.is_text:
            values = values.cast(pa.large_binary())
        columns[declaration.name] = _lists(values, declaration.width)
    columns[LABEL] = _lists(features[LABEL].combine_chunks().cast(pa.int8()).cast(pa.float32()), 1)
    return pa.table(columns)


def _flat(column: pa.Array) -> pa.Array:
    return column.flatten() if pa.types.is_fixed_size_list(column.type) else column


def _lists(values: pa.Array, width: int) -> pa.LargeListArray:
    offsets = pa.array(np.arange(0, len(values) + 1, width, dtype=np.int64))
    return pa.LargeListArray.from_arrays(offsets, values)


class _SplitWriter:
    """Writes examples that come in pieces of any size as whole row groups."""

    def __init__(self, root: Path, split: str) -> None:
        self._folder = root / f"Split-{split}"
        self._writer: pq.ParquetWriter | None = None
        self._waiting: list[pa.Table] = []

    def write(self, examples: pa.Table) -> None:
        """Adds some; what does not fill a row group waits."""
        self._waiting.append(examples)
        if sum(piece.num_rows for piece in self._waiting) >= ROWS_PER_BATCH:
            # In one piece, so that the bytes of the file do not tell in which it came.
            waiting = pa.concat_tables(self._waiting).combine_chunks()
            full = waiting.num_rows // ROWS_PER_BATCH * ROWS_PER_BATCH
            self._flush(waiting.slice(0, full))
            self._waiting = [waiting.slice(full)]

    def close(self) -> None:
        """Writes what waits; the file is whole then."""
        if self._waiting:
            self._flush(pa.concat_tables(self._waiting).combine_chunks())
        if self._writer is not None:
            self._writer.close()

    def _flush(self, examples: pa.Table) -> None:
        if self._writer is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            # Dictionaries pay for repeated texts; for measured numbers they cost time and even room.
            texts = [f"{f.name}.list.item" for f in examples.schema if pa.types.is_large_binary(f.type.value_type)]
            # The reader compares schemas by the name of the list's element, which Parquet's own spelling would change.
            self._writer = pq.ParquetWriter(
                self._folder / "examples.parquet",
                examples.schema,
                use_compliant_nested_type=False,
                use_dictionary=texts,
                compression="zstd",
                compression_level=1,
            )
        if examples.num_rows:
            self._writer.write_table(examples, ROWS_PER_BATCH)


def write_split(root: Path, split: str, examples: pa.Table, rows: pa.Table) -> None:
    """Writes one split below the artifact's root."""
    with closing(_SplitWriter(root, split)) as writer:
        writer.write(examples)
    _write_rows(root, split, rows)


def _write_rows(root: Path, split: str, rows: pa.Table) -> None:
    (root / "rows").mkdir(parents=True, exist_ok=True)
    pq.write_table(rows, root / "rows" / f"{split}.parquet", compression="zstd")


def write_examples(
    root: Path,
    log: pa.Table,
    features: Iterable[pa.RecordBatch],
    spec: FeatureSpec,
    config: SplitConfig,
    label_delay_s: int,
) -> dict[Part, int]:
    """Cuts features by time and writes the splits below `root`; returns the rows of every part of the log.

    Features are in memory a batch at a time, and what of a split does not fill a row group yet.

    Args:
        root: folder of the artifact.
        log: canonical transactions in event-time order, `ROW_COLUMNS` as far as the source has them, and the label.
        features: their features (float64) as `components.features` computes them, row by row in the same order.
        spec: which features.
        config: the shares of the splits.
        label_delay_s: the longest time, in seconds, after which a label is known.

    Raises:
        LogError: the log is too short to be split, or one of its splits has no row with a label.
        ArtifactError: the features are not those of the log's rows.
    """
    event_time = log["event_time"].cast(pa.int64()).to_numpy()
    if not len(event_time):
        raise LogError("no row of the log is good; look at the dead letters for the reasons")
    cuts = plan(int(event_time[0]), int(event_time[-1]), label_delay_s, config)
    part = assign(event_time, log[LABEL].is_valid().to_numpy(), cuts)
    rows_of = counts(part)
    if empty := [split for split in SPLITS if not rows_of[split]]:
        raise LogError(
            f"no row with a label falls into {' or '.join(empty)} (rows: {_listed(rows_of)}); give a log whose labels "
            "are filled in and which has no long gaps"
        )
    with ExitStack() as stack:
        writers = {split: stack.enter_context(closing(_SplitWriter(root, split))) for split in SPLITS}
        begin = 0
        for batch in _small(features):
            end = begin + batch.num_rows
            computed, of_log = pa.Table.from_batches([batch]), log.slice(begin, batch.num_rows)
            if not computed["transaction_id"].equals(of_log["transaction_id"]):
                raise ArtifactError(_MISPLACED)
            for split, writer in writers.items():
                rows = pa.array(np.flatnonzero(part[begin:end] == PARTS.index(split)))
                if len(rows):
                    labelled = to_float32(computed.take(rows)).append_column(LABEL, of_log[LABEL].take(rows))
                    writer.write(to_examples(labelled, spec))
            begin = end
        if begin != log.num_rows:
            raise ArtifactError(_MISPLACED)
    for split in SPLITS:
        rows = pa.array(np.flatnonzero(part == PARTS.index(split)))
        _write_rows(root, split, log.select([name for name in ROW_COLUMNS if name in log.column_names]).take(rows))
    return rows_of


def _small(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of at most a row group, so that what is made of one takes little memory."""
    for batch in batches:
        for begin in range(0, batch.num_rows, ROWS_PER_BATCH):
            yield batch.slice(begin, ROWS_PER_BATCH)


def _listed(rows_of: Mapping[Part, int]) -> str:
    return ", ".join(f"{rows} {part.replace('_', '-')}" for part, rows in rows_of.items())


def read_rows(root: Path, split: str) -> pa.Table:
    """The row keys of a split, in the order of its examples."""
    return pq.read_table(root / "rows" / f"{split}.parquet")


def read_batches(root: Path, split: str, spec: FeatureSpec) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray]]:
    """Raw features by name (`[batch]`, vectors `[batch, k]`) and labels float32 `[batch]`, one row group at a time."""
    for path in sorted((root / f"Split-{split}").glob("*.parquet")):
        file = pq.ParquetFile(path)
        for group in range(file.num_row_groups):
            table = file.read_row_group(group)
            yield _arrays(table, spec), table[LABEL].combine_chunks().flatten().to_numpy()


def read_features(root: Path, split: str, spec: FeatureSpec) -> pa.Table:
    """The features of a split as a plain table, one value (or one fixed-size list) per cell."""
    return feature_table(pq.read_table(root / f"Split-{split}", columns=[i.name for i in spec.inputs]), spec)


def feature_table(examples: pa.Table, spec: FeatureSpec) -> pa.Table:
    """Features as they were before `to_examples`: one value, or one fixed-size list, per cell."""
    columns = {}
    for declaration in spec.inputs:
        values = examples[declaration.name].combine_chunks().flatten()
        if declaration.is_text:
            values = values.cast(pa.string())
        columns[declaration.name] = (
            values if declaration.width == 1 else pa.FixedSizeListArray.from_arrays(values, declaration.width)
        )
    return pa.table(columns)


def _arrays(table: pa.Table, spec: FeatureSpec) -> dict[str, np.ndarray]:
    arrays = {}
    for declaration in spec.inputs:
        values = table[declaration.name].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        arrays[declaration.name] = values.reshape(-1, declaration.width) if declaration.width > 1 else values
    return arrays


def pack(features: Mapping[str, np.ndarray], spec: FeatureSpec) -> tuple[np.ndarray, np.ndarray]:
    """The arrays of `score_packed` in the spec's order: numeric float32 `[batch, F]`, categorical text `[batch, C]`."""
    rows = len(next(iter(features.values())))
    numeric = [features[i.name].reshape(rows, i.width) for i in spec.numeric]
    text = [features[i.name].reshape(rows, i.width) for i in spec.categorical]
    return (
        np.concatenate(numeric, axis=1).astype(np.float32, copy=False),
        np.concatenate(text, axis=1) if text else np.empty((rows, 0), object),
    )
