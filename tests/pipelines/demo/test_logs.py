"""The live logs of the demonstration, on a smaller bank."""

from __future__ import annotations

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
def test_the_live_log_follows_the_training_log_in_the_same_world(tmp_path: Path) -> None:
    _, past = logs.training_log(tmp_path)
    live = live_log(tmp_path, [])
    assert pc.max(past["event_time"]).as_py() < pc.min(live["event_time"]).as_py()
    assert not set(past["transaction_id"].to_pylist()) & set(live["transaction_id"].to_pylist())
    cards = [set(table["card_id"].to_pylist()) for table in (past, live)]
    assert min(map(len, cards)) > 40
    assert len(set().union(*cards)) <= 60


@pytest.mark.usefixtures("small")
def test_the_live_log_goes_on_behind_what_was_answered(tmp_path: Path) -> None:
    whole = live_log(tmp_path, [])
    answered = whole["transaction_id"][:100].to_pylist()
    assert live_log(tmp_path, answered).equals(whole.slice(100))


def live_log(folder: Path, answered: list[str]) -> pa.Table:
    logs.live_log(folder / "live.parquet", answered)
    return pq.read_table(folder / "live.parquet")


@pytest.mark.usefixtures("small")
def test_the_warehouse_copy_lies_beside_the_training_log_and_lacks_rows_of_it(tmp_path: Path) -> None:
    file, past = logs.training_log(tmp_path)
    copy = pq.read_table(logs.warehouse_copy(file, past))
    assert 0 < copy.num_rows < past.num_rows
    assert set(copy["transaction_id"].to_pylist()) < set(past["transaction_id"].to_pylist())
