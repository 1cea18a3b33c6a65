from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.features.engine import compute_features, event_order
from components.features.table import build_feature_table, features_on_beam
from schemas.errors import LogError
from tests.components.features.logs import log
from tests.components.features.test_engine import EVERYTHING, assert_equal


def _unnamed(table: pa.Table) -> pa.Table:
    """The table with lists' values named as in memory: Parquet renames them."""
    return table.cast(compute_features(log([]), EVERYTHING).schema)


def test_a_table_in_any_order_comes_back_in_event_time_order() -> None:
    random = np.random.default_rng(3)
    rows = [{"event_time": int(random.integers(20)), "amount_base_minor": number} for number in range(40)]
    transactions = log(rows)
    computed = features_on_beam(transactions, EVERYTHING, ("is_fraud",))
    expected = compute_features(transactions.take(pa.array(event_order(transactions))), EVERYTHING)
    assert_equal(_unnamed(computed.drop_columns(["is_fraud"])), expected)


def test_a_file_of_many_row_groups_becomes_one_file_in_order_and_nothing_else(tmp_path: Path) -> None:
    transactions = log([{"event_time": n // 2, "transaction_id": f"t{n:03}"} for n in range(50)])
    pq.write_table(transactions, tmp_path / "log.parquet", row_group_size=7)
    assert build_feature_table(tmp_path / "log.parquet", tmp_path / "out" / "features.parquet", EVERYTHING) == 50
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["features.parquet"]
    assert_equal(_unnamed(pq.read_table(tmp_path / "out")), compute_features(transactions, EVERYTHING))


@pytest.mark.parametrize("batch", [1, 3])
def test_a_file_out_of_order_is_refused_by_transaction(tmp_path: Path, batch: int) -> None:
    pq.write_table(
        log([{"event_time": 2}, {"event_time": 2}, {"event_time": 1}]), tmp_path / "log", row_group_size=batch
    )
    with pytest.raises(LogError, match="out of order"):
        build_feature_table(tmp_path / "log", tmp_path / "out", EVERYTHING)
    assert not (tmp_path / "out").exists()


def test_a_log_without_rows_is_refused() -> None:
    with pytest.raises(LogError, match="no transactions"):
        features_on_beam(log([]), EVERYTHING)
