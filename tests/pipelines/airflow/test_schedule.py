"""A real Airflow takes days' logs through the pipeline: by itself, by backfill, over a failure, and into a refusal."""

from __future__ import annotations

import json
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from tests.pipelines.airflow.manifests import GATES, NODES, manifest
from tests.pipelines.airflow.scheduler import Run, deploy, eventually, running_airflow

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3_600)]

# For all that is asked of Airflow at once, on a machine that is five times slower.
BOUND_S = 1_500
NODE_IDS = [node for node, _, _ in NODES]
# Until midnight the day before this one is the newest whole day.
TODAY = datetime.now(UTC).date()
BROKEN = TODAY - timedelta(days=1)
PAST = (TODAY - timedelta(days=3), TODAY - timedelta(days=2))


def stand_in(folder: Path) -> Path:
    """A command `fraudops` in a folder of its own."""
    folder.mkdir()
    command = folder / "fraudops"
    shutil.copy(Path(__file__).with_name("stand_in.py"), folder)
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{folder / "stand_in.py"}" "$@"\n')
    command.chmod(0o755)
    return folder


def decide(workspace: Path, version: int, approval: str, reason: str) -> None:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    fields = {"approval": approval, "approval_by": "ann", "approval_reason": reason, "approval_time": now}
    fresh = workspace / "versions" / ".fresh"
    fresh.write_text(json.dumps({"version": version, **fields}))
    fresh.replace(workspace / "versions" / f"{version}.json")


def of_day(day: date) -> Callable[[Run], bool]:
    return lambda run: run.day == day.isoformat()


def test_days_are_scheduled_backfilled_tried_again_and_refused(tmp_path: Path) -> None:
    workspace = tmp_path / "workspace"
    for folder in ("broken", "fail_once", "versions"):
        (workspace / folder).mkdir(parents=True)
    for day in (BROKEN, TODAY):
        (workspace / "broken" / day.isoformat()).touch()
    (workspace / "fail_once" / "statistics").touch()
    (workspace / "history.json").write_text('{"events": []}')
    path = tmp_path / "fraud.json"
    path.write_text(json.dumps(manifest(workspace / "fraud.yaml", start=PAST[0])))
    deploy(tmp_path / "dags", path)

    with running_airflow(tmp_path / "airflow", tmp_path / "dags", stand_in(tmp_path / "bin")) as airflow:
        for dag in ("fraud-promotion", "fraud-training"):
            airflow.start(dag, BOUND_S)
        airflow.backfill("fraud-training", *PAST)
        first, second = (airflow.ended("fraud-training", of_day(day), BOUND_S) for day in PAST)

        passed = {**dict.fromkeys([*NODE_IDS, "report", "promotion"], "success")}
        for gate in GATES:
            passed |= {f"{gate}_verdict": "success", f"{gate}_failed": "skipped"}
        assert (airflow.states(first), first.state) == (passed, "success")
        assert (airflow.states(second), second.state) == (passed, "success")
        tries = Counter(airflow.tries(run, "statistics") for run in (first, second))
        assert tries == {1: 1, 2: 1}

        # Each run is about its day, under one id, and no node of it ran twice.
        calls = [json.loads(line) for line in (workspace / "calls.jsonl").read_text().splitlines()]
        for day in PAST:
            of_that_day = [one for one in calls if one["span"] == day.isoformat()]
            assert sorted(one["node"] for one in of_that_day) == sorted(NODE_IDS)
            assert len({one["run_id"] for one in of_that_day}) == 1

        refused = airflow.ended("fraud-training", of_day(BROKEN), BOUND_S)
        states = airflow.states(refused)
        ran = {task for task, state in states.items() if state == "success"}
        assert (ran, refused.state) == ({"ingest", "ingest_verdict", "ingest_failed", "report"}, "success")
        assert set(states.values()) == {"success", "skipped"}
        assert "stop: ingest: the log lacks merchant_id" in airflow.last_log(refused, "ingest_failed")

        # Of two registered versions one is rejected; the other is approved, and then rolled back.
        decide(workspace, 1, "rejected", "finds too little")
        decide(workspace, 2, "approved", "finds more")
        rejected = airflow.ended("fraud-promotion", lambda run: run.id == "version-1", BOUND_S)
        assert (rejected.state, airflow.states(rejected)["rollout"]) == ("failed", "upstream_failed")
        assert "version 1 is rejected, by ann: finds too little" in airflow.last_log(rejected, "approval")

        approved = Run("fraud-promotion", "version-2", "running", None)
        eventually(lambda: airflow.states(approved)["rollout"] == "up_for_reschedule", BOUND_S, lambda: "no look yet")
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        event = {"time": now, "version": 2, "state": "rolled_back", "reason": "blocks too much"}
        (workspace / "history.json").write_text(json.dumps({"events": [event]}))
        ended = airflow.ended("fraud-promotion", lambda run: run.id == "version-2", BOUND_S)
        assert (ended.state, airflow.states(ended)["approval"]) == ("failed", "success")
        assert "version 2 is rolled_back: blocks too much" in airflow.last_log(ended, "rollout")
