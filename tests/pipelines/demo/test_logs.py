"""The live logs of the demonstration, on a smaller bank."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from pipelines.demo import logs


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "CARDS", 60)
    monkeypatch.setattr(logs, "DAYS", 10)
    monkeypatch.setattr(logs, "LIVE_DAYS", 3)


@pytest.mark.usefixtures("small")
def test_live_logs_follow_the_training_log_and_one_another_in_the_same_world(tmp_path: Path) -> None:
    _, past = logs.training_log(tmp_path)
    lives: list[pa.Table] = []
    for number in (1, 2):
        logs.live_log(tmp_path / f"live-{number}.parquet", number)
        lives.append(pq.read_table(tmp_path / f"live-{number}.parquet"))
    tables = [past, *lives]
    for before, after in pairwise(tables):
        assert pc.max(before["event_time"]).as_py() < pc.min(after["event_time"]).as_py()
    ids = pa.chunked_array([chunk for table in tables for chunk in table["transaction_id"].chunks])
    assert pc.count_distinct(ids).as_py() == len(ids)
    cards = [set(table["card_id"].to_pylist()) for table in tables]
    assert min(map(len, cards)) > 40
    assert len(set().union(*cards)) <= 60


@pytest.mark.usefixtures("small")
def test_the_warehouse_copy_lies_beside_the_training_log_and_lacks_rows_of_it(tmp_path: Path) -> None:
    file, past = logs.training_log(tmp_path)
    copy = pq.read_table(logs.warehouse_copy(file, past))
    assert 0 < copy.num_rows < past.num_rows
    assert set(copy["transaction_id"].to_pylist()) < set(past["transaction_id"].to_pylist())
