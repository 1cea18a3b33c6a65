"""How numbers enter the network: also as places within bins, where it can bend, and each as loud as it deserves."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import keras
import numpy as np

# The ends of bins come from so many rows at least, and from fewer than twice as many, where there are more.
_ROWS = 100_000
# Of standardised numbers: ends that lie closer together are one.
_LEAST_WIDTH = 0.02


def quantile_bins(numbers: np.ndarray, most: int) -> tuple[tuple[float, ...], ...]:
    """Of each column the ends of its bins, ascending: quantiles of its values, so that bins hold about as many rows.

    Values that many rows have are the ends of several bins, which are one then.  A column without two bins has none:
    a straight line is all there is to a flag.

    Args:
        numbers: standardised, float32 `[rows, N]`.
        most: bins of a column; 0 for none.

    Returns:
        N tuples, each empty or of at least three numbers.
    """
    if not most:
        return ((),) * numbers.shape[1]
    some = numbers[:: max(1, len(numbers) // _ROWS)]
    # Values that occur: between those of a flag there is nothing.
    ends = np.quantile(some, np.linspace(0, 1, most + 1), axis=0, method="nearest")
    return tuple(_apart(column) for column in ends.T)


def _apart(ends: np.ndarray) -> tuple[float, ...]:
    kept = [float(ends[0])]
    for end in ends[1:]:
        if end - kept[-1] >= _LEAST_WIDTH:
            kept.append(float(end))
    return tuple(kept) if len(kept) > 2 else ()


@keras.saving.register_keras_serializable("fraudops")
class PiecewiseLinear(keras.layers.Layer):
    """Places within bins, float32 `[batch, N]` to `[batch, B]`: 0 below a bin, 1 above it, and in it in proportion.

    (Gorishniy, Rubachev and Babenko, "On Embeddings for Numerical Features in Tabular Deep Learning", 2022, section
    3.2; there the first and the last bin have no outer end, here what lies outside is told by the number itself.)

    Args:
        bins: of each column the ends of its bins, see `quantile_bins`.

    Attributes:
        columns: of each of the B bins the column that it is of.
    """

    def __init__(self, bins: Sequence[Sequence[float]], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.bins = tuple(tuple(ends) for ends in bins)
        each = [(column, *pair) for column, ends in enumerate(self.bins) for pair in pairwise(ends)]
        self.columns = tuple(column for column, _, _ in each)
        self._begins = np.array([begin for _, begin, _ in each], np.float32)
        self._widths = np.array([end - begin for _, begin, end in each], np.float32)

    def call(self, numbers: keras.KerasTensor) -> keras.KerasTensor:
        of_bins = keras.ops.take(numbers, self.columns, axis=1)
        return keras.ops.clip((of_bins - self._begins) / self._widths, 0.0, 1.0)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "bins": self.bins}


@keras.saving.register_keras_serializable("fraudops")
class FeatureScale(keras.layers.Layer):
    """Each feature times a factor of its own that is learned, `[batch, N]` to the same.

    The factor begins at 1.  A step of the optimizer moves it `rate` times as far as any other weight, so that what
    tells nothing falls silent long before the layer behind could have unlearned each of its weights.  (The scaling
    layer of RealMLP, whose rate is 6: Holzmueller, Grinsztajn and Steinwart, "Better by Default: Strong Pre-Tuned
    MLPs and Boosted Trees on Tabular Data", 2024.)

    Args:
        rate: how many times as far, above 0.
    """

    def __init__(self, rate: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rate = rate

    def build(self, shape: tuple[int | None, ...]) -> None:
        # Counted from 1: weight decay, which draws to 0, leaves a feature as loud as it came.
        self.weight = self.add_weight(shape=(shape[-1],), initializer="zeros", name="weight")

    def call(self, features: keras.KerasTensor) -> keras.KerasTensor:
        return features * (1 + self.rate * self.weight)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rate": self.rate}
