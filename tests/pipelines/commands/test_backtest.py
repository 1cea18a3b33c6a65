"""`fraudops backtest`: what it asks for, and the file of scores that it leaves."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from components import simulator
from pipelines.cli import main
from pipelines.commands import backtest


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--protocol", "split", "--source", "simulated"], "--at is the moment of --protocol split"),
        (["--protocol", "handbook", "--at", "2024-03-01"], "--at is the moment of --protocol split"),
        (["--protocol", "split", "--at", "2024-03-01"], "--protocol split needs --source"),
        (["--protocol", "yearly"], "'yearly' is not one of"),
    ],
)
def test_what_a_protocol_needs_is_asked_for(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["backtest", "--log", "log.parquet", *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_the_scores_of_a_moment_are_in_a_file_by_the_logs_own_ids(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = simulator.simulate(cards=300, days=50, seed=2)
    numbered = log.set_column(log.column_names.index("transaction_id"), "transaction_id",
                              pa.array([str(number) for number in range(log.num_rows)]))  # fmt: skip
    simulator.write(numbered, tmp_path / "log.parquet")
    settings = {"backtest": {"warm_up_s": 10 * 86_400}, "training": {"epochs": 2, "units": [16]}}
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    arguments = ["--protocol", backtest.SPLIT, "--source", "simulated", "--at", "2024-02-10T12:00:00"]
    places = {"--log": "log.parquet", "--out": "out/scores.parquet", "--workspace": "ws", "--config": "settings.yaml"}
    paths = [text for option, name in places.items() for text in (option, str(tmp_path / name))]
    assert main(["backtest", *arguments, *paths, "--json"]) == 0
    [fold] = json.loads(capsys.readouterr().out)["folds"]
    scores = pq.read_table(tmp_path / "out" / "scores.parquet")
    assert scores.schema.names == ["fold", "transaction_id", "score"]
    assert scores.schema.field("transaction_id").type == pa.int64()
    assert scores.num_rows == fold["rows"] > 0
    assert 0 < fold["average_precision"] <= 1
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["scores.parquet"]
    assert not list((tmp_path / "ws").glob("backtest.*")), "scratch files stay"
