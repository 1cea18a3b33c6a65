"""Benchmarks compute what they time: sides agree, disagreement is an error, and the object has its keys."""

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.benchmarks import online_features
from pipelines.benchmarks.comparison import Side, alone, check_agreement, take_turns
from pipelines.benchmarks.features import benchmark
from pipelines.benchmarks.logs import read, simulated
from pipelines.benchmarks.processes import process
from pipelines.cli import main
from schemas import sources
from schemas.errors import BenchmarkError, LogColumnsError, LogError
from schemas.features import specify

KEYS = {"benchmark", "rows", "ours", "peers", "ratio", "ratios", "goal", "file_reading", "machine"}


def bench(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    assert main(["bench", *map(str, arguments), "--json"]) == 0
    fields: dict[str, Any] = json.loads(capsys.readouterr().out)
    return fields


def check_figures(fields: dict[str, Any], rows: int, runs: int) -> None:
    """Every side has its figures, and every peer its ratio."""
    for timing in (fields["ours"], *fields["peers"].values()):
        assert timing.keys() == {"seconds", "rows_per_s", "runs"}
        assert len(timing["runs"]) == runs
        assert timing["rows_per_s"] == pytest.approx(rows / timing["seconds"])
    assert fields["ratio"] == next(iter(fields["ratios"].values()), None)
    assert fields["ratios"] == {
        name: pytest.approx(peer["seconds"] / fields["ours"]["seconds"]) for name, peer in fields["peers"].items()
    }


def side(**columns: list[float]) -> Side:
    return Side(lambda: columns, lambda computed: {name: np.array(values) for name, values in computed.items()})


def test_without_a_name_the_benchmarks_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(bench(capsys)["benchmarks"]) == [
        "features", "features-build", "dataplane", "training-input", "training", "online-features", "simulate",
        "gateway",
    ]  # fmt: skip
    assert main(["bench"]) == 0
    assert len(capsys.readouterr().err.strip().splitlines()) == 8


def test_features_are_those_of_the_peers_and_the_object_says_how_fast(
    capsys: pytest.CaptureFixture[str],
) -> None:
    fields = bench(capsys, "features", "--rows", 2_000, "--runs", 2)
    assert fields.keys() == KEYS | {"full_declaration", "ratio_polars", "declared_features", "keys", "compile_seconds"}
    assert fields["peers"].keys() == {"polars_rolling", "pandas_rolling", "pandas_apply"}
    assert fields["file_reading"] is False
    assert fields["machine"].keys() == {"cores", "memory_gib", "cpu", "load_average"}
    for figures in (fields, fields["full_declaration"]):
        check_figures(figures, fields["rows"], runs=2)
    declared = specify(sources.load("simulated").provided)
    assert fields["declared_features"] == len(declared.features)


def test_the_simulator_has_no_peers(capsys: pytest.CaptureFixture[str]) -> None:
    fields = bench(capsys, "simulate", "--rows", 1_000, "--runs", 1)
    assert fields.keys() == KEYS
    assert (fields["peers"], fields["ratio"], fields["ratios"]) == ({}, None, {})
    check_figures(fields, fields["rows"], runs=1)


def test_both_ways_of_training_input_hand_over_the_same_rows(capsys: pytest.CaptureFixture[str]) -> None:
    fields = bench(capsys, "training-input", "--rows", 3_000, "--epochs", 2, "--runs", 1)
    assert fields.keys() == KEYS | {"first_epoch", "later_epochs", "batch_size", "epochs"}
    assert fields["peers"].keys() == {"tfx"}
    assert fields["file_reading"] is True
    assert fields["rows"] % (2 * fields["batch_size"]) == 0
    check_figures(fields, fields["rows"], runs=1)
    for figures in (fields["first_epoch"], fields["later_epochs"]):
        check_figures(figures, fields["rows"] // 2, runs=1)


@pytest.mark.slow
def test_training_is_timed_beside_fit_and_xgboost(capsys: pytest.CaptureFixture[str]) -> None:
    fields = bench(capsys, "training", "--rows", 20_000, "--epochs", 2, "--runs", 1)
    facts = {f"{name}_average_precision" for name in ("target", "network", "xgboost")}
    assert fields.keys() == KEYS | facts | {"time_to_target", "batch_size", "epochs"}
    assert fields["peers"].keys() == {"tfx_with_fit"}
    assert fields["rows"] % (2 * fields["batch_size"]) == 0
    check_figures(fields, fields["rows"], runs=1)
    assert fields["time_to_target"]["peers"].keys() == {"xgboost"}
    reached = min(fields["network_average_precision"], fields["xgboost_average_precision"])
    assert 0 < fields["target_average_precision"] < reached


@pytest.mark.slow
def test_the_gateway_is_timed_under_every_load_beside_its_model_server(capsys: pytest.CaptureFixture[str]) -> None:
    fields = bench(capsys, "gateway", "--rate", 20, "--rate", 40, "--seconds", 1, "--calls", 50)
    assert fields.keys() == KEYS | {"in_flight", "in_flight_16", "features", "loads"}
    assert fields["rows"] == 50
    assert fields["peers"].keys() == {"model_server_row_by_row", "model_server_in_batches"}
    for figures in (fields, fields["in_flight_16"]):
        check_figures(figures, 50, runs=1)
    assert [(load["offered_per_s"], load["in_flight"], load["calls"]) for load in fields["loads"]] == [
        (20, 1_000, 20), (40, 1_000, 40), (None, 16, 50), (None, 64, 50),
    ]  # fmt: skip
    for load in fields["loads"]:
        assert load["errors"] == 0
        assert 0 < load["p50_ms"] <= load["p99_ms"] <= load["p999_ms"]


def test_a_store_is_timed_with_many_keys_present(capsys: pytest.CaptureFixture[str]) -> None:
    fields = bench(capsys, "online-features", "--keys", 500, "--transactions", 30)
    assert fields.keys() == KEYS | {"paces", "keys", "history_rows", "features"}
    check_figures(fields, rows=30, runs=1)
    assert fields["keys"] > 300
    stores = ["embedded", "redis"] if shutil.which("redis-server") else ["embedded"]
    assert [pace["store"] for pace in fields["paces"]] == stores
    assert list(fields["peers"]) == stores[1:]
    for pace in fields["paces"]:
        assert pace["bytes"] > 0
        for percentiles in (pace["observe_ms"], pace["label_ms"]):
            assert 0 < percentiles["p50"] <= percentiles["p99"] <= percentiles["p99.9"]


def test_more_transactions_than_follow_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="fewer than 1,000"):
        online_features.benchmark(100, 1_000, None, tmp_path, lambda _: None)


def test_a_part_that_does_not_start_says_why(tmp_path: Path) -> None:
    with (
        pytest.raises(BenchmarkError, match=r"(?s)the model-server does not start.*model-base-path"),
        process("model-server", [], tmp_path),
    ):
        pass


def test_people_get_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "features", "--rows", "2000", "--runs", "1"]) == 0
    shown = capsys.readouterr().err
    assert all(word in shown for word in ("pandas_apply", "times as fast", "full declaration", "goal", "load average"))


def test_a_log_is_read_through_its_mapping_and_cut(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    log = tmp_path / "log.parquet"
    assert main(["simulate", "--out", str(log), "--cards", "40", "--days", "20", "--seed", "1"]) == 0
    fields = bench(capsys, "features", "--log", log, "--source", "simulated", "--rows", 300, "--runs", 1)
    assert fields["rows"] == 300


def test_a_log_without_its_source_is_bad_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "features", "--log", "log.parquet"]) == 2
    assert "--source" in capsys.readouterr().err


def test_a_log_of_bad_rows_is_bad_input(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text(
        "tx_id,cc_num,trans_date_trans_time,category,amt,is_fraud,merchant,merch_lat,merch_long\n" + "x,,,,,,,,\n"
    )
    with pytest.raises(LogError, match=r"log\.csv"):
        read(log, "sparkov", None)


def test_a_log_without_labels_is_bad_input() -> None:
    transactions, mapping = simulated(100)
    with pytest.raises(LogColumnsError, match="is_fraud"):
        benchmark(transactions.drop_columns(["is_fraud"]), mapping, 1)


def test_sides_take_turns_and_the_first_run_of_each_does_not_count() -> None:
    order: list[str] = []
    readings = itertools.accumulate([0, 50, 0, 60, 0, 1, 0, 10, 0, 3, 0, 30, 0, 2, 0, 20], initial=0)
    next(readings)

    def of(name: str) -> Side:
        return Side(lambda: order.append(name), lambda _: {"x": np.zeros(1)})

    contest = take_turns(100, of("ours"), {"peer": of("peer")}, runs=3, clock=lambda: float(next(readings)))
    assert order == ["ours", "peer"] * 4
    assert list(contest.ours.runs_s) == [1, 3, 2]
    assert (contest.ours.first_s, contest.ours.seconds) == (50, 2)
    assert contest.ours.fields() == {"seconds": 2, "rows_per_s": 50, "runs": (1, 3, 2)}
    assert contest.ratios == {"peer": 10}


def test_alone_counts_all_runs_but_the_first() -> None:
    readings = iter([0.0, 9.0, 10.0, 12.0, 20.0, 24.0])
    timing = alone(30, lambda: None, runs=2, clock=lambda: next(readings))
    assert (timing.first_s, timing.runs_s, timing.seconds) == (9, (2, 4), 3)


@pytest.mark.parametrize(
    ("peer", "complaint"),
    [
        (side(x=[1.0, np.nan, 3.1]), "x in 1 of 3 rows, first in row 2: 3.1 where 3.0"),
        (side(x=[1.0, 0.0, 3.0]), "first in row 1: 0.0 where nan"),
        (side(x=[1.0, np.nan]), "values of x"),
        (side(y=[1.0, np.nan, 3.0]), "'y'"),
    ],
)
def test_sides_that_disagree_get_no_figures(peer: Side, complaint: str) -> None:
    with pytest.raises(BenchmarkError, match="slow") as raised:
        take_turns(3, side(x=[1.0, np.nan, 3.0]), {"slow": peer}, runs=1)
    assert complaint in str(raised.value)


def test_rounding_is_no_disagreement() -> None:
    check_agreement("slow", {"x": np.array([1.0 + 1e-12, np.nan])}, {"x": np.array([1.0, np.nan])}, 1e-9)
