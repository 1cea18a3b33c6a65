"""A sketch of numbers by magnitude, from which quantiles can be read, and the pass that counts a column.

DDSketch (C. Masson, J. Rim, H. Lee, PVLDB 12, 2019) with logarithmic buckets 5 % wide: a quantile is right within
2.5 %, small integers are apart, and no bound need be known beforehand.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit

_GROWTH = math.log(1.05)
_STEPS = 1 / _GROWTH
_SMALLEST, _LARGEST = 1e-3, 1e15
_MAGNITUDES = math.ceil(math.log(_LARGEST / _SMALLEST) / _GROWTH) + 1
# Missing values come first, as the lowest; then negative numbers, zero, positive ones.
_ZERO = 1 + _MAGNITUDES
SKETCH_WIDTH = _ZERO + _MAGNITUDES + 1


def sketch_quantile(sketch: npt.NDArray[np.int64], share: float) -> float:
    """The value below which this share of the present values lies, within 2.5 %; NaN where there is none."""
    cumulated = np.cumsum(sketch[1:])
    if not cumulated[-1]:
        return math.nan
    step = int(np.searchsorted(cumulated, share * cumulated[-1])) + 1 - _ZERO
    if step == 0:
        return 0.0
    # The middle of the bucket.
    magnitude = _SMALLEST * math.exp((abs(step) - 1) * _GROWTH)
    return math.copysign(magnitude, step)


@njit(cache=True, nogil=True)
def _place(value):
    """Where a value stands in a sketch: the nearest bucket; beyond the largest the last."""
    if math.isnan(value):
        return 0
    size = min(abs(value), _LARGEST)
    if size < _SMALLEST:
        return _ZERO
    step = int(math.log(size / _SMALLEST) * _STEPS + 1.5)
    return _ZERO + step if value > 0 else _ZERO - step


@njit(cache=True, nogil=True)
def sketch_places(values):
    """The place of each value in a sketch."""
    found = np.empty(values.size, np.int64)
    for i in range(values.size):
        found[i] = _place(values[i])
    return found


@njit(cache=True, nogil=True)
def count_values(values, width, edges, label, segments, bins, sketch):
    """Adds each value to its bin, of all rows and of its row's segments, and to the sketch of its row's label.

    One pass in place of a dozen over the same column.

    Args:
        values: float64 `[rows * width]`, row by row; NaN is missing.
        width: values of a row.
        edges: float64, ascending.
        label: int64 `[rows]`.
        segments: int64 `[splits, rows]`, the row of `bins` that each split puts a row into.
        bins: int64 `[segments, edges + 2]`, see `NumberCounts`; counted up.
        sketch: int64 `[label, SKETCH_WIDTH]`; counted up.
    """
    # Edges before each place: few lie in one bucket, so that hardly anything is left to search.
    before = np.zeros(SKETCH_WIDTH + 1, np.int64)
    for edge in edges:
        before[_place(edge) + 1] += 1
    before = np.cumsum(before)
    for row in range(label.size):
        for i in range(row * width, (row + 1) * width):
            value = values[i]
            place = _place(value)
            position = edges.size + 1
            if place:
                position, end = before[place], before[place + 1]
                while position < end:
                    middle = (position + end) // 2
                    if edges[middle] < value:
                        position = middle + 1
                    else:
                        end = middle
            bins[0, position] += 1
            for split in range(segments.shape[0]):
                bins[segments[split, row], position] += 1
            sketch[label[row], place] += 1
