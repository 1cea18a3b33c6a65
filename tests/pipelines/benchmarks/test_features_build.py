import json
import os
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from components.features import compute_features
from components.features.table import check_order
from pipelines.benchmarks import features_build
from pipelines.benchmarks.features_build import benchmark, write_copies
from pipelines.benchmarks.logs import simulated
from pipelines.cli import main
from schemas import sources
from schemas.errors import BenchmarkError
from schemas.features import FeatureSpec, specify
from schemas.transaction import COLUMN
from tests.components.features.logs import log


@pytest.mark.parametrize("row_group_rows", [1, 6, 1_000])
def test_copies_are_in_order_and_each_has_the_features_of_the_log(tmp_path: Path, row_group_rows: int) -> None:
    # Ids of which one begins another, and times that several share.
    rows = [
        {"transaction_id": f"t{n}", "event_time": n // 3, "device_id": "d" if n % 2 else None, "card_id": f"c{n % 2}"}
        for n in (0, 1, 2, 3, 4, 5, 8, 9, 10, 11)
    ]
    transactions, spec = log(sorted(rows, key=lambda row: (row["event_time"], row["transaction_id"]))), specify(COLUMN)
    write_copies(transactions, 11, tmp_path / "copies.parquet", row_group_rows)
    check_order(tmp_path / "copies.parquet")
    copies = pq.read_table(tmp_path / "copies.parquet")
    assert copies.schema == transactions.schema
    features = compute_features(copies, spec)
    expected = compute_features(transactions, spec).drop_columns(["transaction_id"])
    for copy in range(11):
        of_copy = features.filter(pc.starts_with(features["transaction_id"], f"{copy:02}:"))
        assert of_copy.drop_columns(["transaction_id"]).to_pandas().equals(expected.to_pandas())


def test_one_copy_and_all_of_them_are_built_and_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "features-build", "--rows", "400", "--copies", "3", "--json"]) == 0
    fields = json.loads(capsys.readouterr().out)
    one, all_copies = fields["ours"], fields["all_copies"]["ours"]
    assert all_copies["rows_per_s"] * all_copies["seconds"] == pytest.approx(3 * fields["rows"])
    assert fields["times_as_long"] == pytest.approx(all_copies["seconds"] / one["seconds"])
    assert fields["copies"] == 3
    assert fields["declared_features"] == len(specify(sources.load("simulated").provided).features)
    assert 0 < fields["output_mib"] < fields["output_mib_of_all_copies"]
    assert min(fields["peak_mib"], fields["peak_mib_of_all_copies"]) > 50


def test_copies_that_the_disk_has_no_room_for_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transactions, mapping = simulated(200)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1_000))
    with pytest.raises(BenchmarkError, match="TMPDIR"):
        benchmark(transactions, mapping, 2, tmp_path, lambda _: None)
    assert list(tmp_path.iterdir()) == []


def killed(log: Path, out: Path, spec: FeatureSpec) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_build_that_was_killed_says_so_and_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transactions, mapping = simulated(200)
    monkeypatch.setattr(features_build, "_build", killed)
    with pytest.raises(BenchmarkError, match="killed"):
        benchmark(transactions, mapping, 2, tmp_path, lambda _: None)
    assert list(tmp_path.iterdir()) == []
