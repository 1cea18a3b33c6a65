"""A run that goes node by node is the run that goes at once: the same results, and no harm from a death in between."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml

from schemas.digests import directory_digest
from tests.databases import server
from tests.e2e.conftest import SETTINGS, Answer, Site, changed_copy

Call = Callable[[list[str]], Answer]
PROJECT = Path(__file__).parents[2]
BOUND_S = 1_200
NODES = (
    "ingest", "examples", "schema", "statistics", "anomalies", "expectations", "champion", "drift", "gate", "transform",
    "trainer", "baselines", "evidence", "evaluator", "model_gate", "infra",
    "registration",
)  # fmt: skip
SPAN, DAYS = "2024-02-19", 50
# Runs a node in which writing a table leaves half of it, and another file, and then the process is killed.
DYING = """
import os, signal, sys
import pyarrow.parquet as pq

def dying(table, path, **settings):
    path.write_bytes(b"half")
    (path.parent / "left-over.parquet").write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)

pq.write_table = dying
from pipelines.cli import main
main(sys.argv[1:])
"""


@dataclass(frozen=True)
class Scheduled:
    """A definition in a folder of its own, and how to call what runs it."""

    folder: Path

    @property
    def definition(self) -> Path:
        return self.folder / "pipeline.yaml"

    @property
    def workspace(self) -> Path:
        return self.folder / "workspace"

    def define(self, log: str, **more: Any) -> None:
        settings = {"name": "nightly", "source": "simulated", "log": log, "workspace": "workspace", "config": SETTINGS}
        self.definition.write_text(yaml.safe_dump(settings | more), encoding="utf-8")

    def node(self, name: str, run_id: str = "r1", *more: str) -> list[str]:
        run = ["--pipeline", str(self.definition), "--run-id", run_id, *more]
        return ["node", "run", "--node", name, *run, "--json"]

    def report(self, run_id: str = "r1", *more: str) -> list[str]:
        return ["report", "--pipeline", str(self.definition), "--run-id", run_id, *more, "--json"]

    def output(self, node: str, name: str) -> Path:
        """The folder of the one artifact that a node has written under a name."""
        [found] = (self.workspace / "pipelines" / "fraud-simulated" / node / name).iterdir()
        return found


@pytest.fixture
def scheduled(tmp_path: Path) -> Scheduled:
    return Scheduled(tmp_path)


@pytest.fixture(scope="session")
def by_node(site: Site, first_run: Answer, tmp_path_factory: pytest.TempPathFactory) -> Scheduled:
    """The log of `first_run`, a file a day, taken through every node; the results of the nodes are beside it."""
    made = Scheduled(tmp_path_factory.mktemp("scheduled"))
    by_day(site.log, made.folder / "logs")
    made.define("logs/{SPAN}.parquet", rolling_days=DAYS)
    results = {name: called(made.node(name, "r1", "--span", SPAN)) for name in NODES}
    (made.folder / "results.json").write_text(json.dumps(results), encoding="utf-8")
    return made


def by_day(log: Path, folder: Path) -> None:
    """A file a day, and one of a day that no run is about."""
    folder.mkdir()
    table = pq.read_table(log)
    days = pc.strftime(table["event_time"], "%Y-%m-%d")
    for day in pc.unique(days).to_pylist():
        pq.write_table(table.filter(pc.equal(days, day)), folder / f"{day}.parquet")
    pq.write_table(table.slice(0, 1), folder / "2024-02-20.parquet")


def called(arguments: list[str]) -> dict[str, Any]:
    """What a command answers, in this process; it must not fail."""
    import contextlib
    import io

    from pipelines.cli import main

    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = main(arguments)
    fields: dict[str, Any] = json.loads(out.getvalue())
    assert code == 0, fields
    return fields


def registered(workspace: Path) -> dict[str, Any]:
    """The first version in a workspace's registry; other tests may have made more."""
    versions: list[dict[str, Any]] = called(["models", "list", "--workspace", str(workspace), "--json"])["versions"]
    return next(one for one in versions if one["version"] == 1)


def lineage(workspace: Path) -> set[tuple[str, str, str, str]]:
    """Of the run in a workspace: node, whether it took or gave, under which name, and an artifact of which type."""
    from ml_metadata import MetadataStore
    from ml_metadata.proto import metadata_store_pb2

    config = metadata_store_pb2.ConnectionConfig()
    config.sqlite.filename_uri = str(workspace / "metadata.sqlite")
    store = MetadataStore(config)
    found: set[tuple[str, str, str, str]] = set()
    for execution in store.get_executions():
        [node] = [c for c in store.get_contexts_by_execution(execution.id) if c.type == "node"]
        for event in store.get_events_by_execution_ids([execution.id]):
            [artifact] = store.get_artifacts_by_id([event.artifact_id])
            # An artifact that is taken under two names has them one after the other.
            found.update((node.name, str(event.type), step.key, artifact.type) for step in event.path.steps if step.key)
    return found


def test_the_registered_digests_and_the_results_are_those_of_a_run_at_once(
    by_node: Scheduled, first_run: Answer, site: Site
) -> None:
    theirs, ours = registered(site.workspace), registered(by_node.workspace)
    assert ours["digests"] == theirs["digests"]
    assert set(ours["digests"]) == {"saved_model", "evaluation", "schema"}
    whole = called(by_node.report("r1", "--span", SPAN))
    assert whole["metrics"] == first_run.fields["metrics"]
    assert whole["rows"] == first_run.fields["rows"]
    assert whole["steps"] == first_run.fields["steps"]
    assert (whole["status"], whole["model_version"]) == ("passed", 1)
    assert Path(whole["report"]).is_file()


def test_the_lineage_is_that_of_a_run_at_once(by_node: Scheduled, first_run: Answer, site: Site) -> None:
    # Other tests have run more in the other workspace, of which the first run is a part.
    ours = lineage(by_node.workspace)
    assert ours <= lineage(site.workspace)
    # Without a champion its resolver gives nothing.
    assert {node.rpartition(".")[2] for node, _, _, _ in ours} == set(NODES) - {"champion"}
    assert not [key for _, _, key, _ in ours if key.startswith("_")], "a condition is no input"


def test_gates_say_what_they_found_and_the_others_say_nothing(by_node: Scheduled) -> None:
    results = json.loads((by_node.folder / "results.json").read_text(encoding="utf-8"))
    assert {name: one["passed"] for name, one in results.items() if one["passed"] is not None} == {
        "ingest": True,
        "gate": True,
        "evaluator": True,
        "model_gate": True,
        "infra": True,
    }
    assert [reason["subject"] for reason in results["gate"]["reasons"]] == ["baseline"]
    assert results["registration"]["model_version"] == 1


def test_a_node_that_is_run_again_keeps_its_result(by_node: Scheduled) -> None:
    def state() -> tuple[str, list[Path]]:
        return directory_digest(by_node.output("examples", "examples")), sorted(by_node.workspace.rglob("*.parquet"))

    before = state()
    for name in ("ingest", "examples", "champion", "registration"):
        again = called(by_node.node(name, "r1", "--span", SPAN))
        assert again["state"] == "ran"
    assert state() == before
    assert registered(by_node.workspace)["version"] == 1


def test_a_second_run_of_the_same_days_finds_the_results_of_the_first(by_node: Scheduled) -> None:
    states = {name: called(by_node.node(name, "r2", "--span", SPAN))["state"] for name in ("ingest", "examples")}
    assert states == {"ingest": "cached", "examples": "cached"}


def test_a_run_stays_with_what_it_was_begun_with(by_node: Scheduled, fraudops: Call) -> None:
    for more, name in ((["--span", "2024-02-18"], "span"), (["--span", SPAN, "--log", "other/{SPAN}.csv"], "log")):
        answer = fraudops(by_node.node("schema", "r1", *more))
        assert answer.code == 2
        assert f"was begun with {'the ' if name == 'log' else ''}{name}" in answer.fields["error"]["message"]


def test_a_node_before_its_turn_is_refused(site: Site, scheduled: Scheduled, fraudops: Call) -> None:
    scheduled.define(str(site.log))
    assert fraudops(scheduled.node("ingest")).code == 0
    answer = fraudops(scheduled.node("statistics"))
    assert answer.code == 2
    assert "needs examples, which has no result yet" in answer.fields["error"]["message"]
    answer = fraudops(scheduled.node("nothing"))
    assert (answer.code, "no node 'nothing'" in answer.fields["error"]["message"]) == (2, True)


def test_days_that_are_missing_are_named(site: Site, scheduled: Scheduled, fraudops: Call) -> None:
    by_day(site.log, scheduled.folder / "logs")
    scheduled.define("logs/{SPAN}.parquet", rolling_days=DAYS + 1)
    answer = fraudops(scheduled.node("ingest", "r1", "--span", SPAN))
    assert answer.code == 2
    assert "1 are not there" in answer.fields["error"]["message"]
    assert "2023-12-31.parquet" in answer.fields["error"]["message"]
    assert fraudops(scheduled.node("ingest")).code == 2  # no span says which day
    assert fraudops(scheduled.node("ingest", "a/../b", "--span", SPAN)).code == 2
    assert not list(scheduled.workspace.glob("runs/*/*"))


def test_behind_a_gate_that_says_no_nodes_are_skipped_and_the_report_says_why(
    site: Site, scheduled: Scheduled, fraudops: Call, tmp_path: Path
) -> None:
    renamed = changed_copy(site.log, tmp_path / "log.parquet", lambda table: _renamed(table, "amount_minor", "amount"))
    scheduled.define(str(renamed))
    passed, result = tmp_path / "passed", tmp_path / "result.json"
    answer = fraudops([*scheduled.node("ingest"), "--passed-file", str(passed), "--result-file", str(result)])
    assert (answer.code, answer.fields["passed"], passed.read_text()) == (0, False, "false")
    assert "amount_minor" in answer.fields["reasons"][0]["message"]
    assert json.loads(result.read_text())["reasons"] == answer.fields["reasons"]
    for name in ("examples", "registration"):
        assert fraudops(scheduled.node(name)).fields["state"] == "skipped"
    skipped_gate = fraudops(scheduled.node("gate"))
    assert (skipped_gate.fields["state"], skipped_gate.fields["passed"]) == ("skipped", False)
    whole = fraudops(scheduled.report())
    assert (whole.code, whole.fields["status"]) == (0, "gate_failed")
    assert whole.fields["gate"]["reasons"] == answer.fields["reasons"]


def test_what_a_definition_accepts_lets_a_new_run_pass_and_no_run_that_was_begun_before(
    site: Site, scheduled: Scheduled, fraudops: Call, tmp_path: Path
) -> None:
    twice = changed_copy(site.log, tmp_path / "log.parquet", lambda table: pa.concat_tables([table, table]))
    scheduled.define(str(twice))
    assert fraudops(scheduled.node("ingest", "r1")).fields["passed"] is False
    accepted = {"check": "ingest", "subject": "rows", "reason": "the export ran twice", "by": "m.keller"}
    scheduled.define(str(twice), config=SETTINGS | {"accept": [accepted]})
    answer = fraudops(scheduled.node("ingest", "r2"))
    assert answer.fields["passed"] is True
    [reason] = answer.fields["reasons"]
    assert (reason["severity"], reason["accepted"] | accepted) == ("stop", reason["accepted"])
    assert fraudops(scheduled.node("ingest", "r1")).fields["passed"] is False


def test_a_node_that_is_killed_leaves_nothing_to_its_retry(
    by_node: Scheduled, scheduled: Scheduled, fraudops: Call
) -> None:
    scheduled.define(str(by_node.folder / "logs" / "{SPAN}.parquet"), rolling_days=DAYS)
    arguments = scheduled.node("ingest", "r1", "--span", SPAN)
    assert after_kill(scheduled, arguments) == {"half"}
    # Who comes next does not take it for a result.
    answer = fraudops(scheduled.node("schema", "r1", "--span", SPAN))
    assert "needs ingest" in answer.fields["error"]["message"]
    retried = fraudops(arguments)
    assert (retried.code, retried.fields["state"], retried.fields["passed"]) == (0, "ran", True)
    whole = directory_digest(by_node.output("ingest", "transactions"))
    assert directory_digest(scheduled.output("ingest", "transactions")) == whole


@pytest.mark.slow
def test_processes_side_by_side_over_a_metadata_server_end_in_the_same_digests(
    site: Site, first_run: Answer, by_node: Scheduled, scheduled: Scheduled, fraudops: Call
) -> None:
    with server("postgresql", "mlmd") as metadata:
        scheduled.define(str(site.log), metadata=metadata.url, metadata_password_file=str(metadata.password_file))
        assert after_kill(scheduled, scheduled.node("ingest")) == {"half"}
        assert side_by_side(scheduled, fraudops) == dict.fromkeys(NODES, "ran")
        whole = called(scheduled.report())
        assert whole["metrics"] == first_run.fields["metrics"]
        secret = metadata.password_file.read_text(encoding="utf-8").strip()
        kept = [path for path in scheduled.folder.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
        assert kept == []
    assert registered(scheduled.workspace)["digests"] == registered(site.workspace)["digests"]
    assert not (scheduled.workspace / "metadata.sqlite").exists()


def after_kill(scheduled: Scheduled, ingest: list[str]) -> set[str]:
    """Kills the first node in its middle, and gives what is in the files that it has left behind."""
    died = subprocess.run([sys.executable, "-c", DYING, *ingest], cwd=PROJECT, capture_output=True, timeout=BOUND_S)
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()
    return {file.read_text() for file in scheduled.output("ingest", "transactions").iterdir()}


def side_by_side(scheduled: Scheduled, fraudops: Call) -> dict[str, str]:
    """Runs every node as a process of its own, as soon as those before it are done; gives their states."""
    out = scheduled.folder / "manifest.json"
    assert (
        fraudops(["compile", "airflow", "--pipeline", str(scheduled.definition), "--out", str(out), "--json"]).code == 0
    )
    waiting = {node["id"]: set(node["upstream"]) for node in json.loads(out.read_text(encoding="utf-8"))["nodes"]}
    states: dict[str, str] = {}
    running: dict[Future[str], str] = {}
    with ThreadPoolExecutor(3) as pool:
        while waiting or running:
            for name in [name for name, upstream in waiting.items() if upstream <= states.keys()]:
                del waiting[name]
                running[pool.submit(in_process, scheduled.node(name))] = name
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            states |= {running.pop(one): one.result() for one in done}
    return states


def in_process(arguments: list[str]) -> str:
    command = [sys.executable, "-m", "pipelines.cli", *arguments]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=BOUND_S, env=environment)
    assert done.returncode == 0, done.stderr
    return str(json.loads(done.stdout)["state"])


def _renamed(table: pa.Table, old: str, new: str) -> pa.Table:
    return table.rename_columns([new if name == old else name for name in table.column_names])
