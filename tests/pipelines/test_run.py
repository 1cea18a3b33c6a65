"""How a run ends that a gate has stopped: its verdict is on the page, in the answer, and in MLflow if that answers."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from components.gate import Reason, decide
from components.registry.client import connect
from components.steps.artifacts import Transactions
from components.steps.verdicts import write_file
from pipelines.config import RunConfig
from pipelines.run import conclude
from pipelines.runner import Step
from pipelines.services import Services
from pipelines.training import TrainingRun
from pipelines.workspace import Workspace
from schemas import sources

STOP = Reason("ingest", "stop", "rows", "half of the rows are bad")
READ = {"read": 10, "good": 5, "dead": 4, "duplicate": 1}
AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def run(tmp_path: Path) -> TrainingRun:
    workspace = Workspace.at(tmp_path / "workspace")
    log, mapping = tmp_path / "log.parquet", sources.load("simulated")
    return TrainingRun("simulated", mapping, log, "d", workspace, Services.embedded(workspace), RunConfig())


@pytest.fixture
def steps(tmp_path: Path) -> dict[str, Step]:
    """What ingest leaves when it stops a run."""
    write_file(tmp_path / "verdict", decide([STOP]))
    (tmp_path / "transactions").mkdir()
    events = {"first_event": "2026-01-01T00:00:00Z", "last_event": "2026-02-28T23:00:00Z"}
    (tmp_path / "transactions" / Transactions.REPORT).write_text(json.dumps(READ | events))
    outputs = {name: tmp_path / name for name in ("verdict", "transactions")}
    return {
        "ingest": Step("ingest", "ran", 1.0, outputs, {}),
        "examples": Step("examples", "skipped", 0.0, {}, {}),
        "registration": Step("registration", "skipped", 0.0, {}, {}),
    }


def test_the_verdict_of_a_stopped_run_is_in_mlflow_once_however_often_it_is_reported(
    run: TrainingRun, steps: dict[str, Step]
) -> None:
    first, second = (conclude(run, "fraud-simulated.r1", steps, AT, 1.0) for _ in range(2))
    assert (first.status, first.reasons, first.rows, first.unrecorded) == ("gate_failed", (STOP,), READ, "")
    assert first.mlflow_run is not None and second.mlflow_run == first.mlflow_run
    kept = connect(run.services.tracking_uri).get_run(first.mlflow_run)
    assert kept.info.run_name == "simulated 2026-02-28 stopped"
    assert kept.data.tags["data.span"] == "2026-01-01 to 2026-02-28"
    assert "half of the rows are bad" in first.report.read_text(encoding="utf-8")


def test_an_mlflow_that_is_away_hides_no_verdict(
    run: TrainingRun, steps: dict[str, Step], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    away = replace(run, services=replace(run.services, tracking_uri="http://127.0.0.1:9"))
    outcome = conclude(away, "fraud-simulated.r1", steps, AT, 1.0)
    assert (outcome.status, outcome.reasons, outcome.mlflow_run) == ("gate_failed", (STOP,), None)
    assert "not in MLflow: recording the verdict of run fraud-simulated.r1" in outcome.unrecorded
    assert "half of the rows are bad" in outcome.report.read_text(encoding="utf-8")
    assert outcome.fields()["unrecorded"] == outcome.unrecorded
