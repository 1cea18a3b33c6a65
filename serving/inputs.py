"""From the feature store's order to a model's: the tensors of `score_packed`, as bytes of a request."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from schemas.errors import ConfigurationError
from schemas.features import Feature, FeatureSpec, RowInput
from serving.features.store import Features, to_float32

Declared = RowInput | Feature


class Packer:
    """Picks a model's inputs out of what the store computes.

    Args:
        store_spec: what the store computes, in its order.
        model_spec: what the model reads, in its order.

    Raises:
        ConfigurationError: the model reads what the store does not compute.
    """

    def __init__(self, store_spec: FeatureSpec, model_spec: FeatureSpec) -> None:
        absent = [i.name for i in model_spec.inputs if i not in store_spec.inputs]
        if absent:
            raise ConfigurationError(
                f"the feature store cannot compute {', '.join(absent)}, which the model reads; "
                "serve a model that was trained on a log of this source, with this version"
            )
        self._numeric = _columns(store_spec.numeric, model_spec.numeric)
        self._categorical = tuple(_columns(store_spec.categorical, model_spec.categorical).tolist())
        self._numeric_inputs, self._text_inputs = _spans(model_spec.numeric), _spans(model_spec.categorical)

    @property
    def widths(self) -> tuple[int, int]:
        """F and C of `score_packed`."""
        return len(self._numeric), len(self._categorical)

    def numeric(self, rows: Sequence[Features]) -> NDArray[np.float32]:
        """`numeric` of `score_packed`, float32 `[batch, F]`."""
        return to_float32(np.array([row.numbers for row in rows], np.float64)[:, self._numeric])

    def categorical(self, rows: Sequence[Features]) -> list[bytes]:
        """`categorical` of `score_packed` `[batch, C]`, row after row, UTF-8."""
        return [row.texts[column].encode() for row in rows for column in self._categorical]

    def missing(self, row: Features) -> tuple[str, ...]:
        """Names of the model's inputs that have no value, in its order; of a vector, where it has none at all."""
        numbers = [row.numbers[column] for column in self._numeric.tolist()]
        texts = [row.texts[column] for column in self._categorical]
        return (
            *(name for name, begin, end in self._numeric_inputs if all(n != n for n in numbers[begin:end])),
            *(name for name, begin, end in self._text_inputs if not any(texts[begin:end])),
        )


def _columns(store: Sequence[Declared], model: Sequence[Declared]) -> NDArray[np.intp]:
    """For each column of the model's tensor, the one of the store's that goes there."""
    spans = dict(zip(store, _spans(store), strict=True))
    return np.array([column for i in model for column in range(*spans[i][1:])], np.intp)


def _spans(inputs: Iterable[Declared]) -> list[tuple[str, int, int]]:
    """Name, first column and the one behind the last, of each input."""
    spans, at = [], 0
    for declared in inputs:
        spans.append((declared.name, at, at + declared.width))
        at += declared.width
    return spans
