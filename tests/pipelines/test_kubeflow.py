"""A manifest compiled for Kubeflow says the same as the manifest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from kfp import components

from pipelines.definition import Resources, Schedule, Secret, Volume
from pipelines.kubeflow import REPORT, write
from pipelines.manifest import FORMAT, Manifest, Node
from schemas.errors import ConfigurationError
from tests import kubeflow

IMAGE = "registry.example/fraudops-pipeline:1"
JOB = "0b1c9d4e"


def node(name: str, upstream: tuple[str, ...] = (), under: tuple[str, ...] = (), **more: Any) -> Node:
    settings = {"is_gate": False, "retries": 2, "retry_delay_s": 30, "timeout_s": 600}
    return Node(name, upstream, under, **{**settings, "resources": Resources(None, None, 0), **more})


MANIFEST = Manifest(
    format=FORMAT,
    name="fraud-daily",
    source="simulated",
    log="/data/log-{SPAN}.parquet",
    definition="/data/pipeline.yaml",
    workspace="/data/workspace",
    tracking_uri=None,
    schedule=Schedule(cron="0 3 * * *", start=date(2026, 1, 1), catchup=False),
    nodes=(
        node("ingest", is_gate=True),
        node("examples", ("ingest",), ("ingest",)),
        node("champion", ("ingest",), ("ingest",)),
        node("gate", ("ingest", "examples"), ("ingest",), is_gate=True),
        node(
            "trainer",
            ("examples", "gate"),
            ("ingest", "gate"),
            retries=0,
            timeout_s=7_200,
            resources=Resources("3500m", "16Gi", 1),
        ),
        node("evaluator", ("trainer", "champion", "gate"), ("ingest", "gate"), is_gate=True),
        node("registration", ("ingest", "trainer", "evaluator"), ("ingest", "gate", "evaluator")),
    ),
    image=IMAGE,
    volume=Volume(claim="fraudops", mount_path="/data"),
    namespace="risk",
    secret=Secret(name="metadata", mount_path="/etc/fraudops"),
)
NODES = {one.id: one for one in MANIFEST.nodes}


class Cluster:
    """Stands for the containers: gates say what they are told, and named tasks fail."""

    def __init__(self, said: Mapping[str, str] | None = None, failing: tuple[str, ...] = ()) -> None:
        self.said = said or {}
        self.failing = failing
        self.commands: dict[str, tuple[str, ...]] = {}

    def execute(self, container: kubeflow.Container) -> int:
        self.commands[container.task] = container.command
        if container.task in self.failing:
            return 2
        if "--passed-file" in container.command:
            file = Path(container.command[container.command.index("--passed-file") + 1])
            file.write_text(self.said.get(container.task, "true"), encoding="utf-8")
        return 0


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("compiled") / "fraud-daily.yaml"
    write(MANIFEST, out)
    return out


@pytest.fixture(scope="module")
def spec(compiled: Path) -> dict[str, Any]:
    return kubeflow.load(compiled)[0]


@pytest.fixture(scope="module")
def on_kubernetes(compiled: Path) -> dict[str, Any]:
    executors: dict[str, Any] = kubeflow.load(compiled)[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    return executors


def run(
    spec: dict[str, Any], cluster: Cluster, folder: Path, parameters: Mapping[str, str] | None = None
) -> dict[str, kubeflow.State]:
    given = {"span": "2026-03-01"} if parameters is None else parameters
    states = kubeflow.Interpreter(spec, JOB, folder, cluster.execute).run(given)
    return {name: state for name, state in states.items() if name in {*NODES, REPORT}}


def tasks(spec: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any], frozenset[str]]]:
    """Each container's task by name, with all that it waits for, groups of tasks around it included."""

    def within(
        graph: Mapping[str, Any], waited: frozenset[str]
    ) -> Iterator[tuple[str, Mapping[str, Any], frozenset[str]]]:
        for name, task in graph["tasks"].items():
            waits = waited | set(task.get("dependentTasks", ()))
            component = spec["components"][task["componentRef"]["name"]]
            if "dag" in component:
                yield from within(component["dag"], waits)
            else:
                yield name, task, waits

    return within(spec["root"]["dag"], frozenset())


def test_the_kfp_sdk_loads_what_was_compiled(compiled: Path) -> None:
    loaded = components.load_component_from_file(str(compiled))
    assert loaded.pipeline_spec.pipeline_info.name == "fraud-daily"
    assert {name for name in loaded.pipeline_spec.root.input_definitions.parameters} == {"source", "log", "span"}


def test_compiling_again_gives_the_same_bytes(compiled: Path, tmp_path: Path) -> None:
    write(MANIFEST, tmp_path / "again.yaml")
    assert (tmp_path / "again.yaml").read_bytes() == compiled.read_bytes()


def test_each_node_runs_itself_in_the_image_under_one_run_id(spec: dict[str, Any], tmp_path: Path) -> None:
    cluster = Cluster()
    assert run(spec, cluster, tmp_path) == dict.fromkeys((*NODES, REPORT), "succeeded")
    options = (
        "--pipeline", "/data/pipeline.yaml", "--run-id", JOB,
        "--span", "2026-03-01", "--source", "simulated", "--log", "/data/log-{SPAN}.parquet",
    )  # fmt: skip
    for name, one in NODES.items():
        said = ("--passed-file", str(tmp_path / name / "passed")) if one.is_gate else ()
        assert cluster.commands[name] == ("fraudops", "node", "run", "--node", name, *options, *said)
    assert cluster.commands[REPORT] == ("fraudops", "report", *options)
    executors = spec["deploymentSpec"]["executors"]
    assert {one["container"]["image"] for one in executors.values()} == {IMAGE}


def test_parameters_of_a_run_take_the_place_of_the_definition_s(spec: dict[str, Any], tmp_path: Path) -> None:
    cluster = Cluster()
    run(spec, cluster, tmp_path, {"span": "2026-03-02", "source": "sparkov", "log": "/data/other.parquet"})
    given = cluster.commands["registration"][-6:]
    assert given == ("--span", "2026-03-02", "--source", "sparkov", "--log", "/data/other.parquet")


def test_a_span_must_be_given_where_the_log_s_name_has_one(spec: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="span"):
        run(spec, Cluster(), tmp_path, {})


def test_no_span_is_asked_for_where_the_log_s_name_has_none(tmp_path: Path) -> None:
    write(replace(MANIFEST, log="/data/log.parquet"), tmp_path / "whole.yaml")
    spec, _ = kubeflow.load(tmp_path / "whole.yaml")
    cluster = Cluster()
    run(spec, cluster, tmp_path / "run", {})
    assert cluster.commands["examples"][-6:] == ("--span", "", "--source", "simulated", "--log", "/data/log.parquet")


def test_every_node_waits_for_those_before_it(spec: dict[str, Any]) -> None:
    waits = {name: found for name, _, found in tasks(spec)}
    assert waits.keys() == {*NODES, REPORT}
    for name, one in NODES.items():
        assert {*one.upstream, *one.under} <= waits[name] <= NODES.keys() - {name}


@pytest.mark.parametrize("gate", ["ingest", "gate", "evaluator"])
def test_behind_a_gate_that_says_no_only_the_report_runs(spec: dict[str, Any], tmp_path: Path, gate: str) -> None:
    states = run(spec, Cluster({gate: "false"}), tmp_path)
    skipped = {name for name, one in NODES.items() if gate in one.under}
    assert skipped
    assert {name for name, state in states.items() if state == "skipped"} == skipped
    assert {state for name, state in states.items() if name not in skipped} == {"succeeded"}


def test_behind_a_node_that_fails_only_what_needs_it_not_and_the_report_run(
    spec: dict[str, Any], tmp_path: Path
) -> None:
    states = run(spec, Cluster(failing=("trainer",)), tmp_path)
    assert states["trainer"] == "failed"
    assert {name for name, state in states.items() if state == "skipped"} == {"evaluator", "registration"}
    assert states[REPORT] == "succeeded"


def test_a_node_gets_what_it_asks_of_the_machine_and_no_other_does(spec: dict[str, Any]) -> None:
    containers = {
        name.removeprefix("exec-"): one["container"] for name, one in spec["deploymentSpec"]["executors"].items()
    }
    asked = containers["trainer"]["resources"]
    assert (asked["resourceCpuRequest"], asked["resourceCpuLimit"]) == ("3500m", "3500m")
    assert (asked["resourceMemoryRequest"], asked["resourceMemoryLimit"]) == ("16Gi", "16Gi")
    assert (asked["accelerator"]["resourceType"], asked["accelerator"]["resourceCount"]) == ("nvidia.com/gpu", "1")
    assert [name for name, one in containers.items() if "resources" in one] == ["trainer"]


def test_a_node_is_tried_again_as_often_and_as_late_as_it_says(spec: dict[str, Any]) -> None:
    policies = {name: task["retryPolicy"] for name, task, _ in tasks(spec) if "retryPolicy" in task}
    assert policies.keys() == NODES.keys() - {"trainer"}
    for policy in policies.values():
        assert (policy["maxRetryCount"], policy["backoffDuration"], policy["backoffFactor"]) == (2, "30s", 1.0)


def test_a_try_ends_at_its_timeout(on_kubernetes: dict[str, Any]) -> None:
    ends = {name: int(on_kubernetes[f"exec-{name}"]["activeDeadlineSeconds"]) for name in NODES}
    assert ends == {name: one.timeout_s for name, one in NODES.items()}


def test_every_container_sees_the_volume(on_kubernetes: dict[str, Any]) -> None:
    mounted = {name: one["pvcMount"] for name, one in on_kubernetes.items()}
    assert mounted.keys() == {f"exec-{name}" for name in (*NODES, REPORT)}
    for [one] in mounted.values():
        assert (one["constant"], one["mountPath"]) == ("fraudops", "/data")


def test_every_container_sees_the_secret_as_files(on_kubernetes: dict[str, Any]) -> None:
    for one in on_kubernetes.values():
        [secret] = one["secretAsVolume"]
        assert (secret["secretName"], secret["mountPath"], secret["optional"]) == ("metadata", "/etc/fraudops", False)


def test_kubeflow_s_cache_is_left_out(spec: dict[str, Any]) -> None:
    assert [name for name, task, _ in tasks(spec) if task.get("cachingOptions", {}).get("enableCache")] == []


def test_a_definition_without_a_cluster_cannot_be_compiled(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"/data/pipeline.yaml has no `cluster`"):
        write(replace(MANIFEST, image=None, volume=None), tmp_path / "out.yaml")


def test_an_amount_that_kubernetes_does_not_know_is_named_with_its_node(tmp_path: Path) -> None:
    nodes = (node("ingest", is_gate=True, resources=Resources("many", None, 0)),)
    with pytest.raises(ConfigurationError, match=r"node ingest.*many"):
        write(replace(MANIFEST, nodes=nodes), tmp_path / "out.yaml")


def test_a_file_that_is_not_named_as_yaml_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"out\.json"):
        write(MANIFEST, tmp_path / "out.json")
