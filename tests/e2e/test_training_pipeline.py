"""The training pipeline from log to registry, as its users meet it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient

from tests.e2e.conftest import SETTINGS, Answer, Site, changed_copy, times_hundred

Call = Callable[[list[str]], Answer]
PROJECT = Path(__file__).parents[2]
# What a run of the training pipeline may reuse; the resolver has no result of its own to keep.
CHAMPION = "champion"


def registry(site: Site) -> MlflowClient:
    """MLflow in the site's workspace."""
    from components.registry.client import connect
    from pipelines.workspace import Workspace

    return connect(Workspace.at(site.workspace).tracking_uri)


def ran(answer: Answer) -> set[str]:
    return {name for name, state in answer.fields["steps"].items() if state == "ran"} - {CHAMPION}


def test_a_log_becomes_a_registered_version(first_run: Answer) -> None:
    assert first_run.code == 0, first_run.fields
    assert first_run.fields["status"] == "passed"
    assert first_run.fields["model_version"] == 1
    assert set(first_run.fields["steps"].values()) == {"ran"}
    assert 0 < first_run.fields["metrics"]["test"]["average_precision"] < 0.95


def test_the_rows_of_a_run_add_up(first_run: Answer) -> None:
    rows = dict(first_run.fields["rows"])
    read = rows.pop("read")
    assert read == sum(rows.values())
    assert min(rows["train"], rows["validation"], rows["test"], rows["warm_up"], rows["immature"]) > 0


def test_without_a_champion_the_gate_says_that_there_is_no_baseline(first_run: Answer) -> None:
    assert [reason["subject"] for reason in first_run.fields["gate"]["reasons"]] == ["baseline"]


def test_lineage_can_be_walked_from_mlflow_to_metadata_and_back(first_run: Answer, site: Site) -> None:
    from ml_metadata import MetadataStore
    from ml_metadata.proto import metadata_store_pb2

    from components.registry.client import connect
    from components.registry.versions import show_version
    from pipelines.workspace import Workspace
    from schemas.digests import directory_digest

    workspace = Workspace.at(site.workspace)
    version = show_version(connect(workspace.tracking_uri), 1)
    config = metadata_store_pb2.ConnectionConfig()
    config.sqlite.filename_uri = str(workspace.metadata)
    store = MetadataStore(config)
    [model] = store.get_artifacts_by_id([int(version.lineage["mlmd.model_id"])])
    assert directory_digest(Path(model.uri) / "Format-Serving") == version.digests["saved_model"]
    [pushed] = store.get_artifacts_by_type("PushedModel")
    assert pushed.custom_properties["mlflow_run_id"].string_value == version.run_id
    assert pushed.custom_properties["mlflow_model_version"].int_value == 1
    assert (version.gate, version.approval, version.aliases) == ("passed", "pending", ())


def test_row_counts_and_the_span_are_in_the_metadata_and_in_mlflow(first_run: Answer, site: Site) -> None:
    from ml_metadata import MetadataStore
    from ml_metadata.proto import metadata_store_pb2

    rows = first_run.fields["rows"]
    run = registry(site).get_run(first_run.fields["mlflow_run"])
    assert {name: int(run.data.params[f"rows.{name}"]) for name in rows} == rows
    assert run.data.tags["data.span"] == "2024-01-01 to 2024-02-19"
    config = metadata_store_pb2.ConnectionConfig()
    config.sqlite.filename_uri = str(site.workspace / "metadata.sqlite")
    store = MetadataStore(config)
    transactions, examples = (
        min(store.get_artifacts_by_type(kind), key=lambda one: one.id).custom_properties
        for kind in ("Transactions", "Examples")
    )
    assert transactions["rows_in"].int_value == rows["read"]
    assert transactions["rows_good"].int_value == examples["rows_in"].int_value
    assert transactions["first_event"].string_value.startswith("2024-01-01T")
    parts = ("warm_up", "train", "immature", "validation", "test")
    assert {name: examples[f"rows_{name}"].int_value for name in parts} == {name: rows[name] for name in parts}


def test_the_report_is_one_page_that_needs_nothing_else(first_run: Answer) -> None:
    page = Path(first_run.fields["report"]).read_text(encoding="utf-8")
    beside = re.findall(r'<a href="([^"]+)"', page)
    assert {address.rpartition("/")[2] for address in beside} == {"index.html", "statistics.html"}
    assert all((Path(first_run.fields["report"]).parent / address).is_file() for address in beside)
    assert "data:image/png;base64," in page
    assert "<script" not in page
    assert 'src="http' not in page


def test_the_same_run_again_runs_nothing(first_run: Answer, site: Site, fraudops: Call) -> None:
    again = fraudops(site.arguments())
    assert again.code == 0
    assert ran(again) == set()
    assert again.fields["model_version"] == first_run.fields["model_version"]
    assert again.fields["metrics"] == first_run.fields["metrics"]


def test_an_edited_log_runs_what_reads_it_again(first_run: Answer, site: Site, fraudops: Call) -> None:
    kept = site.log.read_bytes()
    try:
        changed_copy(site.log, site.log, lambda table: table.slice(1))
        answer = fraudops(site.arguments("--until", "anomalies"))
    finally:
        site.log.write_bytes(kept)
    assert ran(answer) == {"ingest", "examples", "schema", "statistics", "anomalies"}


def test_an_edited_mapping_runs_what_reads_it_again(first_run: Answer, site: Site, fraudops: Call) -> None:
    mapping = site.folder / "simulated.yaml"
    shutil.copy(PROJECT / "schemas" / "sources" / "simulated.yaml", mapping)
    before = fraudops(site.arguments("--until", "schema", source=str(mapping)))
    again = fraudops(site.arguments("--until", "schema", source=str(mapping)))
    mapping.write_text(mapping.read_text(encoding="utf-8") + "\n# edited\n", encoding="utf-8")
    edited = fraudops(site.arguments("--until", "schema", source=str(mapping)))
    reading = {"ingest", "examples", "schema"}
    assert (ran(before), ran(again), ran(edited)) == (reading, set(), reading)


def test_an_edited_preprocessing_function_runs_the_transform_and_what_follows_it(
    first_run: Answer, site: Site, tmp_path: Path
) -> None:
    for package in ("components", "pipelines", "schemas"):
        shutil.copytree(PROJECT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    with open(tmp_path / "components" / "transform.py", "a", encoding="utf-8") as source:
        source.write("\n# edited\n")
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.cli", *site.arguments()],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = Answer(done.returncode, json.loads(done.stdout))
    assert ran(answer) == {
        "transform", "trainer", "baselines", "evaluator", "evidence", "model_gate", "infra", "registration"
    }  # fmt: skip


def test_amounts_in_another_unit_are_stopped_by_name(first_run: Answer, site: Site, fraudops: Call) -> None:
    log = changed_copy(site.log, site.folder / "times_hundred.parquet", times_hundred)
    answer = fraudops(site.arguments(log=log))
    assert answer.code == 1
    assert answer.fields["status"] == "gate_failed"
    assert answer.fields["model_version"] is None
    behind_the_gate = (
        "transform", "trainer", "baselines", "evaluator", "evidence", "model_gate", "infra", "registration"
    )  # fmt: skip
    assert {name: answer.fields["steps"][name] for name in behind_the_gate} == dict.fromkeys(behind_the_gate, "skipped")
    stops = [reason for reason in answer.fields["gate"]["reasons"] if reason["severity"] == "stop"]
    assert any("median amount" in reason["message"] and "unit" in reason["message"] for reason in stops)
    run = registry(site).get_run(answer.fields["mlflow_run"])
    assert run.data.tags["gate"] == "failed"
    assert {name: int(run.data.params[f"rows.{name}"]) for name in answer.fields["rows"]} == answer.fields["rows"]


@pytest.mark.slow
def test_a_person_lets_training_go_on_and_that_is_recorded_everywhere(
    first_run: Answer, site: Site, fraudops: Call
) -> None:
    from components.registry.versions import show_version
    from schemas.acceptance import from_tags

    log = changed_copy(site.log, site.folder / "accepted.parquet", times_hundred)
    stopped = fraudops(site.arguments(log=log))
    assert stopped.code == 1
    checks = {reason["check"] for reason in stopped.fields["gate"]["reasons"] if reason["severity"] == "stop"}
    accept = [part for check in checks for part in ("--accept", f"{check}=prices are a hundredfold")]
    answer = fraudops(site.arguments(*accept, "--by", "m.keller", "--accept", "ingest=no need", log=log))
    assert answer.code == 0, answer.fields
    stops = [reason for reason in answer.fields["gate"]["reasons"] if reason["severity"] == "stop"]
    assert {reason["accepted"]["by"] for reason in stops} == {"m.keller"}
    [unused] = [reason for reason in answer.fields["gate"]["reasons"] if reason["check"] == "acceptance"]
    assert (unused["severity"], unused["subject"]) == ("warn", "ingest")
    version = show_version(registry(site), answer.fields["model_version"])
    assert version.gate == "passed"
    assert {one.check for one in from_tags(version.tags)} == checks
    assert "prices are a hundredfold" in version.description
    assert "Accepted by people" in Path(answer.fields["report"]).read_text(encoding="utf-8")
    again = fraudops(site.arguments(*accept, "--by", "m.keller", "--accept", "ingest=no need", log=log))
    assert (ran(again), again.fields["model_version"]) == (set(), answer.fields["model_version"])
    assert again.fields["gate"] == answer.fields["gate"]


def test_a_renamed_column_is_stopped_by_name(site: Site, fraudops: Call) -> None:
    def rename(table):
        return table.rename_columns(["merchant" if name == "merchant_id" else name for name in table.column_names])

    log = changed_copy(site.log, site.folder / "renamed.parquet", rename)
    answer = fraudops(site.arguments(log=log))
    assert answer.code == 1
    assert answer.fields["model_version"] is None
    assert answer.fields["steps"]["examples"] == "skipped"
    [stop] = answer.fields["gate"]["reasons"]
    assert "merchant_id" in stop["message"]
    assert "merchant" in stop["message"]


def test_a_log_that_is_no_log_is_bad_input_and_registers_nothing(site: Site, fraudops: Call) -> None:
    (site.folder / "empty.parquet").write_bytes(b"")
    answer = fraudops(site.arguments(log=site.folder / "empty.parquet"))
    assert answer.code == 2
    assert "empty.parquet" in answer.fields["error"]["message"]


def test_an_unknown_setting_is_refused_before_anything_runs(site: Site, fraudops: Call, tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text("training: {epoch: 3}\n", encoding="utf-8")
    arguments = site.arguments()
    arguments[arguments.index("--config") + 1] = str(settings)
    answer = fraudops(arguments)
    assert answer.code == 2
    assert "epoch" in answer.fields["error"]["message"]


@pytest.fixture
def champion_one(first_run: Answer, site: Site):
    """Version 1 as the champion, as the rollout controller would leave it."""
    from components.registry.client import connect
    from pipelines.workspace import Workspace
    from schemas.versions import MODEL_NAME

    client = connect(Workspace.at(site.workspace).tracking_uri)
    client.set_registered_model_alias(MODEL_NAME, CHAMPION, "1")
    yield
    client.delete_registered_model_alias(MODEL_NAME, CHAMPION)


def test_a_new_champion_judges_the_model_again_and_trains_none(
    champion_one: None, first_run: Answer, site: Site, fraudops: Call
) -> None:
    answer = fraudops(site.arguments())
    assert answer.code == 0, answer.fields
    assert "baseline" not in {reason["subject"] for reason in answer.fields["gate"]["reasons"]}
    assert ran(answer) == {"drift", "gate", "evaluator", "evidence", "model_gate", "registration"}


def test_a_worse_model_is_refused_against_the_champion(
    champion_one: None, site: Site, fraudops: Call, tmp_path: Path
) -> None:
    worse = {**SETTINGS, "training": {"epochs": 1, "batch_size": 256, "learning_rate": 1e-7}}
    worse["evaluation"] = {"min_average_precision": 0.0}
    settings = tmp_path / "worse.yaml"
    settings.write_text(yaml.safe_dump(worse), encoding="utf-8")
    arguments = site.arguments()
    arguments[arguments.index("--config") + 1] = str(settings)
    answer = fraudops(arguments)
    assert answer.code == 1
    assert answer.fields["model_version"] is None
    assert answer.fields["steps"]["registration"] == "skipped"
    stops = [reason for reason in answer.fields["gate"]["reasons"] if reason["severity"] == "stop"]
    assert [reason["check"] for reason in stops] == ["evaluation"]
    assert "champion" in stops[0]["message"]
    # The log is the champion's own, so that drift was measured and found none.
    assert "baseline" not in {reason["subject"] for reason in answer.fields["gate"]["reasons"]}


def test_a_model_beyond_its_bounds_is_not_registered_until_somebody_accepts_it(
    first_run: Answer, site: Site, fraudops: Call, tmp_path: Path
) -> None:
    settings = tmp_path / "strict.yaml"
    settings.write_text(yaml.safe_dump({**SETTINGS, "model_gate": {"max_size_mib": 0.001}}), encoding="utf-8")
    arguments = site.arguments()
    arguments[arguments.index("--config") + 1] = str(settings)
    stopped = fraudops(arguments)
    assert (stopped.code, stopped.fields["model_version"]) == (1, None)
    assert ran(stopped) == {"model_gate"}
    [stop] = [reason for reason in stopped.fields["gate"]["reasons"] if reason["severity"] == "stop"]
    assert (stop["check"], stop["subject"]) == ("model", "size")
    accepted = fraudops([*arguments, "--accept", "model:size=the disks are large", "--by", "m.keller"])
    assert accepted.code == 0, accepted.fields
    assert ran(accepted) == {"model_gate", "registration"}


def test_a_model_that_is_not_served_as_it_was_trained_is_not_registered(
    first_run: Answer, site: Site, fraudops: Call, tmp_path: Path
) -> None:
    settings = tmp_path / "exact.yaml"
    # Finer than float32.
    settings.write_text(yaml.safe_dump({**SETTINGS, "infra": {"tolerance": 1e-12}}), encoding="utf-8")
    arguments = site.arguments()
    arguments[arguments.index("--config") + 1] = str(settings)
    stopped = fraudops(arguments)
    assert (stopped.code, stopped.fields["model_version"]) == (1, None)
    assert ran(stopped) == {"infra"}
    stops = [reason for reason in stopped.fields["gate"]["reasons"] if reason["severity"] == "stop"]
    assert {(stop["check"], stop["subject"]) for stop in stops} >= {("infra", "score_packed")}
    assert stopped.fields["steps"]["registration"] == "skipped"
