"""Runs of a scheduled pipeline node by node: each node in a process of its own, all of one compiled pipeline.

Whichever node of a run comes first compiles the pipeline and leaves the record of the run in the workspace; the others
read it.  So all work on one log under one digest, however long the run takes and wherever its nodes are.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from tfx.proto.orchestration import pipeline_pb2

from components.devices import use_logical_cpus
from components.gate import Reason
from components.ingest import log_digest, log_files, write_list
from pipelines.config import RunConfig
from pipelines.definition import SPAN, Definition, days
from pipelines.run import Outcome, conclude, model_version, verdict_of
from pipelines.runner import CompiledRun, PlannedNode, Records, State, run_node
from pipelines.services import Services
from pipelines.training import TrainingRun, build_pipeline, code_version
from pipelines.workspace import Workspace
from schemas import sources
from schemas.errors import ArtifactError, ConfigurationError, LogError

_FORMAT = 1
_NAMED = 5  # of files that a message is about
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True)
class Request:
    """A run of a scheduled pipeline, as its scheduler names it.

    Attributes:
        definition: of the pipeline.
        run_id: the same for all nodes of the run and all their tries, and another for each run.
        span: the day that the run is about; needed where the log's name has `{SPAN}` in it.
        source: instead of the definition's.
        log: the same.
    """

    definition: Definition
    run_id: str
    span: date | None = None
    source: str | None = None
    log: str | None = None

    def __post_init__(self) -> None:
        if not _RUN_ID.fullmatch(self.run_id):
            raise ConfigurationError(
                f"run id {self.run_id!r} is none; use up to 128 letters, digits, dots, hyphens and underscores, "
                "beginning with a letter or digit"
            )
        if SPAN in self.pattern and self.span is None:
            raise ConfigurationError(f"log {self.pattern} is of a day, and no span says which; give --span YYYY-MM-DD")

    @property
    def pattern(self) -> str:
        """The log, with `{SPAN}` where the day stands."""
        return self.log or self.definition.log


@dataclass(frozen=True)
class NodeResult:
    """What became of one node of a run.

    Attributes:
        node: its id.
        run_id: of the run.
        state: `ran`, `cached` when an earlier result stands in, `skipped` where a gate before it said no.
        passed: whether a gate lets the run pass; None for a node that is none.
        reasons: what the gate found.
        model_version: the version that `registration` ended with.
    """

    node: str
    run_id: str
    state: State
    passed: bool | None
    reasons: tuple[Reason, ...]
    model_version: int | None

    def fields(self) -> dict[str, Any]:
        """The object that `fraudops node run --json` prints."""
        return {
            "node": self.node,
            "run_id": self.run_id,
            "state": self.state,
            "passed": self.passed,
            "reasons": self.reasons,
            "model_version": self.model_version,
        }


def plan(definition: Definition) -> tuple[PlannedNode, ...]:
    """The nodes of every run of a definition, in an order in which they can run; nothing but the mapping is read."""
    mapping = sources.load(definition.source)
    with tempfile.TemporaryDirectory() as scratch:
        workspace = Workspace.at(Path(scratch))
        services = Services.embedded(workspace)
        run = TrainingRun(definition.source, mapping, Path("log"), "", workspace, services, definition.config)
        return CompiledRun.of(build_pipeline(run), "plan").nodes()


def execute(request: Request, name: str) -> NodeResult:
    """Runs one node; one that has a result keeps it, and one that was killed begins afresh.

    Raises:
        FraudOpsError: the request, the log or the workspace is at fault, or a node before it has no result yet.
        Whatever the node raises.
    """
    workspace = Workspace.at(request.definition.workspace)
    with _begun(request, workspace) as (run, compiled, record):
        node = compiled.node(name)
        connection = run.services.metadata.connection()
        use_logical_cpus(run.config.training.logical_cpu_devices)
        with _alone(run, record, compiled, name):
            state = run_node(compiled, name, connection)
        records = Records(connection, compiled)
        steps = records.steps()
        verdict = verdict_of(name, steps) if node.is_gate else None
        passed = None if not node.is_gate else state != "skipped" and records.passed(name)
        return NodeResult(
            name,
            request.run_id,
            state,
            passed,
            verdict.reasons if verdict else (),
            model_version({name: steps[name]}),
        )


def report(request: Request, finished: datetime) -> Outcome:
    """Writes the report of a run whose nodes have run, as far as its gates let them.

    Raises:
        FraudOpsError: as `execute`, or the run has no result yet.
    """
    workspace = Workspace.at(request.definition.workspace)
    with _begun(request, workspace) as (run, compiled, _):
        steps = Records(run.services.metadata.connection(), compiled).steps()
        if all(step.state == "skipped" for step in steps.values()):
            raise ArtifactError(f"run {request.run_id} of {compiled.name} has no result yet; run its nodes first")
        return conclude(run, compiled.run_id, steps, finished, sum(step.seconds for step in steps.values()))


@contextmanager
def _begun(request: Request, workspace: Workspace) -> Iterator[tuple[TrainingRun, CompiledRun, int]]:
    """The run, as its record has it, and the descriptor of that file; the record is made where there is none."""
    mapping = sources.load(request.source or request.definition.source)
    path = workspace.run_record(f"fraud-{mapping.source}", request.run_id)
    if not path.exists():
        _begin(request, workspace, path)
    with path.open("r+", encoding="utf-8") as file:
        record = _read(file.read(), path)
        _compare(record, request, mapping.digest)
        run = TrainingRun(
            record["source"],
            mapping,
            Path(record["log"]),
            record["digest"],
            workspace,
            request.definition.services(workspace),
            TypeAdapter(RunConfig).validate_python(record["config"]),
        )
        pipeline = pipeline_pb2.Pipeline.FromString(base64.b64decode(record["pipeline"]))
        yield run, CompiledRun(pipeline), file.fileno()


def _begin(request: Request, workspace: Workspace, path: Path) -> None:
    """Compiles the pipeline and writes the record; of two that do, the first one's stands."""
    source = request.source or request.definition.source
    mapping = sources.load(source)
    log = _log(request, workspace)
    run = TrainingRun(
        source,
        mapping,
        log,
        log_digest(log),
        workspace,
        request.definition.services(workspace),
        request.definition.config,
    )
    # Runs of all pipelines share the names of runs in ML Metadata.
    compiled = CompiledRun.of(build_pipeline(run), f"{run.pipeline_name}.{request.run_id}")
    record = {
        "format": _FORMAT,
        "source": source,
        "mapping": mapping.digest,
        "pattern": request.pattern,
        "span": None if request.span is None else request.span.isoformat(),
        "log": str(log),
        "digest": run.digest,
        "config": TypeAdapter(RunConfig).dump_python(run.config, mode="json"),
        "code": code_version(),
        "pipeline": base64.b64encode(compiled.pipeline.SerializeToString(deterministic=True)).decode(),
    }
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(json.dumps(record, indent=1), encoding="utf-8")
    try:
        os.link(fresh, path)
    except FileExistsError:
        pass
    finally:
        fresh.unlink()


def _log(request: Request, workspace: Workspace) -> Path:
    """The log of the request: that of its one day, or a list of its days'."""
    pattern, definition = request.pattern, request.definition
    if SPAN not in pattern:
        return Path(pattern)
    assert request.span is not None, "a request without a span has been refused"
    wanted = [Path(pattern.replace(SPAN, day.isoformat())) for day in days(request.span, definition.rolling_days)]
    if absent := [str(one) for one in wanted if not one.exists()]:
        raise LogError(
            f"of the {len(wanted)} days that the run of {request.span} reads, {len(absent)} are not there: "
            f"{', '.join(absent[:_NAMED])}{' and more' if len(absent) > _NAMED else ''}"
        )
    if len(wanted) == 1:
        return wanted[0]
    # Named by what it is, not by the run, so that a second run of the same days finds the results of the first.
    listed = workspace.log_list(f"{definition.name}-{request.span}-{len(wanted)}d")
    folder = Path(pattern.partition(SPAN)[0].rpartition("/")[0])
    write_list(listed, folder, [file.path for one in wanted for file in log_files(one)])
    return listed


def _read(text: str, path: Path) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads(text)
        if record["format"] == _FORMAT:
            return record
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path} is no record of a run ({error}); begin a new run, with another run id") from error
    raise ArtifactError(f"{path} is of format {record['format']}, and this version reads {_FORMAT}; begin a new run")


def _compare(record: Mapping[str, Any], request: Request, mapping_digest: str) -> None:
    """A run is about one thing from its first node to its last."""
    span = None if request.span is None else request.span.isoformat()
    now = {"pattern": request.pattern, "span": span, "mapping": mapping_digest, "code": code_version()}
    for name, what in (
        ("pattern", "the log"),
        ("span", "span"),
        ("mapping", "a mapping with the digest"),
        ("code", "code of version"),
    ):
        if record[name] != now[name]:
            raise ConfigurationError(
                f"run {request.run_id} was begun with {what} {record[name]}, and this node has {now[name]}; "
                "begin a new run, with another run id"
            )


@contextmanager
def _alone(run: TrainingRun, record: int, compiled: CompiledRun, name: str) -> Iterator[None]:
    """Waits for an earlier try that is not dead yet; where the metadata is one file, for every other node as well."""
    if run.services.metadata.is_file:
        with run.workspace.exclusive(wait=True):
            yield
        return
    # A byte of the record for each node.  Locks of this kind hold between machines that share the volume.
    place = [node.name for node in compiled.nodes()].index(name)
    fcntl.lockf(record, fcntl.LOCK_EX, 1, place)
    try:
        yield
    finally:
        fcntl.lockf(record, fcntl.LOCK_UN, 1, place)
