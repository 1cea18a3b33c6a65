"""A real Airflow for tests: scheduler, DAG processor and API server of `.airflow`, on loopback and in one folder."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

PROJECT = Path(__file__).parents[3]
DAG_FILE = PROJECT / "pipelines" / "airflow" / "dags.py"
LOCK = PROJECT / "infra" / "airflow" / "lock.txt"
ENVIRONMENT = PROJECT / ".airflow"

# For one start, or one answer, on a machine that is five times slower and busy with other things.
START_S = 300


def require_airflow() -> None:
    """Skips where `.airflow` is not there, or was made from another lock."""
    made_from = ENVIRONMENT / LOCK.name
    if not made_from.is_file() or digest(made_from) != digest(LOCK):
        pytest.skip(".airflow is not there, or not made from infra/airflow/lock.txt: make airflow")


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def deploy(folder: Path, *manifests: Path) -> Path:
    """A DAG folder with the DAG file and manifests; returns the DAG file in it."""
    (folder / "manifests").mkdir(parents=True)
    for manifest in manifests:
        shutil.copy(manifest, folder / "manifests")
    return Path(shutil.copy(DAG_FILE, folder / "fraudops.py"))


@dataclass(frozen=True)
class Run:
    """A DAG run as the API tells of it."""

    dag: str
    id: str
    state: str
    day: str | None


@dataclass(frozen=True)
class Airflow:
    """A running Airflow.

    Attributes:
        home: its folder.
        url: of its API server.
        variables: the environment of its processes.
        token: of an administrator.
    """

    home: Path
    url: str
    variables: Mapping[str, str]
    token: str

    def command(self, *arguments: str) -> str:
        """What a command of Airflow's prints."""
        return run_airflow(self.variables, *arguments)

    def get(self, path: str, accept: str = "application/json") -> Any:
        """The answer of the API to one question."""
        return call(f"{self.url}/api/v2/{path}", self.token, accept)

    def start(self, dag: str, within_s: float) -> None:
        """Unpauses a DAG, once Airflow has read it."""

        def is_there() -> bool:
            return any(one["dag_id"] == dag for one in self.get("dags?limit=100")["dags"])

        eventually(is_there, within_s, lambda: str(self.get("importErrors")))
        self.command("dags", "unpause", dag)

    def backfill(self, dag: str, first: date, last: date) -> None:
        """Asks for the runs of all days from the first to the last, one at a time."""
        self.command(
            "backfill", "create", "--dag-id", dag, "--max-active-runs", "1",
            "--from-date", first.isoformat(), "--to-date", last.isoformat(),
        )  # fmt: skip

    def runs(self, dag: str) -> list[Run]:
        return [
            Run(dag, one["dag_run_id"], one["state"], (one["data_interval_start"] or "")[:10] or None)
            for one in self.get(f"dags/{dag}/dagRuns")["dag_runs"]
        ]

    def states(self, run: Run) -> dict[str, str]:
        """What became of each task of a run."""
        return {task: one["state"] for task, one in self.tasks(run).items()}

    def tries(self, run: Run, task: str) -> int:
        return int(self.tasks(run)[task]["try_number"])

    def tasks(self, run: Run) -> dict[str, Any]:
        found = self.get(f"dags/{run.dag}/dagRuns/{quote(run.id)}/taskInstances")
        return {one["task_id"]: one for one in found["task_instances"]}

    def last_log(self, run: Run, task: str) -> str:
        """What the last try of a task logged."""
        attempt = self.tries(run, task)
        path = f"dags/{run.dag}/dagRuns/{quote(run.id)}/taskInstances/{task}/logs/{attempt}?full_content=true"
        return json.dumps(self.get(path), ensure_ascii=False)

    def ended(self, dag: str, wanted: Callable[[Run], bool], within_s: float) -> Run:
        """The run that is wanted, once it has ended."""

        def found() -> Run | None:
            return next((run for run in self.runs(dag) if wanted(run) and run.state in ("success", "failed")), None)

        return eventually(found, within_s, lambda: f"{dag}: {[(run, self.states(run)) for run in self.runs(dag)]}")


@contextlib.contextmanager
def running_airflow(home: Path, dags: Path, commands: Path) -> Iterator[Airflow]:
    """Starts Airflow on a DAG folder; `commands` comes first on the PATH of its tasks."""
    require_airflow()
    port = free_port()
    home.mkdir()
    variables = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "PYTHON"))},
        "PATH": f"{commands}:{os.environ['PATH']}",
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
        "AIRFLOW__API__SECRET_KEY": secrets.token_hex(32),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PARALLELISM": "2",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        # SQLite has one writer at a time, and a run of so many tasks takes longer to write than its usual five seconds.
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}?timeout=120",
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
        "AIRFLOW__SCHEDULER__ENABLE_HEALTH_CHECK": "False",
    }
    run_airflow(variables, "db", "migrate")
    with contextlib.ExitStack() as processes:
        for program in ("api-server", "dag-processor", "scheduler"):
            processes.enter_context(process(program, home / f"{program}.log", variables))
        url = f"http://127.0.0.1:{port}"
        token = eventually(lambda: administrator(url), START_S, lambda: tail(home / "api-server.log"))
        yield Airflow(home, url, variables, token)


@contextlib.contextmanager
def process(program: str, log: Path, variables: Mapping[str, str]) -> Iterator[None]:
    """One program of Airflow's, ended with all its children."""
    with log.open("w") as output:
        started = subprocess.Popen(
            [ENVIRONMENT / "bin" / "airflow", program],
            env=dict(variables),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            started.wait(30)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
        started.wait()


def run_airflow(variables: Mapping[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [ENVIRONMENT / "bin" / "airflow", *arguments], env=dict(variables), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"airflow {' '.join(arguments)}: {done.stdout[-4_000:]}{done.stderr[-4_000:]}"
    return done.stdout


def call(url: str, token: str | None, accept: str = "application/json") -> Any:
    headers = {"Accept": accept} | ({"Authorization": f"Bearer {token}"} if token else {})
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=START_S) as answer:
        return json.load(answer)


def administrator(url: str) -> str | None:
    """A token, once the API server gives one away."""
    try:
        return str(call(f"{url}/auth/token", None)["access_token"])
    except (OSError, ValueError):
        return None


def eventually(found: Callable[[], Any], within_s: float, told: Callable[[], str]) -> Any:
    """What is found at last, asked for once a second."""
    end = time.monotonic() + within_s
    while not (answer := found()):
        assert time.monotonic() < end, told()
        time.sleep(1)
    return answer


def tail(log: Path) -> str:
    return log.read_text(errors="replace")[-4_000:]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
