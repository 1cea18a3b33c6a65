"""Runs a pipeline on this machine, tells how it goes, and reads from ML Metadata what each step did."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import ml_metadata
from absl import logging as absl_logging
from ml_metadata.proto import metadata_store_pb2
from tfx import v1 as tfx

State = Literal["ran", "cached", "skipped"]
_SUCCESSFUL = (metadata_store_pb2.Execution.COMPLETE, metadata_store_pb2.Execution.CACHED)
_STARTED = re.compile(r"Component (\S+) is running\.")


@dataclass(frozen=True)
class Step:
    """What one step of a run did.

    Attributes:
        name: the node's id.
        state: `ran`, `cached` when an earlier result stood in, `skipped` behind a condition that did not hold.
        seconds: how long it took.
        outputs: folder of each output artifact by name.
        properties: custom properties of those artifacts, by output name.
    """

    name: str
    state: State
    seconds: float
    outputs: dict[str, Path]
    properties: dict[str, dict[str, str | int | float]]


def run_locally(pipeline: tfx.dsl.Pipeline, metadata: Path, on_step: Callable[[str], None]) -> dict[str, Step]:
    """Runs the pipeline with TFX's LocalDagRunner; returns its steps by name, in the order in which they ran.

    Args:
        pipeline: what to run.
        metadata: its SQLite store.
        on_step: called with the name of each step as it begins.

    Raises:
        Whatever a step raises; what it had written is not taken for a result by a later run.
    """
    with _told(on_step):
        tfx.orchestration.LocalDagRunner().run(pipeline)
    return read_steps(pipeline, metadata)


def read_steps(pipeline: tfx.dsl.Pipeline, metadata: Path) -> dict[str, Step]:
    """The steps of the latest run of a pipeline."""
    store = ml_metadata.MetadataStore(_connection(metadata))
    runs = [
        c
        for c in store.get_contexts_by_type("pipeline_run")
        if _belongs(store, c, pipeline.pipeline_info.pipeline_name)
    ]
    latest = max(runs, key=lambda context: context.id)
    # A step whose condition reads the output of a step that was itself skipped is not run, and marked as failed; one
    # that really fails raises, so that there is nothing to read then.
    executions = {
        _node(store, e): e for e in store.get_executions_by_context(latest.id) if e.last_known_state in _SUCCESSFUL
    }
    return {
        node.id: _step(store, node.id, executions[node.id])
        if node.id in executions
        else Step(node.id, "skipped", 0.0, {}, {})
        for node in pipeline.components
    }


def _connection(metadata: Path) -> metadata_store_pb2.ConnectionConfig:
    config = metadata_store_pb2.ConnectionConfig()
    config.sqlite.filename_uri = str(metadata)
    return config


def _belongs(store: ml_metadata.MetadataStore, run: metadata_store_pb2.Context, pipeline: str) -> bool:
    return any(parent.name == pipeline for parent in store.get_parent_contexts_by_context(run.id))


def _node(store: ml_metadata.MetadataStore, execution: metadata_store_pb2.Execution) -> str:
    [node] = [c for c in store.get_contexts_by_execution(execution.id) if c.type == "node"]
    return str(node.name).rpartition(".")[2]


def _step(store: ml_metadata.MetadataStore, name: str, execution: metadata_store_pb2.Execution) -> Step:
    cached = execution.last_known_state == metadata_store_pb2.Execution.CACHED
    events = store.get_events_by_execution_ids([execution.id])
    kinds = (metadata_store_pb2.Event.OUTPUT, metadata_store_pb2.Event.INTERNAL_OUTPUT)
    names = {event.artifact_id: event.path.steps[0].key for event in events if event.type in kinds}
    artifacts = store.get_artifacts_by_id(list(names))
    return Step(
        name,
        "cached" if cached else "ran",
        0.0 if cached else (execution.last_update_time_since_epoch - execution.create_time_since_epoch) / 1_000,
        {names[a.id]: Path(a.uri) for a in artifacts},
        {names[a.id]: {key: _value(value) for key, value in a.custom_properties.items()} for a in artifacts},
    )


def _value(value: metadata_store_pb2.Value) -> str | int | float:
    return getattr(value, value.WhichOneof("value"))


@contextmanager
def _told(on_step: Callable[[str], None]) -> Iterator[None]:
    """Calls `on_step` when LocalDagRunner logs that a node begins: it has no hook, and its log is its only word."""

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if match := _STARTED.match(record.getMessage()):
                on_step(match[1])

    logger = logging.getLogger("absl")
    # By absl's own setting: TensorFlow turns it down and back up while it saves, and would restore absl's and not ours.
    verbosity, handlers, propagate = absl_logging.get_verbosity(), logger.handlers[:], logger.propagate
    absl_logging.set_verbosity(absl_logging.INFO)
    logger.propagate = False
    logger.handlers[:] = [Listener()]
    try:
        yield
    finally:
        logger.handlers[:] = handlers
        logger.propagate = propagate
        absl_logging.set_verbosity(verbosity)
