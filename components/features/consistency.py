"""Comparing logged features with those that batch computes: counts per feature, those apart that may differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from components.features.compare import numbers_differ
from components.features.engine import Mask
from components.features.precision import to_float32
from components.features.timeline import Cause, stream
from schemas.features import Feature, FeatureSpec, RowInput


@dataclass(frozen=True)
class Counts:
    """Decisions, and in how many of them a feature was not what batch computes; none of them counts twice.

    Attributes:
        rows: all of them.
        mismatched: a value was logged, and batch has another one.
        missing: nothing was logged, and batch has a value.
        extra: a value was logged, and batch has none.
    """

    rows: int
    mismatched: int
    missing: int
    extra: int

    @property
    def disagreements(self) -> int:
        return self.mismatched + self.missing + self.extra

    @property
    def rate(self) -> float:
        """Share of the rows that disagree; 0 without rows."""
        return self.disagreements / self.rows if self.rows else 0.0


@dataclass(frozen=True)
class Consistency:
    """How one feature compares.

    Attributes:
        strict: where it has to agree.
        apart: where it need not, by the cause.
        example: id of the first transaction in `strict` that disagrees, None without one.
    """

    strict: Counts
    apart: Mapping[Cause, Counts]
    example: str | None


def consistency(
    logged: pa.Table, computed: pa.Table, spec: FeatureSpec, causes: Mapping[tuple[str, bool], NDArray[np.int8]]
) -> dict[str, Consistency]:
    """Compares feature by feature, with the measure of `compare`.

    Two numbers agree, too, when they are the same as float32: the model was given the same.  A vector disagrees where
    one of its values does.

    Args:
        logged: the columns of `compute_features`, as logged.
        computed: the same columns of the same transactions in the same order, as computed.
        spec: what to compare.
        causes: for each stream of `timeline.stream`, why a row need not agree; int8[rows].

    Returns:
        By name, in the order of the specification.
    """
    ids = computed["transaction_id"]
    found = {}
    for declared in spec.inputs:
        kinds = _disagreements(logged[declared.name], computed[declared.name], declared)
        of_stream = stream(declared)
        cause = np.zeros(len(ids), np.int8) if of_stream is None else causes[of_stream]
        strict = cause == Cause.NONE
        wrong = np.flatnonzero(strict & np.any(kinds, axis=0))
        found[declared.name] = Consistency(
            _counts(kinds, strict),
            {Cause(number): _counts(kinds, cause == number) for number in np.unique(cause[~strict])},
            ids[int(wrong[0])].as_py() if wrong.size else None,
        )
    return found


def _counts(kinds: tuple[Mask, Mask, Mask], rows: Mask) -> Counts:
    return Counts(int(rows.sum()), *(int((kind & rows).sum()) for kind in kinds))


def _disagreements(
    logged: pa.ChunkedArray, computed: pa.ChunkedArray, declared: Feature | RowInput
) -> tuple[Mask, Mask, Mask]:
    """In which rows the two are mismatched, missing and extra."""
    if declared.is_vector:
        logged, computed = pc.list_flatten(logged), pc.list_flatten(computed)
    if declared.is_text:
        absent, none = (pc.equal(values, "").to_numpy() for values in (logged, computed))
        differs = pc.not_equal(logged, computed).to_numpy()
    else:
        values = [column.to_numpy() for column in (logged, computed)]
        absent, none = map(np.isnan, values)
        narrow = to_float32(pa.table({"logged": logged, "computed": computed}))
        _, differs = numbers_differ(*values)
        differs = differs & (narrow["logged"].to_numpy() != narrow["computed"].to_numpy())
    each = (differs & ~absent & ~none, absent & ~none, none & ~absent)
    mismatched, missing, extra = (kind.reshape(-1, declared.width).any(axis=1) for kind in each)
    return mismatched, missing & ~mismatched, extra & ~mismatched & ~missing
