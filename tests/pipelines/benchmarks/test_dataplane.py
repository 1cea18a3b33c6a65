"""The data plane's benchmark: both sides see the same rows and columns, or there are no figures."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from pipelines.benchmarks.dataplane import Plane, check, log_columns
from pipelines.cli import main
from schemas import sources
from schemas.errors import BenchmarkError
from schemas.transaction import CALENDAR_COLUMNS, LABEL

OURS = Plane("ours", 100, 15, 100, 5_000.0, 1.0, {"ingest": 1.0}, {"ingest": 800.0}, 900.0)
TFX = replace(OURS, side="tfx", columns=14, seconds=10.0)


@pytest.mark.parametrize(
    ("planes", "complaint"),
    [
        ((replace(OURS, profiled_rows=99),), "ours made statistics of 99 of 100 rows"),
        ((OURS, replace(TFX, profiled_rows=101)), "tfx made statistics of 101 of 100 rows"),
        ((replace(OURS, columns=13), TFX), "ours profiled 13 columns .* tfx 14"),
        ((OURS, replace(TFX, amount=5_001.0)), r"amounts of 5000.0, tfx 14 with 5001.0"),
    ],
)
def test_sides_that_did_different_work_get_no_figures(planes: tuple[Plane, ...], complaint: str) -> None:
    with pytest.raises(BenchmarkError, match=complaint):
        check({plane.side: plane for plane in planes})


def test_sides_that_profiled_all_rows_are_compared() -> None:
    check({"ours": OURS})
    # Rows that only warm windows up are in no statistics of a run.
    check({"ours": OURS, "tfx": TFX, "declaration": replace(OURS, side="declaration", profiled_rows=70, amount=None)})


def test_ours_has_every_column_that_stock_tfx_gets() -> None:
    mapping = sources.load("simulated")
    stock = set(mapping.provided) - {"transaction_id", "label_time", "event_time", "amount_base_minor", LABEL}
    assert {i.name for i in log_columns().inputs} - {"amount_base_minor", *CALENDAR_COLUMNS} == stock


@pytest.mark.slow
def test_each_side_is_timed_from_the_file_to_its_transform_graph(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "dataplane", "--rows", "20000", "--json"]) == 0
    fields = json.loads(capsys.readouterr().out)
    planes = {plane["side"]: plane for plane in fields["planes"]}
    assert planes.keys() == {"ours", "tfx", "declaration"}
    assert fields["ratio"] == pytest.approx(planes["tfx"]["seconds"] / planes["ours"]["seconds"])
    assert fields["declaration"]["ratio"] == pytest.approx(planes["tfx"]["seconds"] / planes["declaration"]["seconds"])
    assert planes["ours"]["profiled_rows"] == planes["tfx"]["profiled_rows"] == fields["rows"]
    for plane in planes.values():
        assert {"examples", "statistics", "anomalies", "schema", "transform"} <= plane["steps"].keys()
        assert sum(plane["steps"].values()) < plane["seconds"]
        assert plane["peaks_mib"].keys() == plane["steps"].keys()
        assert 100 < max(plane["peaks_mib"].values()) <= plane["peak_mib"]
