"""An interpreter of compiled Kubeflow pipelines: it decides what runs with which arguments, as Kubeflow would."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

State = Literal["succeeded", "failed", "skipped"]
_CONDITION = re.compile(r"inputs\.parameter_values\['([^']+)'\] == '([^']*)'")
_PLACEHOLDER = re.compile(r"\{\{\$\.(inputs|outputs)\.parameters\[(?:'|\")(.+?)(?:'|\")\](\.output_file)?\}\}")
_JOB_ID = "{{$.pipeline_job_uuid}}"


@dataclass(frozen=True)
class Container:
    """A container that is about to run: whose task it is, and its command with its arguments, all resolved."""

    task: str
    command: tuple[str, ...]


Execute = Callable[[Container], int]


def load(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The pipeline spec of a compiled file, and its platform spec."""
    spec, platform = yaml.safe_load_all(path.read_text(encoding="utf-8"))
    return spec, platform


@dataclass(frozen=True)
class Interpreter:
    """Runs a compiled pipeline.

    Attributes:
        spec: the pipeline spec.
        job: the id of the run.
        folder: where tasks leave their output parameters.
        execute: runs a container and returns its exit code.
    """

    spec: Mapping[str, Any]
    job: str
    folder: Path
    execute: Execute

    def run(self, parameters: Mapping[str, str]) -> dict[str, State]:
        """Runs all tasks in the order of their dependencies; returns what became of each container, and of each group.

        Raises:
            ValueError: a parameter is missing or unknown, or the spec has something that is not known here.
        """
        known = self.spec["root"].get("inputDefinitions", {}).get("parameters", {})
        given = {name: one["defaultValue"] for name, one in known.items() if "defaultValue" in one} | dict(parameters)
        if given.keys() != known.keys():
            raise ValueError(f"the pipeline takes {sorted(known)}, not {sorted(given)}")
        return self._graph(self.spec["root"]["dag"], given)

    def _graph(self, graph: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, State]:
        states: dict[str, State] = {}
        outputs: dict[tuple[str, str], str] = {}
        for name, task in _ordered(graph["tasks"]):
            policy = task.get("triggerPolicy", {})
            whatever = policy.get("strategy") == "ALL_UPSTREAM_TASKS_COMPLETED"
            if not whatever and any(states[one] != "succeeded" for one in _upstream(task)):
                states |= self._skipped(name, task)
                continue
            inputs = {key: self._value(one, given, outputs) for key, one in _inputs(task).items()}
            if "condition" in policy and not _holds(policy["condition"], inputs):
                states |= self._skipped(name, task)
                continue
            component = self.spec["components"][task["componentRef"]["name"]]
            if "dag" in component:
                inside = self._graph(component["dag"], inputs)
                states |= inside | {name: "failed" if "failed" in inside.values() else "succeeded"}
            else:
                states[name] = self._container(name, component, inputs, outputs)
        return states

    def _container(
        self,
        name: str,
        component: Mapping[str, Any],
        inputs: Mapping[str, str],
        outputs: dict[tuple[str, str], str],
    ) -> State:
        files = {key: self.folder / name / key for key in component.get("outputDefinitions", {}).get("parameters", {})}
        (self.folder / name).mkdir(parents=True)
        container = self.spec["deploymentSpec"]["executors"][component["executorLabel"]]["container"]

        def resolved(text: str) -> str:
            def found(match: re.Match[str]) -> str:
                side, key, file = match.groups()
                if side == "inputs" and not file:
                    return inputs[key]
                if side == "outputs" and file:
                    return str(files[key])
                raise ValueError(f"task {name} has the placeholder {match[0]!r}")

            whole = _PLACEHOLDER.sub(found, text)
            if "{{" in whole:
                raise ValueError(f"task {name} has a placeholder in {text!r} that nobody would fill in")
            return whole

        command = tuple(resolved(text) for text in [*container["command"], *container.get("args", [])])
        if self.execute(Container(name, command)):
            return "failed"
        outputs.update({(name, key): file.read_text(encoding="utf-8") for key, file in files.items()})
        return "succeeded"

    def _skipped(self, name: str, task: Mapping[str, Any]) -> dict[str, State]:
        """The task and all that is in it, as skipped."""
        states: dict[str, State] = {name: "skipped"}
        for inner, one in self.spec["components"][task["componentRef"]["name"]].get("dag", {}).get("tasks", {}).items():
            states |= self._skipped(inner, one)
        return states

    def _value(
        self, source: Mapping[str, Any], given: Mapping[str, str], outputs: Mapping[tuple[str, str], str]
    ) -> str:
        if "componentInputParameter" in source:
            return given[source["componentInputParameter"]]
        if "taskOutputParameter" in source:
            output = source["taskOutputParameter"]
            return outputs[output["producerTask"], output["outputParameterKey"]]
        constant: str = source["runtimeValue"]["constant"]
        # Filled in where it is the whole value of a parameter.
        return self.job if constant == _JOB_ID else constant


def _inputs(task: Mapping[str, Any]) -> Mapping[str, Any]:
    return task.get("inputs", {}).get("parameters", {})


def _upstream(task: Mapping[str, Any]) -> set[str]:
    """The tasks beside this one that have to end before it."""
    producers = {
        one["taskOutputParameter"]["producerTask"] for one in _inputs(task).values() if "taskOutputParameter" in one
    }
    return {*task.get("dependentTasks", ()), *producers}


def _ordered(tasks: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Each task behind those that it waits for."""
    done: set[str] = set()
    while len(done) < len(tasks):
        ready = [name for name in tasks if name not in done and _upstream(tasks[name]) <= done]
        if not ready:
            raise ValueError(f"tasks wait for each other: {sorted(set(tasks) - done)}")
        for name in ready:
            yield name, tasks[name]
        done.update(ready)


def _holds(condition: str, inputs: Mapping[str, str]) -> bool:
    match = _CONDITION.fullmatch(condition)
    if match is None:
        raise ValueError(f"the condition {condition!r} is not of the one form that is known here")
    return inputs[match[1]] == match[2]
