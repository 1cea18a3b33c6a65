"""Airflow runs the real pipeline, node by node: two past days to a version each, and a broken log into its branch."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml

from components import simulator
from tests.e2e.conftest import SETTINGS
from tests.pipelines.airflow.manifests import NODES
from tests.pipelines.airflow.scheduler import PROJECT, deploy, require_airflow, running_airflow

pytestmark = [pytest.mark.slow, pytest.mark.timeout(10_800)]

# Some thirty nodes, each of which imports TFX, on a machine that is five times slower.
BOUND_S = 9_000
FRAUDOPS = PROJECT / ".venv" / "bin" / "fraudops"
KILLED = "trainer"
ROLLING_DAYS = 50
TODAY = datetime.now(UTC).date()
# The scheduler itself makes a run of the newest whole day, which is one of these at whatever side of midnight.
BROKEN = (TODAY - timedelta(days=1), TODAY)
PAST = (TODAY - timedelta(days=3), TODAY - timedelta(days=2))


def write_days(folder: Path) -> None:
    """A log of a file per day, the last two of which miss a column that all others have."""
    folder.mkdir()
    first = PAST[0] - timedelta(days=ROLLING_DAYS - 1)
    begin = datetime(first.year, first.month, first.day, tzinfo=UTC)
    log = simulator.simulate(cards=400, days=(TODAY - first).days + 1, seed=11, start=begin)
    whole = folder / "whole.parquet"
    simulator.write(log, whole)
    table = pq.read_table(whole)
    whole.unlink()
    days = pc.cast(table["event_time"], pa.date32())
    for day in pc.unique(days).to_pylist():
        of_day = table.filter(pc.equal(days, pa.scalar(day, pa.date32())))
        if day in BROKEN:
            of_day = of_day.rename_columns(["shop" if name == "merchant_id" else name for name in of_day.column_names])
        pq.write_table(of_day, folder / f"{day.isoformat()}.parquet")


def write_definition(path: Path) -> None:
    definition = {
        "name": "fraud",
        "source": "simulated",
        "log": "days/{SPAN}.parquet",
        "rolling_days": ROLLING_DAYS,
        "workspace": "workspace",
        "config": SETTINGS,
        "schedule": {"cron": "0 0 * * *", "start": PAST[0].isoformat()},
        "limits": {"retries": 1, "retry_delay_s": 1, "timeout_s": 3_600},
    }
    path.write_text(yaml.safe_dump(definition))


def killing_once(folder: Path, node: str) -> Path:
    """A folder with a command `fraudops` that is killed at its first try of a node, and else is the real one."""
    folder.mkdir()
    command = folder / "fraudops"
    command.write_text(
        "#!/bin/sh\n"
        f'case "$*" in *"--node {node} "*) mkdir "{folder / "killed"}" 2>/dev/null && kill -9 $$ ;; esac\n'
        f'exec "{FRAUDOPS}" "$@"\n'
    )
    command.chmod(0o755)
    return folder


def fraudops(*arguments: str) -> dict:
    done = subprocess.run([FRAUDOPS, *arguments, "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict = json.loads(done.stdout)
    return found


def test_two_days_end_in_versions_and_a_broken_log_in_its_branch(tmp_path: Path) -> None:
    require_airflow()
    write_days(tmp_path / "days")
    definition = tmp_path / "fraud.yaml"
    write_definition(definition)
    fraudops("compile", "airflow", "--pipeline", str(definition), "--out", str(tmp_path / "fraud.json"))
    deploy(tmp_path / "dags", tmp_path / "fraud.json")
    workspace = tmp_path / "workspace"

    with running_airflow(tmp_path / "airflow", tmp_path / "dags", killing_once(tmp_path / "bin", KILLED)) as airflow:
        airflow.start("fraud-training", BOUND_S)
        airflow.backfill("fraud-training", *PAST)

        def ended(*days: date):
            names = [day.isoformat() for day in days]
            return airflow.ended("fraud-training", lambda run: run.day in names, BOUND_S)

        runs = [ended(day) for day in PAST]
        for run in runs:
            states = airflow.states(run)
            assert run.state == "success", states
            assert {states[node] for node, _, _ in NODES} | {states["report"]} == {"success"}
            assert states["ingest_failed"] == states["gate_failed"] == states["evaluator_failed"] == "skipped"
        assert sorted(airflow.tries(run, KILLED) for run in runs) == [1, 2]

        versions = fraudops("models", "list", "--workspace", str(workspace))["versions"]
        assert {(one["version"], one["gate"], one["approval"]) for one in versions} == {
            (1, "passed", "pending"),
            (2, "passed", "pending"),
        }
        assert {run.id for run in airflow.runs("fraud-promotion")} == {"version-1", "version-2"}

        refused = ended(*BROKEN)
        states = airflow.states(refused)
        assert (refused.state, states["ingest_failed"], states["report"]) == ("success", "success", "success")
        assert states["examples"] == states["registration"] == states["promotion"] == "skipped"
        assert "merchant_id" in airflow.last_log(refused, "ingest_failed")
    assert len(list((workspace / "reports").glob("*.html"))) == 3
