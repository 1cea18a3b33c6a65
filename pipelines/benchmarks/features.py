"""Window features: the batch engine beside what notebooks do with pandas and Polars."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from components.features import compute_features
from pipelines.benchmarks.comparison import Columns, Contest, Result, Side, alone, take_turns
from pipelines.benchmarks.handbook import (
    TWELVE,
    as_frame,
    as_polars,
    in_whole_seconds,
    pandas_apply,
    pandas_rolling,
    polars_rolling,
)
from schemas.errors import LogColumnsError
from schemas.features import specify
from schemas.sources import SourceMapping

GOAL = (
    "20 times as fast as pandas_apply, better 50 times, and not slower than polars_rolling; "
    "the full declaration at 100,000 transactions/s"
)


def benchmark(transactions: pa.Table, mapping: SourceMapping, runs: int) -> Result:
    """Times the twelve features beside pandas and Polars, then the whole declaration alone.

    Compiling counts for nobody: `compile_seconds` is what the first runs took longer than the others, which is little
    where numba finds its cache on disk.  Nor does turning the log into each side's own form of table.

    Args:
        transactions: canonical, as ingest leaves them.
        mapping: of their log.
        runs: timed runs of each side.

    Raises:
        BenchmarkError: the sides disagree, or a peer is not installed.
        LogColumnsError: the log has no labels.
    """
    if "is_fraud" not in transactions.column_names:
        raise LogColumnsError(f"source {mapping.source} has no is_fraud, which half of the features count; use another")
    rows = transactions.num_rows
    log = in_whole_seconds(transactions)
    frame = as_frame(log)
    polars_frame = as_polars(frame)
    twelve = specify(log.column_names, TWELVE, row_inputs=())
    contest = take_turns(
        rows,
        Side(lambda: compute_features(log, twelve), _columns),
        {
            "pandas_apply": Side(lambda: pandas_apply(frame), _columns),
            "polars_rolling": Side(lambda: polars_rolling(polars_frame), lambda found: _columns(found.sort("row"))),
            "pandas_rolling": Side(lambda: pandas_rolling(frame), _columns),
        },
        runs,
    )
    declared = specify(mapping.provided)
    whole = alone(rows, lambda: compute_features(transactions, declared), runs)
    return Result(
        "features",
        contest,
        GOAL,
        file_reading=False,
        further={"full_declaration": Contest(whole, {})},
        facts={
            "ratio_polars": contest.ratios["polars_rolling"],
            "declared_features": len(declared.features),
            "keys": frame["card"].nunique() + frame["merchant"].nunique(),
            "compile_seconds": sum(max(0.0, timing.first_s - timing.seconds) for timing in (contest.ours, whole)),
        },
    )


def _columns(features: Any) -> Columns:
    """The twelve columns of a table of Arrow's, pandas' or Polars', in the order of the log's rows."""
    return {feature.name: features[feature.name].to_numpy() for feature in TWELVE}
