"""A run that is killed leaves nothing that the next one would take for finished."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.e2e.conftest import Site
from tests.e2e.test_training_pipeline import Call, ran


@pytest.mark.slow
@pytest.mark.parametrize("step", ["examples", "trainer", "registration"])
def test_a_run_killed_in_a_step_is_finished_by_the_next_from_that_step_on(
    site: Site, fraudops: Call, tmp_path: Path, step: str
) -> None:
    for name in ("log.parquet", "settings.yaml"):
        (tmp_path / name).write_bytes((site.folder / name).read_bytes())
    here = replace(site, folder=tmp_path)
    command = [sys.executable, "-m", "pipelines.cli", *here.arguments()]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as run:
        assert run.stderr is not None
        lines = iter(run.stderr.readline, "")
        assert any(line.split()[-1:] == [step] for line in lines), f"step {step} never began"
        run.kill()
    again = fraudops(here.arguments())
    assert again.code == 0, again.fields
    assert again.fields["model_version"] == 1
    assert step in ran(again)
    before = list(again.fields["steps"])[: list(again.fields["steps"]).index(step)]
    assert ran(again).isdisjoint(before)
    listed = fraudops(["models", "list", "--workspace", str(here.workspace), "--json"])
    assert [version["version"] for version in listed.fields["versions"]] == [1]


@pytest.mark.slow
def test_what_a_killed_training_has_reached_is_kept_until_the_next_run_is_done_with_it(
    site: Site, fraudops: Call, tmp_path: Path
) -> None:
    for name in ("log.parquet", "settings.yaml"):
        (tmp_path / name).write_bytes((site.folder / name).read_bytes())
    here = replace(site, folder=tmp_path)
    checkpoint = here.workspace / "pipelines" / "fraud-simulated" / "trainer" / ".checkpoint" / "epoch.npz"
    command = [sys.executable, "-m", "pipelines.cli", *here.arguments()]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
        try:
            deadline = time.monotonic() + 500
            while not checkpoint.exists():
                assert run.poll() is None, "the run ended without a checkpoint"
                assert time.monotonic() < deadline, "no epoch has ended"
                time.sleep(0.05)
        finally:
            run.kill()
    assert checkpoint.exists()
    again = fraudops(here.arguments())
    assert again.code == 0, again.fields
    assert "trainer" in ran(again)
    assert not checkpoint.parent.exists()
