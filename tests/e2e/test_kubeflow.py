"""The compiled Kubeflow pipeline run on this machine, container by container, beside `fraudops run` on the same log."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest
import yaml

from tests import kubeflow
from tests.e2e.conftest import SETTINGS, Answer, Site, changed_copy

Call = Callable[[list[str]], Answer]
pytestmark = pytest.mark.slow

SPAN = "2026-03-01"
JOB = "0b1c9d4e-5f60-4a7b-8c9d-0e1f2a3b4c5d"


@dataclass(frozen=True)
class Ran:
    """What became of each task, and what each container's process said."""

    states: dict[str, kubeflow.State]
    said: dict[str, str]


def run_compiled(fraudops: Call, definition: Path) -> Ran:
    """Compiles a definition for Kubeflow, and runs every container's command with its arguments as a process."""
    compiled = definition.parent / "kubeflow.yaml"
    answer = fraudops(["compile", "kubeflow", "--pipeline", str(definition), "--out", str(compiled), "--json"])
    assert answer.code == 0, answer.fields
    spec, _ = kubeflow.load(compiled)
    said: dict[str, str] = {}
    # What an image has on its path: the project's own command.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])

    def execute(container: kubeflow.Container) -> int:
        with subprocess.Popen(
            container.command,
            env={**os.environ, "PATH": path},
            cwd=definition.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                said[container.task], _ = process.communicate()
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
            return process.returncode

    states = kubeflow.Interpreter(spec, JOB, definition.parent / "kubeflow", execute).run({"span": SPAN})
    return Ran(states, said)


def define(folder: Path, log: Path) -> Path:
    """A definition whose log of one day is a copy of `log`, in a folder of its own."""
    shutil.copy(log, folder / f"log-{SPAN}.parquet")
    definition = folder / "pipeline.yaml"
    definition.write_text(
        yaml.safe_dump(
            {
                "name": "fraud-daily",
                "source": "simulated",
                "log": "log-{SPAN}.parquet",
                "workspace": "workspace",
                "config": SETTINGS,
                "cluster": {"image": "fraudops-pipeline:test", "volume": {"claim": "data", "mount_path": str(folder)}},
            }
        ),
        encoding="utf-8",
    )
    return definition


def test_the_containers_come_to_the_digests_of_a_local_run(
    first_run: Answer, site: Site, fraudops: Call, tmp_path: Path
) -> None:
    ran = run_compiled(fraudops, define(tmp_path, site.log))
    assert set(ran.states.values()) == {"succeeded"}, ran.said
    # Kubeflow Pipelines names tasks without underscores.
    assert {name.replace("_", "-") for name in (*first_run.fields["steps"], "report")} <= ran.states.keys()

    def digests(workspace: Path) -> dict[str, str]:
        found: dict[str, str] = fraudops(["models", "show", "1", "--workspace", str(workspace), "--json"]).fields[
            "digests"
        ]
        return found

    assert digests(tmp_path / "workspace") == digests(site.workspace)
    [page] = (tmp_path / "workspace" / "reports").glob("*.html")
    assert "data:image/png;base64," in page.read_text(encoding="utf-8")


def test_behind_a_gate_that_says_no_only_the_report_runs(site: Site, fraudops: Call, tmp_path: Path) -> None:
    def rename(table: pa.Table) -> pa.Table:
        return table.rename_columns(["merchant" if name == "merchant_id" else name for name in table.column_names])

    renamed = changed_copy(site.log, tmp_path / "renamed.parquet", rename)
    ran = run_compiled(fraudops, define(tmp_path, renamed))
    # Containers have said something, groups of tasks have not.
    assert set(ran.said) == {"ingest", "report"}, ran.said
    assert {ran.states[name] for name in ran.said} == {"succeeded"}, ran.said
    assert ran.states["registration"] == "skipped"
    assert "merchant_id" in ran.said["report"]
    assert len(list((tmp_path / "workspace" / "reports").glob("*.html"))) == 1
    listed = fraudops(["models", "list", "--workspace", str(tmp_path / "workspace"), "--json"])
    assert listed.fields["versions"] == []
