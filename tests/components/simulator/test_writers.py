import json
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pyarrow import csv, parquet

from components.simulator import check_target, simulate, write, writers
from schemas.errors import ConfigurationError


@pytest.fixture(scope="module")
def log() -> pa.Table:
    return simulate(60, 5, 2)


def test_parquet_holds_the_log_and_the_same_log_gives_the_same_bytes(log, tmp_path):
    write(log, tmp_path / "a.parquet")
    write(simulate(60, 5, 2), tmp_path / "b.parquet")
    assert parquet.read_table(tmp_path / "a.parquet").equals(log)
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_csv_holds_the_same_rows(log, tmp_path):
    write(log, tmp_path / "log.csv")
    types = csv.ConvertOptions(column_types=log.schema, strings_can_be_null=True, quoted_strings_can_be_null=False)
    assert csv.read_csv(tmp_path / "log.csv", convert_options=types).equals(log)


def test_json_lines_hold_the_same_rows(log, tmp_path):
    write(log, tmp_path / "log.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    as_text = {name: pc.strftime(log[name], format="%Y-%m-%dT%H:%M:%SZ") for name in ("event_time", "label_time")}
    for name, texts in as_text.items():
        log = log.set_column(log.column_names.index(name), name, texts)
    assert rows == log.to_pylist()


def test_nothing_is_left_of_a_file_that_could_not_be_finished(log, tmp_path, monkeypatch):
    def fail_halfway(table: pa.Table, path: Path) -> None:
        path.write_text("half")
        raise OSError("disk full")

    monkeypatch.setitem(writers._WRITERS, ".csv", fail_halfway)
    (tmp_path / "log.csv").write_text("before")
    with pytest.raises(OSError, match="disk full"):
        write(log, tmp_path / "log.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]
    assert (tmp_path / "log.csv").read_text() == "before"


@pytest.mark.parametrize(
    ("name", "message"), [("log.xlsx", "xlsx"), ("missing/log.csv", "does not exist"), ("folder.csv", "is a folder")]
)
def test_a_file_that_cannot_be_written_is_refused(tmp_path, name, message):
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ConfigurationError, match=message):
        check_target(tmp_path / name)
