"""What was known at a moment, and the features that give away what was not."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

from components.features.compare import compare
from schemas.features import FeatureSpec

Compute = Callable[[pa.Table, FeatureSpec], pa.Table]


def known_at(log: pa.Table, at_us: int) -> pa.Table:
    """The log as it was at a time, UTC microseconds: no later transaction, and no label that was not known before."""
    so_far = log.filter(pc.less_equal(log["event_time"].cast(pa.int64()), at_us))
    known = pc.fill_null(pc.less(so_far["label_time"].cast(pa.int64()), at_us), False)
    for name in ("is_fraud", "label_time"):
        column = so_far[name]
        so_far = so_far.set_column(
            so_far.column_names.index(name), name, pc.if_else(known, column, pa.scalar(None, column.type))
        )
    return so_far


def leaking(compute: Compute, log: pa.Table, spec: FeatureSpec, at_us: int) -> set[str]:
    """Names of the features that are others, up to a time, once what came later is known."""
    then, now = compute(known_at(log, at_us), spec), compute(log, spec)
    compared = compare(then, now)
    assert (compared.rows, compared.only_first) == (then.num_rows, 0)
    return {name for name, difference in compared.features.items() if difference.disagreements}
