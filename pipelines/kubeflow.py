"""A scheduled pipeline as one of Kubeflow's: a container per node, conditions where gates are, a report at the end."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kfp import compiler, dsl, kubernetes

from pipelines.definition import SPAN
from pipelines.manifest import Manifest, Node
from schemas.errors import ConfigurationError

REPORT = "report"
_PASSED = "passed"
_GPU = "nvidia.com/gpu"
# Of KFP's parameters; `inspect` has none for what is required.
_REQUIRED = inspect.Parameter.empty


def write(manifest: Manifest, out: Path) -> None:
    """Compiles a manifest into a file for Kubeflow Pipelines: the pipeline, and what it asks of Kubernetes.

    Args:
        manifest: of the scheduled pipeline.
        out: the file, whose name ends in `.yaml`.

    Raises:
        ConfigurationError: the definition lacks what Kubeflow needs, or `out` is no name for YAML.
    """
    if out.suffix != ".yaml":
        raise ConfigurationError(f"{out} does not end in .yaml, which Kubeflow asks for: choose another name")
    if manifest.image is None or manifest.volume is None:
        raise ConfigurationError(
            f"{manifest.definition} has no `cluster`, and Kubeflow runs every node in an image, with a volume on which "
            "nodes hand each other files: add `cluster: {image: ..., volume: {claim: ..., mount_path: ...}}`"
        )
    compiler.Compiler().compile(_pipeline(manifest), str(out))


def _pipeline(manifest: Manifest) -> Any:
    """The pipeline in KFP's own terms; its parameters are `span`, `source` and `log`.

    The definition gives the defaults; only the span of a log that has one in its name has to be said.
    """
    # What has no default comes first, as Python wants it.
    defaults = {"span": _REQUIRED if SPAN in manifest.log else "", "source": manifest.source, "log": manifest.log}

    def compose(*given: Any) -> None:
        # Kubeflow fills this in where it is the whole value of a parameter, and nowhere else.
        _compose(manifest, {"run_id": dsl.PIPELINE_JOB_ID_PLACEHOLDER, **dict(zip(defaults, given, strict=True))})

    parameters = [_parameter(name, str, default) for name, default in defaults.items()]
    return dsl.pipeline(name=manifest.name)(_with_interface(compose, manifest.name, parameters))


def _compose(manifest: Manifest, run: Mapping[str, Any]) -> None:
    """Adds all tasks to the pipeline that is being made; `run` holds the options that say which run it is."""
    tasks: dict[str, dsl.PipelineTask] = {}

    def add(under: tuple[str, ...]) -> None:
        """Adds the nodes right behind the gates `under`, and those behind one gate more as a group of their own."""
        level = [node for node in manifest.nodes if node.under == under]
        for node in level:
            tasks[node.id] = _node(manifest, node, run).after(*(tasks[before] for before in node.upstream))
        for gate in level:
            behind = (*under, gate.id)
            if any(node.under[: len(behind)] == behind for node in manifest.nodes):
                with dsl.If(tasks[gate.id].outputs[_PASSED] == "true", name=f"{gate.id}-{_PASSED}"):
                    add(behind)

    # An exit task, because it has to run behind a gate that said no and behind a node that failed, too.
    with dsl.ExitHandler(_task(manifest, REPORT, (REPORT,), run), name="nodes"):
        add(())


def _node(manifest: Manifest, node: Node, run: Mapping[str, Any]) -> dsl.PipelineTask:
    """The task of one node, with its tries, its time, and what it asks of a machine."""
    task = _task(manifest, node.id, ("node", "run", "--node", node.id), run, is_gate=node.is_gate)
    if node.retries:
        # Kubeflow would double the delay each time, which nobody asked for.
        task.set_retry(node.retries, backoff_duration=f"{node.retry_delay_s}s", backoff_factor=1.0)
    kubernetes.set_timeout(task, node.timeout_s)
    asked = node.resources
    try:
        if asked.cpu is not None:
            task.set_cpu_request(asked.cpu).set_cpu_limit(asked.cpu)
        if asked.memory is not None:
            task.set_memory_request(asked.memory).set_memory_limit(asked.memory)
    except ValueError as error:
        raise ConfigurationError(f"{manifest.definition}: node {node.id} asks for {asked}: {error}") from error
    if asked.gpus:
        task.set_accelerator_type(_GPU).set_accelerator_limit(asked.gpus)
    return task


def _task(
    manifest: Manifest, name: str, verb: Sequence[str], run: Mapping[str, Any], *, is_gate: bool = False
) -> dsl.PipelineTask:
    """A task that calls a verb of `fraudops` with the options of a run; that of a gate has the output `passed`."""
    options = {option: f"--{option.replace('_', '-')}" for option in run}
    parameters = [_parameter(option, str) for option in options]
    if is_gate:
        options[_PASSED] = f"--{_PASSED}-file"
        parameters.append(_parameter(_PASSED, dsl.OutputPath(str)))

    def container(*values: Any) -> dsl.ContainerSpec:
        given = [part for pair in zip(options.values(), values, strict=True) for part in pair]
        args = [*verb, "--pipeline", manifest.definition, *given]
        return dsl.ContainerSpec(image=manifest.image, command=["fraudops"], args=args)

    task = dsl.container_component(_with_interface(container, name, parameters))(**run)
    # TFX's own cache decides: it knows the digests of log, settings and code, of which Kubeflow sees none.
    task.set_caching_options(False)
    if manifest.volume is not None:
        kubernetes.mount_pvc(task, manifest.volume.claim, manifest.volume.mount_path)
    if manifest.secret is not None:
        kubernetes.use_secret_as_volume(task, manifest.secret.name, manifest.secret.mount_path)
    return task


def _parameter(name: str, annotation: Any, default: Any = _REQUIRED) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=annotation)


def _with_interface(
    function: Callable[..., Any], name: str, parameters: Sequence[inspect.Parameter]
) -> Callable[..., Any]:
    """The function under a name and with parameters made of data: KFP reads a component's interface from both."""
    function.__name__ = name
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what `inspect` reads first
    return function
