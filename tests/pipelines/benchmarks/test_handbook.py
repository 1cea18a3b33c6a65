import sys

import pandas as pd
import pyarrow as pa
import pytest

from components.features import compute_features
from pipelines.benchmarks.handbook import (
    TWELVE,
    as_frame,
    as_polars,
    in_whole_seconds,
    pandas_apply,
    pandas_rolling,
    polars_rolling,
)
from schemas.errors import BenchmarkError
from schemas.features import specify


def log_of_ties_and_late_labels() -> pa.Table:
    second, day = 1_000_000, 86_400 * 1_000_000
    times = [0, 0, 0, second, day, day + second, 9 * day, 9 * day, 40 * day]
    return in_whole_seconds(
        pa.table(
            {
                "transaction_id": [f"t{row}" for row in range(len(times))],
                "event_time": pa.array(times, pa.timestamp("us", "UTC")),
                "card_id": ["a", "a", "b", "a", "a", "b", "a", "a", "b"],
                "merchant_id": ["m", "m", "m", "n", "m", "n", "m", "m", "n"],
                "amount_base_minor": [100, 200, 300, 400, 500, 600, 700, 800, 900],
                "is_fraud": pa.array([True, False, None, False, True, True, False, False, False]),
            }
        )
    )


def test_peers_see_neither_ties_nor_labels_before_their_time() -> None:
    log = log_of_ties_and_late_labels()
    ours = compute_features(log, specify(log.column_names, TWELVE, row_inputs=())).to_pandas()[[f.name for f in TWELVE]]
    assert ours["card_id_count_1d"].tolist() == [0, 0, 0, 2, 3, 0, 0, 0, 0]
    assert ours["merchant_id_fraud_count_7d"].tolist() == [0, 0, 0, 0, 0, 0, 2, 2, 0]
    frame = as_frame(log)
    by_polars = polars_rolling(as_polars(frame)).to_pandas().set_index("row").sort_index()
    for peer in (pandas_rolling(frame), pandas_apply(frame), by_polars):
        pd.testing.assert_frame_equal(
            peer[ours.columns], ours, check_names=False, check_index_type=False, check_dtype=False, rtol=1e-12
        )


def test_without_polars_the_message_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(BenchmarkError, match="make install"):
        as_polars(as_frame(log_of_ties_and_late_labels()))
