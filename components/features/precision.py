"""The one cast from the engines' float64 to the float32 that models take."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

_LARGEST = float(np.finfo(np.float32).max)


def to_float32(features: pa.Table) -> pa.Table:
    """Every float64 column, or vector of float64, as float32.

    Missing (NaN) stays NaN; what is too large for float32 becomes its largest finite number, never infinity.
    """
    columns = [_narrow(column) for column in features.columns]
    return pa.table(columns, names=features.column_names)


def _narrow(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_float64(column.type):
        return pa.chunked_array([_narrow_array(chunk) for chunk in column.chunks], pa.float32())
    if pa.types.is_fixed_size_list(column.type) and pa.types.is_float64(column.type.value_type):
        width = column.type.list_size
        chunks = [pa.FixedSizeListArray.from_arrays(_narrow_array(chunk.flatten()), width) for chunk in column.chunks]
        return pa.chunked_array(chunks, pa.list_(pa.float32(), width))
    return column


def _narrow_array(values: pa.Array) -> pa.Array:
    return pa.array(np.clip(values.to_numpy(), -_LARGEST, _LARGEST).astype(np.float32))
