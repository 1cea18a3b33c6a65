import math

import numpy as np
import pyarrow as pa

from components.features.precision import to_float32


def test_missing_stays_missing_and_nothing_becomes_infinite() -> None:
    narrowed = to_float32(pa.table({"sum": [1.1, math.nan, 1e300, -1e300, math.inf]}))["sum"]
    largest = float(np.finfo(np.float32).max)
    assert narrowed.type == pa.float32()
    np.testing.assert_array_equal(
        narrowed.to_numpy(), np.array([1.1, math.nan, largest, -largest, largest], np.float32)
    )


def test_vectors_keep_their_width_in_slices_too() -> None:
    vectors = pa.array([[1.1, math.nan], [2.0, 3.0], [4.0, 5.0]], pa.list_(pa.float64(), 2))
    narrowed = to_float32(pa.table({"recent": vectors}).slice(1))["recent"]
    assert narrowed.type == pa.list_(pa.float32(), 2)
    assert narrowed.to_pylist() == [[2.0, 3.0], [4.0, 5.0]]


def test_texts_times_and_labels_are_left_alone() -> None:
    table = pa.table({"city": ["Wuhan"], "time": pa.array([7], pa.timestamp("us", "UTC")), "is_fraud": [True]})
    assert to_float32(table).equals(table)
