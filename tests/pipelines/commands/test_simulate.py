import json

import pytest
from pyarrow import parquet

from components.simulator import FRAUD_KINDS
from pipelines import cli

ARGUMENTS = ["--cards", "60", "--days", "5", "--seed", "4"]


def test_simulate_writes_the_log_and_says_how_much(tmp_path, capsys):
    out = tmp_path / "log.parquet"
    assert cli.main(["simulate", "--out", str(out), *ARGUMENTS, "--json"]) == 0
    printed = capsys.readouterr()
    reply = json.loads(printed.out)
    log = parquet.read_table(out)
    assert set(reply) == {"rows", "frauds", "seconds"}
    assert reply["rows"] == log.num_rows
    assert list(reply["frauds"]) == list(FRAUD_KINDS)
    assert sum(reply["frauds"].values()) == sum(log["is_fraud"].to_pylist())
    assert "simulating 60 cards over 5 days" in printed.err


def test_a_start_moves_the_log(tmp_path):
    out = tmp_path / "log.parquet"
    assert cli.main(["simulate", "--out", str(out), *ARGUMENTS, "--start", "2024-03-01"]) == 0
    times = parquet.read_table(out)["event_time"].to_pylist()
    assert (times[0].month, times[0].day) == (3, 1)


@pytest.mark.parametrize(
    ("out", "arguments", "message"),
    [
        ("log.txt", ARGUMENTS, ".txt"),
        ("missing/log.csv", ARGUMENTS, "missing"),
        (".", ARGUMENTS, "ends in"),
        ("log.csv", ["--cards", "0", "--days", "5", "--seed", "4"], "cards is 0"),
        ("log.csv", ["--cards", "5", "--days", "0", "--seed", "4"], "days is 0"),
    ],
)
def test_bad_arguments_exit_with_2_and_write_nothing(tmp_path, capsys, out, arguments, message):
    assert cli.main(["simulate", "--out", str(tmp_path / out), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
