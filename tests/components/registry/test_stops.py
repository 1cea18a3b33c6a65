"""Stopped runs in a real MLflow database: their verdict is there, once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient

from components.gate import Reason, Verdict, decide
from components.registry.client import connect
from components.registry.stops import VERDICT_FILE, StoppedRun, record_stop
from schemas.acceptance import Acceptance, from_tags
from schemas.errors import RegistryError

ACCEPTED = Acceptance("drift", "a new app", "m.keller", at="2026-03-01T12:00:00+00:00")
VERDICT = decide(
    [Reason("schema", "stop", "country", "XX is no country"), Reason("drift", "stop", "channel", "moved")], [ACCEPTED]
)
STOPPED = StoppedRun(
    pipeline_run="fraud-simulated.20260301T120000.000000Z",
    verdict=VERDICT,
    data_span="2026-01-01 to 2026-02-28",
    code_version="0.1.0+abc",
    rows={"read": 100, "dead": 1},
    run_name="simulated 2026-02-28, stopped",
)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> MlflowClient:
    return connect(f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db")


def test_a_stopped_run_is_in_mlflow_with_its_verdict(client: MlflowClient, tmp_path: Path) -> None:
    run_id = record_stop(client, STOPPED, tmp_path.as_uri())
    run = client.get_run(run_id)
    assert (run.info.run_name, run.info.status) == (STOPPED.run_name, "FINISHED")
    assert (run.data.tags["gate"], run.data.tags["mlmd.pipeline_run"]) == ("failed", STOPPED.pipeline_run)
    assert run.data.tags["data.span"] == STOPPED.data_span
    assert from_tags(run.data.tags) == (ACCEPTED,)
    assert run.data.params == {"rows.read": "100", "rows.dead": "1"}
    kept = Path(client.download_artifacts(run_id, VERDICT_FILE, str(tmp_path)))
    assert Verdict.from_json(kept.read_text()) == VERDICT
    assert not json.loads(kept.read_text())["passed"]
    assert not client.search_registered_models()


def test_a_run_that_is_told_twice_is_there_once(client: MlflowClient, tmp_path: Path) -> None:
    stopped = replace(STOPPED, pipeline_run="another", model_name="another")
    assert record_stop(client, stopped, tmp_path.as_uri()) == record_stop(client, stopped, tmp_path.as_uri())
    experiment = client.get_experiment_by_name("another")
    assert experiment is not None
    assert len(client.search_runs([experiment.experiment_id])) == 1


def test_an_mlflow_that_refuses_is_told_with_what_was_tried(client: MlflowClient, tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="recording the verdict of run another"):
        record_stop(client, replace(STOPPED, pipeline_run="another", rows={"x" * 600: 1}), tmp_path.as_uri())
