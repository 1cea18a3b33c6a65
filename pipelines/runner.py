"""Runs the nodes of a compiled pipeline, one or all of them, and reads from ML Metadata what each did.

A node is launched by TFX's own launcher.  Conditions are looked at here, and taken off the node before: TFX makes
inputs of them, so that a verdict which comes out the same for other reasons would run all that stands under it again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ml_metadata.proto import metadata_store_pb2
from tfx import v1 as tfx
from tfx.dsl.compiler import placeholder_utils
from tfx.dsl.compiler.compiler import Compiler
from tfx.dsl.compiler.constants import PIPELINE_RUN_ID_PARAMETER_NAME
from tfx.dsl.io import fileio
from tfx.orchestration.local import runner_utils
from tfx.orchestration.portable import runtime_parameter_utils
from tfx.orchestration.portable.data_types import ExecutionInfo
from tfx.orchestration.portable.launcher import Launcher
from tfx.proto.orchestration import pipeline_pb2, placeholder_pb2
from tfx.types import artifact_utils

from pipelines.metadata import TfxMetadata, open_store
from schemas.errors import ConfigurationError, RunOrderError

State = Literal["ran", "cached", "skipped"]
_SUCCESSFUL = (metadata_store_pb2.Execution.COMPLETE, metadata_store_pb2.Execution.CACHED)
_OUTPUTS = (metadata_store_pb2.Event.OUTPUT, metadata_store_pb2.Event.INTERNAL_OUTPUT)


@dataclass(frozen=True)
class Step:
    """What one node of a run did.

    Attributes:
        name: the node's id.
        state: `ran`, `cached` when an earlier result stood in, `skipped` where a gate before it said no.
        seconds: how long it took.
        outputs: folder of each output artifact by name.
        properties: custom properties of those artifacts, by output name.
    """

    name: str
    state: State
    seconds: float
    outputs: dict[str, Path]
    properties: dict[str, dict[str, str | int | float]]


@dataclass(frozen=True)
class PlannedNode:
    """A node and what it waits for.

    Attributes:
        name: its id.
        upstream: ids of the nodes right before it, gates included, in the order in which they run.
        under: ids of the gates that must have let the run pass, outermost first.
        is_gate: whether it is one of those for another node.
    """

    name: str
    upstream: tuple[str, ...]
    under: tuple[str, ...]
    is_gate: bool


class CompiledRun:
    """One run of a compiled pipeline.

    Args:
        pipeline: as TFX compiles it, with the id of the run in the place of its parameter.
    """

    def __init__(self, pipeline: pipeline_pb2.Pipeline) -> None:
        self.pipeline = pipeline
        self.name = str(pipeline.pipeline_info.id)
        self.run_id = str(pipeline.runtime_spec.pipeline_run_id.field_value.string_value)
        self._nodes = {node.pipeline_node.node_info.id: node.pipeline_node for node in pipeline.nodes}
        # The same condition stands at every node under a gate.
        self._conditions = {
            gate: (key, condition)
            for node in self._nodes.values()
            for gate, key, condition in _conditions(node)
        }  # fmt: skip

    @staticmethod
    def of(pipeline: tfx.dsl.Pipeline, run_id: str) -> CompiledRun:
        """Compiles a pipeline for a run.

        Args:
            run_id: unlike that of any other run in the metadata store.
        """
        compiled = Compiler().compile(pipeline)
        runtime_parameter_utils.substitute_runtime_parameter(compiled, {PIPELINE_RUN_ID_PARAMETER_NAME: run_id})
        return CompiledRun(compiled)

    def nodes(self) -> tuple[PlannedNode, ...]:
        """All nodes in an order in which they can run."""
        order = list(self._nodes)
        return tuple(
            PlannedNode(
                name,
                tuple(sorted(node.upstream_nodes, key=order.index)),
                tuple(sorted((gate for gate, _, _ in _conditions(node)), key=order.index)),
                name in self._conditions,
            )
            for name, node in self._nodes.items()
        )

    def node(self, name: str) -> PlannedNode:
        """One of them.

        Raises:
            ConfigurationError: there is none of that name.
        """
        for node in self.nodes():
            if node.name == name:
                return node
        raise ConfigurationError(f"pipeline {self.name} has no node {name!r}; nodes are {', '.join(self._nodes)}")

    def launch(self, name: str, connection: metadata_store_pb2.ConnectionConfig) -> None:
        """Runs a node, or lets an earlier result stand in.

        Raises:
            Whatever the node raises; what it had written is not taken for a result later.
        """
        node = pipeline_pb2.PipelineNode()
        node.CopyFrom(self._nodes[name])
        gates = {gate for gate, _, _ in _conditions(node)}
        # TFX adds an input for a condition even where the node reads the same verdict under a name of its own.
        for key in [key for key in node.inputs.inputs if key.startswith(tuple(f"_{gate}." for gate in gates))]:
            del node.inputs.inputs[key]
        node.inputs.conditionals.clear()
        deployment = runner_utils.extract_local_deployment_config(self.pipeline)
        _Launcher(
            pipeline_node=node,
            mlmd_connection=TfxMetadata(connection),
            pipeline_info=self.pipeline.pipeline_info,
            pipeline_runtime_spec=self.pipeline.runtime_spec,
            executor_spec=runner_utils.extract_executor_spec(deployment, name),
            custom_driver_spec=runner_utils.extract_custom_driver_spec(deployment, name),
        ).launch()

    def verdict_of(self, gate: str, outputs: Mapping[str, Any]) -> bool:
        """Whether a gate lets the run pass; `outputs` are its artifacts by output name."""
        key, condition = self._conditions[gate]
        [channel] = next(node.inputs.inputs[key] for node in self._nodes.values() if key in node.inputs.inputs).channels
        given = ExecutionInfo(input_dict={key: [outputs[channel.output_key]]})
        return bool(
            placeholder_utils.resolve_placeholder_expression(condition, placeholder_utils.ResolutionContext(given))
        )


class Records:
    """What ML Metadata holds of a run.

    Args:
        connection: to its store.
        run: whose.
    """

    def __init__(self, connection: metadata_store_pb2.ConnectionConfig, run: CompiledRun) -> None:
        self._store = open_store(connection)
        self._run = run

    def steps(self) -> dict[str, Step]:
        """Every node, in the order in which they run; one without a result counts as skipped."""
        executions = self._executions()
        return {
            node.name: self._step(node.name, executions[node.name])
            if node.name in executions
            else Step(node.name, "skipped", 0.0, {}, {})
            for node in self._run.nodes()
        }

    def done(self) -> set[str]:
        """The nodes with a result."""
        return set(self._executions())

    def passed(self, gate: str) -> bool:
        """Whether a gate with a result lets the run pass."""
        execution = self._executions()[gate]
        names = self._outputs(execution)
        types = {kind.id: kind for kind in self._store.get_artifact_types()}
        artifacts = {
            names[one.id]: artifact_utils.deserialize_artifact(types[one.type_id], one)
            for one in self._store.get_artifacts_by_id(list(names))
        }
        return self._run.verdict_of(gate, artifacts)

    def _executions(self) -> dict[str, metadata_store_pb2.Execution]:
        context = self._store.get_context_by_type_and_name("pipeline_run", self._run.run_id)
        if context is None:
            return {}
        executions = self._store.get_executions_by_context(context.id)
        return {self._node(e): e for e in executions if e.last_known_state in _SUCCESSFUL}

    def _node(self, execution: metadata_store_pb2.Execution) -> str:
        [node] = [c for c in self._store.get_contexts_by_execution(execution.id) if c.type == "node"]
        return str(node.name).rpartition(".")[2]

    def _outputs(self, execution: metadata_store_pb2.Execution) -> dict[int, str]:
        events = self._store.get_events_by_execution_ids([execution.id])
        return {event.artifact_id: event.path.steps[0].key for event in events if event.type in _OUTPUTS}

    def _step(self, name: str, execution: metadata_store_pb2.Execution) -> Step:
        cached = execution.last_known_state == metadata_store_pb2.Execution.CACHED
        names = self._outputs(execution)
        artifacts = self._store.get_artifacts_by_id(list(names))
        return Step(
            name,
            "cached" if cached else "ran",
            0.0 if cached else (execution.last_update_time_since_epoch - execution.create_time_since_epoch) / 1_000,
            {names[a.id]: Path(a.uri) for a in artifacts},
            {names[a.id]: {key: _value(value) for key, value in a.custom_properties.items()} for a in artifacts},
        )


def run_node(run: CompiledRun, name: str, connection: metadata_store_pb2.ConnectionConfig) -> State:
    """Runs one node of a run; one that has a result already keeps it.

    Raises:
        ConfigurationError: there is no such node.
        RunOrderError: a node before it has no result yet.
        Whatever the node raises.
    """
    node, records = run.node(name), Records(connection, run)
    done = records.done()
    if name not in done:
        for gate in node.under:
            if gate in done and not records.passed(gate):
                return "skipped"
        if waiting := [one for one in node.upstream if one not in done]:
            raise RunOrderError(
                f"node {name} of run {run.run_id} needs {', '.join(waiting)}, which has no result yet; run that first"
            )
        run.launch(name, connection)
    return records.steps()[name].state


def run_all(
    run: CompiledRun, connection: metadata_store_pb2.ConnectionConfig, on_step: Callable[[str], None]
) -> dict[str, Step]:
    """Runs every node of a run in this process, and gives their steps by name.

    Args:
        on_step: called with the name of each node as it begins.

    Raises:
        Whatever a node raises.
    """
    closed: set[str] = set()
    for node in run.nodes():
        if closed.intersection(node.under):
            continue
        on_step(node.name)
        run.launch(node.name, connection)
        if node.is_gate and not Records(connection, run).passed(node.name):
            closed.add(node.name)
    return Records(connection, run).steps()


class _Launcher(Launcher):
    """TFX's launcher, which takes a node that was begun before, and killed, up again in the same folders."""

    def _run_executor(self, execution_info: ExecutionInfo) -> Any:
        for artifacts in execution_info.output_dict.values():
            for artifact in artifacts:
                # What a try that was killed left must not end up in the result of this one.
                if fileio.exists(artifact.uri):
                    fileio.rmtree(artifact.uri) if fileio.isdir(artifact.uri) else fileio.remove(artifact.uri)
        return super()._run_executor(execution_info)


def _conditions(
    node: pipeline_pb2.PipelineNode,
) -> Iterator[tuple[str, str, placeholder_pb2.PlaceholderExpression]]:
    """Of each condition of a node: the gate, the input that stands for its verdict, and the expression."""
    for conditional in node.inputs.conditionals.values():
        key = _placeholder(conditional.placeholder_expression)
        [channel] = node.inputs.inputs[key].channels
        yield channel.producer_node_query.id, key, conditional.placeholder_expression


def _placeholder(message: Any) -> str:
    """The name of the one placeholder in an expression."""
    if isinstance(message, placeholder_pb2.Placeholder):
        return str(message.key)
    for _, value in message.ListFields():
        if hasattr(value, "ListFields") and (found := _placeholder(value)):
            return found
    return ""


def _value(value: metadata_store_pb2.Value) -> str | int | float:
    return getattr(value, value.WhichOneof("value"))
