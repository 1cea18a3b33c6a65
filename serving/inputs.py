"""From the feature store's order to a model's: the tensors of `score_packed`, as bytes of a request."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from schemas.errors import ConfigurationError
from schemas.features import Feature, FeatureSpec, RowInput
from schemas.reasons import packed_reasons
from serving.features.store import Features, to_float32

Declared = RowInput | Feature


class Packer:
    """Picks a model's inputs out of what the store computes.

    Attributes:
        reasons: the model's reason code of each column of `attributions`.

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
        self.reasons = packed_reasons(model_spec)
        self._numeric = _columns(store_spec.numeric, model_spec.numeric)
        self._categorical = _columns(store_spec.categorical, model_spec.categorical)
        self._numbers = _read(model_spec.numeric, self._numeric)
        self._texts = _read(model_spec.categorical, self._categorical)

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
        """Names of the model's inputs that have no value, numbers first; of a vector, where it has none at all."""
        numbers, texts = row.numbers, row.texts
        return (
            *(
                name
                for name, first, others in self._numbers
                if numbers[first] != numbers[first] and all(numbers[other] != numbers[other] for other in others)
            ),
            *(
                name
                for name, first, others in self._texts
                if not texts[first] and not any(texts[other] for other in others)
            ),
        )


def _columns(store: Iterable[Declared], model: Iterable[Declared]) -> list[int]:
    """For each column of the model's tensor, the one of the store's that goes there."""
    places, at = {}, 0
    for declared in store:
        places[declared] = range(at, at + declared.width)
        at += declared.width
    return [column for declared in model for column in places[declared]]


def _read(model: Iterable[Declared], columns: Sequence[int]) -> list[tuple[str, int, list[int]]]:
    """For each of the model's inputs its name, and the columns of the store's that it reads: the first, and others."""
    rest = iter(columns)
    inputs = []
    for declared in model:
        first, *others = islice(rest, declared.width)
        inputs.append((declared.name, first, others))
    return inputs
