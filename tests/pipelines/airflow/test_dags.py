"""What the DAG file makes of a manifest, and what its functions answer, seen with Airflow's own Python."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.pipelines.airflow.manifests import GATES, NODES, manifest
from tests.pipelines.airflow.scheduler import ENVIRONMENT, deploy, require_airflow

pytestmark = pytest.mark.slow

CLUSTER: dict[str, Any] = {
    "image": "registry.example/fraudops:1",
    "volume": {"claim": "data", "mount_path": "/data"},
    "namespace": "ml",
    "secret": {"name": "metadata", "mount_path": "/secrets"},
}


def ask(dag_file: Path, calls: list[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    require_airflow()
    done = subprocess.run(
        [ENVIRONMENT / "bin" / "python", Path(__file__).with_name("inspection.py")],
        input=json.dumps({"dag_file": str(dag_file), "calls": calls}),
        env={"PATH": "/usr/bin:/bin", "AIRFLOW_HOME": str(dag_file.parent), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4_000:]
    # Airflow logs to standard output.
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def dags(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The DAGs of one pipeline as local processes and of one as pods."""
    folder = tmp_path_factory.mktemp("airflow")
    paths = []
    for name, cluster in (("local", {}), ("pods", CLUSTER)):
        path = folder / f"{name}.json"
        path.write_text(json.dumps(manifest(Path("/pipelines/fraud.yaml"), name) | cluster))
        paths.append(path)
    found: dict[str, Any] = ask(deploy(folder / "dags", *paths), [])["dags"]
    return found


def test_a_manifest_makes_two_dags(dags: dict[str, Any]) -> None:
    assert set(dags) == {"local-training", "local-promotion", "pods-training", "pods-promotion"}


def test_a_node_waits_for_what_it_reads_and_for_its_innermost_gate(dags: dict[str, Any]) -> None:
    tasks = dags["local-training"]["tasks"]
    for node, upstream, under in NODES:
        assert set(tasks[node]["upstream"]) == {*upstream, *(f"{gate}_verdict" for gate in under[-1:])}
    for gate in GATES:
        assert tasks[f"{gate}_verdict"]["upstream"] == [gate]
        assert tasks[f"{gate}_failed"]["upstream"] == [f"{gate}_verdict"]
    assert tasks["report"]["upstream"] == sorted([*(f"{gate}_failed" for gate in GATES), "registration"])
    assert tasks["report"]["trigger_rule"] == "none_failed"
    assert tasks["promotion"]["upstream"] == ["registration"]
    assert dags["local-promotion"]["tasks"]["rollout"]["upstream"] == ["approval"]


def test_tries_and_times_are_the_manifests(dags: dict[str, Any]) -> None:
    training = dags["local-training"]
    assert (training["max_active_runs"], training["catchup"]) == (1, False)
    assert training["start"] == "2026-01-01T00:00:00+00:00"
    for node, _, _ in NODES:
        task = training["tasks"][node]
        assert (task["retries"], task["retry_delay_s"], task["timeout_s"]) == (2, 1, 600)


def test_pods_run_the_same_commands_as_processes(dags: dict[str, Any]) -> None:
    local, pods = (dags[f"{name}-training"]["tasks"] for name in ("local", "pods"))
    assert local.keys() == pods.keys()
    for task in ("report", *(node for node, _, _ in NODES)):
        command = local[task]["script"].removesuffix(" > result.json && cat result.json")
        assert pods[task]["script"] == f"exec {command} > /airflow/xcom/return.json"
        assert pods[task]["type"] == "KubernetesPodOperator"
    assert local["trainer"]["script"] == (
        "fraudops node run --node trainer --pipeline /pipelines/fraud.yaml "
        "--run-id '{{ pipeline_run(dag_run) }}' --span '{{ span(dag_run) }}' --json > result.json && cat result.json"
    )
    assert {task["type"] for task in dags["pods-promotion"]["tasks"].values()} == {"KubernetesPodOperator"}


def test_a_pod_has_the_nodes_resources_the_volume_and_the_secret(dags: dict[str, Any]) -> None:
    spec = dags["pods-training"]["tasks"]["trainer"]["pod"]["spec"]
    [container] = spec["containers"]
    assert container["resources"] == {"requests": {"cpu": "2", "memory": "4Gi"}, "limits": {"nvidia.com/gpu": "1"}}
    assert {one["name"]: one["mountPath"] for one in container["volumeMounts"]} == {
        "workspace": "/data",
        "secret": "/secrets",
    }
    assert spec["volumes"] == [
        {"name": "workspace", "persistentVolumeClaim": {"claimName": "data"}},
        {"name": "secret", "secret": {"secretName": "metadata"}},
    ]


DAG_RUN = {"dag_id": "d", "run_id": "r", "data_interval_end": None, "run_after": "2026-03-05T07:00:00+00:00"}


def run_of(**changed: Any) -> dict[str, Any]:
    return {"dag_run": DAG_RUN | changed}


def version(approval: str, reason: str = "") -> dict[str, Any]:
    return {"version": {"version": 3, "approval": approval, "approval_by": "ann", "approval_reason": reason}}


def history(*events: tuple[int, str, str], since: str = "2026-03-05T00:00:00+00:00") -> dict[str, Any]:
    return {
        "events": [
            {"time": f"2026-03-05T00:00:0{place}.500+00:00", "version": of, "state": state, "reason": reason}
            for place, (of, state, reason) in enumerate(events)
        ],
        "version": 3,
        "since": since,
    }


SHORT, LONG = "scheduled__2026-03-04T00:00:00+00:00", "manual/" + "é " * 300
CASES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    # An interval that ends within a day is about the day before: the last that was over.
    ("span", run_of(data_interval_end="2026-03-05T00:00:00+00:00"), {"returned": "2026-03-04"}),
    ("span", run_of(data_interval_end="2026-03-05T03:00:00+00:00"), {"returned": "2026-03-04"}),
    ("span", run_of(data_interval_end="2026-03-05T00:30:00+01:00"), {"returned": "2026-03-03"}),
    ("span", run_of(), {"returned": "2026-03-04"}),
    ("is_approved", version("pending"), {"returned": False}),
    ("is_approved", version("approved", "fewer alerts"), {"returned": True}),
    (
        "is_approved",
        version("rejected", "too few frauds"),
        {"raised": "AirflowFailException: version 3 is rejected, by ann: too few frauds"},
    ),
    ("is_approved", version("revoked"), {"raised": "AirflowFailException: version 3 is revoked, by ann"}),
    ("is_promoted", history(), {"returned": False}),
    ("is_promoted", history((2, "promoted", "")), {"returned": False}),
    ("is_promoted", history((3, "shadow", "")), {"returned": False}),
    ("is_promoted", history((3, "promoted", "")), {"returned": True}),
    ("is_promoted", history((3, "rolling_back", "slow")), {"returned": False}),
    (
        "is_promoted",
        history((3, "rolled_back", "too slow")),
        {"raised": "AirflowFailException: version 3 is rolled_back: too slow"},
    ),
    (
        "is_promoted",
        history((3, "refused", "no signature")),
        {"raised": "AirflowFailException: version 3 is refused: no signature"},
    ),
    # What happened before it was approved again does not count.
    ("is_promoted", history((3, "rolled_back", "slow"), since="2026-03-05T00:00:01+00:00"), {"returned": False}),
    ("is_promoted", history((3, "promoted", ""), since=""), {"returned": True}),
    ("is_promoted", history((3, "waiting", "")), {"returned": False}),
    (
        "is_promoted",
        history((3, "waiting", ""), (4, "waiting", "4 is approved")),
        {"raised": "AirflowFailException: version 3 was replaced while it waited: 4 is approved"},
    ),
]


def test_the_functions_of_the_dag_file_answer(tmp_path: Path) -> None:
    calls = [(function, keywords) for function, keywords, _ in CASES]
    answers = ask(deploy(tmp_path / "dags"), calls)["calls"]
    assert answers == [expected for _, _, expected in CASES]


def test_the_id_of_a_pipelines_run_is_a_file_name_of_its_own(tmp_path: Path) -> None:
    runs = [run_of(run_id=SHORT), run_of(run_id=SHORT), run_of(run_id=SHORT, dag_id="other"), run_of(run_id=LONG)]
    runs += [run_of(run_id="a:b"), run_of(run_id="a+b"), run_of(run_id="~")]
    ids = [one["returned"] for one in ask(deploy(tmp_path / "dags"), [("pipeline_run", run) for run in runs])["calls"]]
    assert ids[0] == ids[1]
    assert len(set(ids)) == len(ids) - 1
    assert ids[0].startswith("scheduled-2026-03-04T00-00-00-00-00-")
    for id in ids:
        assert id.replace("-", "").isalnum() and id.isascii() and not id.startswith("-") and len(id) < 80


def test_a_manifest_of_another_format_is_named(tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    path.write_text(json.dumps(manifest(Path("/p.yaml")) | {"format": 2}))
    with pytest.raises(AssertionError, match=r"manifests/old\.json is of format 2 and not 1"):
        ask(deploy(tmp_path / "dags", path), [])
