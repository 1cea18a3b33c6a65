"""What the Dockerfiles install, installed by their own steps on this machine, is all that the images' commands need.

No container engine is asked for: the instructions of the stage that builds are followed in a temporary folder, and what
they make runs with the image's variables, without anything of the environment that the tests run in.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from components import simulator
from components.registry.client import connect
from components.registry.registration import register
from infra.bootstrap import FOREIGN_VARIABLES, find_python
from schemas.digests import directory_digest
from tests.infra.dockerfiles import ROOT, stages
from tests.infra.test_lock import requirements
from tests.registered import example, mlflow_server

# The pipeline's packages are 250, and 3.5 GB.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

ENVIRONMENT = "/opt/fraudops"  # where the Dockerfiles put it
SYSTEM_PATH = "/usr/bin:/bin"
BOUND_S = 300
OURS = ("components", "pipelines", "schemas", "serving")

# Imports what is named on standard input, and says why not.
PROBE = """
import importlib, json, sys
missing = {}
for name in json.load(sys.stdin):
    try:
        importlib.import_module(name)
    except Exception as error:
        missing[name] = f"{type(error).__name__}: {error}"
print(json.dumps(missing))
"""

# Fetches a version as the controller does, from a server to a folder.
FETCH = """
import pathlib, sys
from pipelines.registry import MlflowRegistry
MlflowRegistry(sys.argv[1]).download(1, pathlib.Path(sys.argv[2]))
"""


def inherited() -> dict[str, str]:
    """The variables of this process but for those that would let its own packages or settings in."""
    foreign = re.compile(rf"{'|'.join(FOREIGN_VARIABLES)}|PYTHON.*|MLFLOW_.*|FRAUDOPS_.*|TF_.*")
    return {name: value for name, value in os.environ.items() if not foreign.fullmatch(name)}


@dataclass(frozen=True)
class Image:
    """An image's environment on this machine, and a folder for what its programs write."""

    environment: Path
    folder: Path
    variables: Mapping[str, str]

    def run(self, *command: str, text: str = "") -> subprocess.CompletedProcess[str]:
        """Runs one of its programs to the end."""
        return subprocess.run(
            [str(self.environment / "bin" / command[0]), *command[1:]],
            input=text, capture_output=True, text=True, cwd=self.folder, env=self.variables, timeout=1800,
        )  # fmt: skip

    def fraudops(self, *arguments: str) -> dict[str, Any]:
        """The object that a command of its own prints, which has to succeed."""
        done = self.run("fraudops", *arguments, "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    @contextlib.contextmanager
    def serving(self, *arguments: str) -> Iterator[dict[str, Any]]:
        """One of its servers, by the object that it prints when it serves; ended with all its processes."""
        command = [str(self.environment / "bin" / "fraudops"), "serve", *arguments, "--json"]
        errors = self.folder / f"{arguments[0]}.log"
        with (
            errors.open("w") as log,
            subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, text=True, cwd=self.folder, env=self.variables,
                start_new_session=True,
            ) as process,
        ):  # fmt: skip
            try:
                assert process.stdout is not None
                line = process.stdout.readline()
                said = json.loads(line or "{}")
                assert said and "error" not in said, errors.read_text()
                yield said
                process.terminate()
                assert process.wait(BOUND_S) == 0
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)

    def missing(self, names: Iterable[str]) -> dict[str, str]:
        """Which of some modules cannot be imported there, and why."""
        done = self.run("python", "-I", "-W", "ignore", "-c", PROBE, text=json.dumps(sorted(names)))
        assert done.returncode == 0, done.stderr
        found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
        return found

    def complaints(self) -> list[str]:
        """What pip finds wrong with the distributions that are there."""
        tools = self.environment.with_name(f"{self.environment.name}.tools")
        pip = [str(tools / "bin" / "python"), "-I", "-m", "pip", "--python", str(self.environment / "bin" / "python")]
        done = subprocess.run([*pip, "check"], capture_output=True, text=True, env=inherited())
        assert done.returncode in (0, 1), done.stderr
        return [line for line in done.stdout.splitlines() if line != "No broken requirements found."]


def build(name: str, folder: Path) -> Image:
    """Follows the first stage of an image's Dockerfile below `folder`, and takes the variables from the last."""
    context, environment = folder / "context", folder / "fraudops"
    context.mkdir()
    python = Path(find_python([sys.executable])).parent
    for instruction in stages(name)[0]:
        if instruction.word == "COPY":
            sources, target = instruction.copied
            for source in sources:
                copy(ROOT / source, context / target)
        elif instruction.word == "RUN":
            done = subprocess.run(
                ["sh", "-euc", instruction.rest.replace(ENVIRONMENT, str(environment))],
                cwd=context, env=inherited() | {"PATH": f"{python}:{SYSTEM_PATH}"},
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )  # fmt: skip
            assert done.returncode == 0, done.stdout
    shutil.rmtree(context)

    variables = inherited() | {"HOME": str(folder / "home"), "PATH": SYSTEM_PATH}
    for instruction in stages(name)[-1]:
        if instruction.word == "ENV":
            for pair in shlex.split(instruction.rest):
                variable, _, value = pair.partition("=")
                value = value.replace("/tmp/", f"{folder}/").replace(ENVIRONMENT, str(environment))
                variables[variable] = value.replace("$PATH", variables["PATH"])
    work = folder / "work"
    work.mkdir()
    return Image(environment, work, variables)


def copy(source: Path, target: Path) -> None:
    """Copies as COPY does: the contents of a folder, or a file into a folder."""
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    yield from built("serving", tmp_path_factory)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    yield from built("pipeline", tmp_path_factory)


def built(name: str, factory: pytest.TempPathFactory) -> Iterator[Image]:
    """The image while its tests run; gigabytes are not kept for a later look."""
    folder = factory.mktemp(name)
    try:
        yield build(name, folder)
    finally:
        shutil.rmtree(folder)


def modules(*packages: str) -> set[str]:
    """Our modules below some packages, the packages themselves included."""
    files = [file for package in packages for file in (ROOT / package.replace(".", "/")).rglob("*.py")]
    return {".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for file in files}


def imported_by(ours: Iterable[str]) -> set[str]:
    """The modules of others that ours import, be it in a function, by what each import statement begins with."""
    found = set()
    for name in ours:
        path = ROOT.joinpath(*name.split("."))
        package = path / "__init__.py"
        file = package if package.is_file() else path.with_suffix(".py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module)
    return {name for name in found if name.split(".")[0] not in OURS}


# What the commands of the serving image are made of.  `fraudops serve model-server`, which is not among them, needs
# TensorFlow.
COMMANDS = {f"pipelines.commands.{verb}" for verb in ("models", "rollout", "score", "serve")}
BEHIND_THEM = {"pipelines.cli", "pipelines.registry", "pipelines.scoring", "pipelines.workspace"}


def test_the_serving_image_holds_what_its_modules_import_and_nothing_that_trains(serving: Image) -> None:
    ours = modules("schemas", "serving", "components.ingest") | COMMANDS | BEHIND_THEM
    ours |= {"components.registry.client", "components.registry.versions"}
    ours -= modules("serving.model_server")
    assert serving.missing(ours | imported_by(ours)) == {}
    heavy = {"tensorflow", "tfx", "apache_beam", "tensorflow_serving", "mlflow.server", "pandas", "pip", "setuptools"}
    assert serving.missing(heavy).keys() == heavy
    assert serving.complaints() == []


def test_the_serving_image_decides_and_approves(serving: Image, tmp_path: Path) -> None:
    workspace = ("--workspace", str(tmp_path / "workspace"))
    log = tmp_path / "log.parquet"
    simulator.write(simulator.simulate(cards=40, days=3, seed=2), log)
    transaction = {
        "transaction_id": "t1", "event_time": "2024-03-01T12:00:00Z", "card_id": "c1", "merchant_id": "m1",
        "amount_minor": 1234, "currency": "EUR",
    }  # fmt: skip
    # Nobody listens at the discard port: gateway and controller bear that.
    nobody = ("--source", "simulated", "--model-server", "127.0.0.1:9", *workspace, "--metrics-port", "0")
    with serving.serving("gateway", *nobody, "--port", "0") as gateway:
        at = ("--target", gateway["address"])
        decision = serving.fraudops("score", *at, "--transaction", json.dumps(transaction))
        assert decision["transaction_id"] == "t1"
        assert decision["model"] is None
        of_log = serving.fraudops(
            "score", *at, "--source", "simulated", "--log", str(log), "--labels", "--out", str(tmp_path / "out.parquet")
        )
        assert of_log["decided"] == of_log["transactions"] > 100
        assert not of_log["errors"]
        assert b"fraudops_gateway_decisions_total" in page(gateway["metrics"])

    with mlflow_server(tmp_path) as server:
        registered = example(tmp_path, "fraud")
        register(connect(server), registered)
        registry = ("--tracking-uri", server)
        with serving.serving("controller", *nobody, *registry, "--poll-seconds", "0.2") as controller:
            assert b"fraudops_rollout_state" in page(controller["metrics"])
            approved = serving.fraudops("models", "approve", "1", "--reason", "alerts less", "--by", "ada", *registry)
            assert approved["changed"]
            (version,) = serving.fraudops("models", "list", *registry)["versions"]
            assert (version["approval"], version["approval_by"]) == ("approved", "ada")
            assert serving.fraudops("models", "show", "1", *registry)["digests"]["saved_model"]
            eventually(lambda: serving.fraudops("rollout", "status", *workspace)["version"] == 1)
        fetched = tmp_path / "fetched"
        done = serving.run("python", "-I", "-c", FETCH, server, str(fetched))
        assert done.returncode == 0, done.stderr
        assert directory_digest(fetched) == registered.digest_saved_model


def test_the_serving_image_says_that_a_database_is_no_registry_for_it(serving: Image, tmp_path: Path) -> None:
    done = serving.run("fraudops", "models", "list", "--workspace", str(tmp_path))
    assert done.returncode == 2
    assert "MLflow server" in done.stderr
    assert "Traceback" not in done.stderr


def page(address: str) -> bytes:
    with urllib.request.urlopen(address, timeout=BOUND_S) as response:
        content: bytes = response.read()
    return content


def eventually(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + BOUND_S
    while not condition():
        assert time.monotonic() < end, "the condition does not come to hold"


def overridden() -> set[str]:
    """What the overrides give another version than the wheels ask for."""
    text = (ROOT / "infra" / "python" / "overrides.txt").read_text(encoding="utf-8")
    return {canonicalize_name(requirement.name) for requirement in requirements(text)}


# What benchmarks measure beside and import where they do; it comes with the tools for development.
PEERS = {"polars"}


def test_the_pipeline_image_holds_what_its_modules_import(pipeline: Image) -> None:
    # Airflow has an environment of its own, which reads what is compiled here.
    ours = modules(*OURS) - modules("pipelines.airflow")
    assert pipeline.missing((ours | imported_by(ours) | {"psycopg2", "tensorboard"}) - PEERS) == {}
    assert pipeline.missing({"pytest", "pip"}).keys() == {"pytest", "pip"}
    for complaint in pipeline.complaints():
        asked = re.fullmatch(r"\S+ \S+ has requirement (.+), but you have \S+ \S+", complaint)
        assert asked is not None, complaint
        assert canonicalize_name(Requirement(asked[1].rstrip(".")).name) in overridden(), complaint


def test_the_pipeline_image_takes_a_log_of_its_own_to_statistics(pipeline: Image, tmp_path: Path) -> None:
    log = tmp_path / "log.parquet"
    assert pipeline.fraudops("simulate", "--out", str(log), "--cards", "200", "--days", "50", "--seed", "3")["rows"]
    space = ("--workspace", str(tmp_path / "space"))
    ran = pipeline.fraudops("run", "--source", "simulated", "--log", str(log), "--until", "statistics", *space)
    assert ran["status"] == "passed"
    assert {"ingest", "examples", "statistics"} <= ran["seconds"].keys()
    assert ran["rows"]["train"] > 0
    assert pipeline.fraudops("models", "list", *space)["versions"] == []
