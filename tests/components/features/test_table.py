from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.features.engine import compute_features, event_order
from components.features.reach import history_begins_us, within
from components.features.shuffle import Shuffle
from components.features.table import build_feature_table, features_on_beam
from schemas.errors import LogError
from tests.components.features.logs import DAY_US, SECOND_US, log
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


def test_only_transactions_from_a_time_on_come_out_with_all_that_came_before_in_their_features(tmp_path: Path) -> None:
    rows = [{"event_time": n * DAY_US, "is_fraud": n % 2 > 0, "label_time": (n + 3) * DAY_US} for n in range(70)]
    pq.write_table(log(rows), tmp_path / "log.parquet", row_group_size=20)
    for partition_rows in (3, 1_000):
        arguments = (tmp_path / "log.parquet", tmp_path / "features.parquet", EVERYTHING)
        since_us = 50 * DAY_US + 1
        assert build_feature_table(*arguments, partition_rows=partition_rows, since_us=since_us) == 19
        computed = _unnamed(pq.read_table(tmp_path / "features.parquet"))
        assert_equal(computed, compute_features(log(rows), EVERYTHING).slice(51))


def test_a_log_cut_where_its_history_begins_gives_the_same_and_one_a_hop_later_does_not(tmp_path: Path) -> None:
    delay_s = 5 * 86_400
    noons = [n * DAY_US + DAY_US // 2 for n in range(60)]
    whole = log([{"event_time": t, "is_fraud": True, "label_time": t + delay_s * SECOND_US} for t in noons])
    since_us = 50 * DAY_US + DAY_US // 2
    begins = history_begins_us(EVERYTHING, since_us, delay_s)

    def built(from_us: int) -> pa.Table:
        pq.write_table(whole.filter(pa.array(within(whole["event_time"], from_us, None))), tmp_path / "log")
        build_feature_table(tmp_path / "log", tmp_path / "out", EVERYTHING, since_us=since_us)
        return _unnamed(pq.read_table(tmp_path / "out"))

    assert 0 < begins < since_us - 35 * DAY_US
    assert_equal(built(begins), compute_features(whole, EVERYTHING).slice(50))
    of_first_row = [built(time)["card_id_fraud_count_30d"][0].as_py() for time in (begins, begins + DAY_US)]
    assert of_first_row == [30, 29]


def test_a_log_that_ends_before_the_time_asked_for_is_refused(tmp_path: Path) -> None:
    pq.write_table(log([{"event_time": 2}]), tmp_path / "log")
    with pytest.raises(LogError, match="earlier"):
        build_feature_table(tmp_path / "log", tmp_path / "out", EVERYTHING, since_us=3)
    assert {file.name for file in tmp_path.iterdir()} == {"log"}


def test_what_is_shuffled_waits_in_files_that_are_gone_when_they_were_taken(tmp_path: Path) -> None:
    shuffle, rows = Shuffle(str(tmp_path)), log([{}, {}])
    put = shuffle.put(rows.slice(1))
    assert [Path(put.decode())] == list(tmp_path.iterdir())
    assert shuffle.take(put).equals(rows.slice(1))
    assert list(tmp_path.iterdir()) == []
    assert Shuffle().take(Shuffle().put(rows)).equals(rows)


def test_a_log_without_rows_is_refused() -> None:
    with pytest.raises(LogError, match="no transactions"):
        features_on_beam(log([]), EVERYTHING)
