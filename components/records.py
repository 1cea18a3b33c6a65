"""Examples as records: a split in the gzipped `tf.Example` form that stock components without a Parquet reader take."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from components.examples import read_batches
from schemas.features import FeatureSpec
from schemas.transaction import LABEL


def write_records(examples_root: Path, split: str, spec: FeatureSpec, path: Path) -> int:
    """Writes a split as gzipped TFRecord, one serialized `tf.Example` a row, and returns how many rows there are.

    An example has every input and the label; numbers are floats, missing ones NaN, and missing text is "".  Rows keep
    their order, and a row group is in memory at a time.

    Args:
        examples_root: folder of the `Examples` artifact.
        split: its name.
        spec: the inputs.
        path: the file; TFX looks for `Split-<name>/*.gz` below the root of an artifact.
    """
    rows = 0
    with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
        for features, labels in read_batches(examples_root, split, spec):
            for record in to_records({**features, LABEL: labels}):
                writer.write(record)
            rows += len(labels)
    return rows


def to_records(columns: Mapping[str, np.ndarray]) -> list[bytes]:
    """Serialized `tf.Example`s of columns, `[rows]` or `[rows, k]` each: bytes where they hold objects, else floats."""
    is_text = {name: values.dtype == object for name, values in columns.items()}
    # Python's own numbers: protobuf takes them several times as fast as numpy's.
    lists = {name: values.reshape(len(values), -1).tolist() for name, values in columns.items()}
    records = []
    for row in range(len(next(iter(lists.values())))):
        example = tf.train.Example()
        written = example.features.feature
        for name, values in lists.items():
            kind = written[name].bytes_list if is_text[name] else written[name].float_list
            kind.value.extend(values[row])
        # Features are a map, whose order would differ from one process to the next.
        records.append(example.SerializeToString(deterministic=True))
    return records
