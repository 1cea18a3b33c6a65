"""Airflow's DAGs: of each manifest in the folder `manifests` beside this file, one that trains and one that promotes.

`fraudops compile airflow` writes the manifests.  This file knows Airflow and the standard library alone, because
Airflow has an environment of its own.  Without an image in the manifest, every node is a process of Airflow's worker,
on whose PATH the command `fraudops` is; with one, it is a pod that runs the same command.

    NAME-training     a task per node; behind each gate a branch, to the nodes that its verdict lets run or to
                      GATE_failed, which tells the reasons; `report`; and `promotion`, which starts the other DAG
    NAME-promotion    one run per registered version: waits until people approve it, then until it is rolled out

A gate that says no ends a run in its branch and not in a failure; a version that is rejected or rolled back is one.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shlex
import subprocess
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.python import BranchPythonOperator, PythonOperator
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.providers.standard.sensors.python import PythonSensor
from airflow.sdk import DAG, BaseOperator, CronDataIntervalTimetable, Param, PokeReturnValue, TriggerRule
from airflow.sdk.exceptions import AirflowException, AirflowFailException

# A DAG bundle has versions, and a manifest belongs to one of them; a Variable would be a call to the server per parse.
MANIFESTS = Path(__file__).parent / "manifests"
FORMAT = 1  # of manifests that this file can read

REGISTRATION = "registration"  # the node whose result names the model version
# People decide within days; who decides later starts the promotion again.
PATIENCE = timedelta(days=14)
LOOK_EVERY = timedelta(minutes=1)
# A pod per look costs more than a process does.
LOOK_BY_POD_EVERY = timedelta(minutes=10)
# Of versions that nobody has decided about none may keep the next from waiting.
MAX_WAITING = 64
# The image is some GB.
PULL_S = 1_800
# Where the XCom container of a pod looks.
POD_RESULT = "/airflow/xcom/return.json"

Manifest = dict[str, Any]
Judge = Callable[[Mapping[str, Any], Mapping[str, Any]], bool]

_log = logging.getLogger(__name__)


def pipeline_run(dag_run: Any) -> str:
    """The id of the pipeline's run: a file name, the same for all tasks and tries of a DAG run, and of no other.

    Run ids are unique within a DAG only, hold colons and signs, and may be named by people.
    """
    digest = hashlib.sha256(f"{dag_run.dag_id}/{dag_run.run_id}".encode()).hexdigest()[:10]
    readable = re.sub(r"[^A-Za-z0-9]+", "-", dag_run.run_id).strip("-")[:60]
    return f"{readable}-{digest}".lstrip("-")


def span(dag_run: Any) -> str:
    """The day that a run is about, YYYY-MM-DD: the last one in UTC that was over when its data interval ended.

    For a daily schedule that is the day on which the interval begins, at whatever hour; for a weekly one its last
    whole day.  A run that was started by hand without a date has no interval: then it is yesterday.
    """
    end: datetime = dag_run.data_interval_end or dag_run.run_after
    return f"{end.astimezone(UTC).date() - timedelta(days=1)}"


def registered_version(ti: Any) -> str:
    """The model version that the run's registration ended with."""
    version = ti.xcom_pull(task_ids=REGISTRATION)["model_version"]
    if version is None:
        raise AirflowFailException(f"{REGISTRATION} names no model version: see its log")
    return str(version)


def way_on(gate: str, behind: Sequence[str], ti: Any) -> list[str]:
    """The tasks that a gate's verdict leads to."""
    return list(behind) if ti.xcom_pull(task_ids=gate)["passed"] is True else [f"{gate}_failed"]


def tell_reasons(gate: str, ti: Any) -> None:
    """Logs why a gate said no."""
    for reason in ti.xcom_pull(task_ids=gate)["reasons"]:
        _log.log(
            logging.ERROR if reason["severity"] == "stop" else logging.WARNING,
            "%s: %s: %s",
            reason["severity"],
            reason["check"],
            reason["message"],
        )


def is_approved(version: Mapping[str, Any]) -> bool:
    """Whether a version, as `fraudops models show` has it, is approved; False while nobody has decided.

    Raises:
        AirflowFailException: it was rejected, or its approval was taken back.
    """
    if version["approval"] in (None, "pending"):
        _log.info("version %s waits for approval: fraudops models approve %s", version["version"], version["version"])
        return False
    decided = f"version {version['version']} is {version['approval']}, by {version['approval_by'] or 'nobody known'}"
    if reason := version["approval_reason"]:
        decided += f": {reason}"
    if version["approval"] != "approved":
        raise AirflowFailException(decided)
    _log.info("%s", decided)
    return True


def is_promoted(events: Sequence[Mapping[str, Any]], version: int, since: str) -> bool:
    """Whether a version was promoted, by the history of `fraudops rollout history`; False while that is open.

    since: when it was approved, ISO 8601; earlier rollouts of it do not count.  Empty where nobody knows.

    Raises:
        AirflowFailException: it was rolled back, refused, or replaced by a newer one while it waited.
    """
    begin = datetime.fromisoformat(since) if since else datetime.min.replace(tzinfo=UTC)
    recent = [event for event in events if datetime.fromisoformat(event["time"]) >= begin]
    of_version = [place for place, event in enumerate(recent) if event["version"] == version]
    if not of_version:
        _log.info("version %s waits for the rollout controller", version)
        return False
    last = recent[of_version[-1]]
    told = f"version {version} is {last['state']}: {last['reason']}"
    if last["state"] in ("rolled_back", "refused"):
        raise AirflowFailException(told)
    newer = [event for event in recent[of_version[-1] + 1 :] if event["state"] == "waiting"]
    if last["state"] == "waiting" and newer:
        raise AirflowFailException(f"version {version} was replaced while it waited: {newer[0]['reason']}")
    _log.info("%s", told)
    return bool(last["state"] == "promoted")


def training_dag(manifest: Manifest) -> DAG:
    """The DAG that takes a day's log to a registered version."""
    schedule, nodes = manifest["schedule"], manifest["nodes"]
    run = (
        *("--pipeline", manifest["definition"]),
        *("--run-id", "{{ pipeline_run(dag_run) }}"),
        *("--span", "{{ span(dag_run) }}"),
    )
    with DAG(
        dag_id=f"{manifest['name']}-training",
        description=f"From the log {manifest['log']} to a registered model version",
        # An interval, not a moment, because a run is about a day.  In UTC, as days of the log are.
        schedule=CronDataIntervalTimetable(schedule["cron"], timezone="UTC") if schedule["cron"] else None,
        start_date=_midnight(schedule["start"]),
        catchup=schedule["catchup"],
        max_active_runs=1,
        tags=["fraudops"],
        user_defined_macros={"pipeline_run": pipeline_run, "span": span, "registered_version": registered_version},
    ) as dag:
        tasks = {
            node["id"]: _command(
                manifest,
                node["id"],
                ("node", "run", "--node", node["id"], *run),
                resources=node["resources"],
                retries=node["retries"],
                retry_delay=timedelta(seconds=node["retry_delay_s"]),
                execution_timeout=timedelta(seconds=node["timeout_s"]),
            )
            for node in nodes
        }
        for node in nodes:
            tasks[node["id"]].set_upstream([tasks[id] for id in node["upstream"]])
        # A node that failed leaves no report, and a red run; a branch that was not taken does not count.
        report = _command(
            manifest, "report", ("report", *run), trigger_rule=TriggerRule.NONE_FAILED, retries=nodes[-1]["retries"]
        )
        for gate in (node["id"] for node in nodes if node["is_gate"]):
            behind = [node["id"] for node in nodes if node["under"][-1:] == [gate]]
            verdict = BranchPythonOperator(
                task_id=f"{gate}_verdict", python_callable=way_on, op_kwargs={"gate": gate, "behind": behind}
            )
            failed = PythonOperator(task_id=f"{gate}_failed", python_callable=tell_reasons, op_kwargs={"gate": gate})
            tasks[gate] >> verdict >> [*(tasks[id] for id in behind), failed]
            failed >> report
        depended_on = {id for node in nodes for id in node["upstream"]}
        report.set_upstream([task for id, task in tasks.items() if id not in depended_on])
        tasks[REGISTRATION] >> TriggerDagRunOperator(
            task_id="promotion",
            trigger_dag_id=f"{manifest['name']}-promotion",
            # One run per version, however often a registration is tried or found in the cache.
            trigger_run_id="version-{{ registered_version(ti) }}",
            skip_when_already_exists=True,
            conf={"version": "{{ registered_version(ti) }}"},
        )
    return dag


def promotion_dag(manifest: Manifest) -> DAG:
    """The DAG that follows a registered version until it decides for everybody, or never will."""
    version = "{{ params.version }}"
    workspace = ("--workspace", manifest["workspace"])
    registry = workspace if manifest["tracking_uri"] is None else ("--tracking-uri", manifest["tracking_uri"])

    def approved(found: Mapping[str, Any], context: Mapping[str, Any]) -> bool:
        return is_approved(found)

    def promoted(found: Mapping[str, Any], context: Mapping[str, Any]) -> bool:
        since = context["ti"].xcom_pull(task_ids="approval")["approval_time"]
        return is_promoted(found["events"], int(context["params"]["version"]), since)

    with DAG(
        dag_id=f"{manifest['name']}-promotion",
        description="Waits until a model version is approved, and then until it is rolled out",
        schedule=None,
        catchup=False,
        max_active_runs=MAX_WAITING,
        tags=["fraudops"],
        params={"version": Param(type="string", pattern="^[1-9][0-9]*$", description="Number of the model version.")},
    ) as dag:
        approval = _wait(manifest, "approval", ("models", "show", version, *registry), approved)
        rollout = _wait(manifest, "rollout", ("rollout", "history", *workspace), promoted)
        approval >> rollout
    return dag


def _command(
    manifest: Manifest,
    task_id: str,
    arguments: Sequence[str],
    resources: Mapping[str, Any] | None = None,
    **settings: Any,
) -> BaseOperator:
    """A task that runs `fraudops` and whose XCom is the object that it prints."""
    command = shlex.join(("fraudops", *arguments, "--json"))
    if manifest["image"] is not None:
        return _pod(manifest, task_id, f"exec {command} > {POD_RESULT}", resources, settings)
    return BashOperator(
        task_id=task_id,
        # By way of a file, because the operator takes the last line of both streams, whichever it came by.
        bash_command=f"{command} > result.json && cat result.json",
        output_processor=json.loads,
        **settings,
    )


def _pod(
    manifest: Manifest, task_id: str, script: str, resources: Mapping[str, Any] | None, settings: Mapping[str, Any]
) -> BaseOperator:
    """A task that runs a script of the shell in a pod, and whose XCom is what that writes to POD_RESULT."""
    # Seconds to import, and nobody without a cluster has to.
    from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator

    mounts: list[dict[str, Any]] = []
    volumes: list[dict[str, Any]] = []
    if volume := manifest["volume"]:
        mounts.append({"name": "workspace", "mountPath": volume["mount_path"]})
        volumes.append({"name": "workspace", "persistentVolumeClaim": {"claimName": volume["claim"]}})
    if secret := manifest["secret"]:
        mounts.append({"name": "secret", "mountPath": secret["mount_path"], "readOnly": True})
        volumes.append({"name": "secret", "secret": {"secretName": secret["name"]}})
    container = {"name": "base", "resources": _requests(resources or {}), "volumeMounts": mounts}
    spec = {"containers": [container], "volumes": volumes, "restartPolicy": "Never"}
    return KubernetesPodOperator(
        task_id=task_id,
        image=manifest["image"],
        namespace=manifest["namespace"],
        cmds=["sh", "-c"],
        arguments=[script],
        pod_template_dict={"apiVersion": "v1", "kind": "Pod", "spec": spec},
        do_xcom_push=True,
        startup_timeout_seconds=PULL_S,
        **settings,
    )


def _requests(resources: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """A container's resources; of GPUs Kubernetes wants to know the limit."""
    requests = {name: resources[name] for name in ("cpu", "memory") if resources.get(name)}
    gpus = resources.get("gpus", 0)
    return {"requests": requests, "limits": {"nvidia.com/gpu": str(gpus)} if gpus else {}}


def _wait(manifest: Manifest, task_id: str, arguments: Sequence[str], judge: Judge) -> BaseOperator:
    """A task that asks `fraudops` again and again until `judge` says yes to the answer, which is then its XCom.

    Between two looks it takes no place: as a process it is a sensor that is scheduled again, as a pod it is retried.
    """
    if manifest["image"] is not None:

        def insist(context: Mapping[str, Any], result: Any) -> None:
            if not judge(result, context):
                raise AirflowException("not yet; see above what it waits for")

        return _command(
            manifest,
            task_id,
            arguments,
            retries=PATIENCE // LOOK_BY_POD_EVERY,
            retry_delay=LOOK_BY_POD_EVERY,
            post_execute=insist,
        )

    def look(*command: str, **context: Any) -> PokeReturnValue:
        found = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
        return PokeReturnValue(judge(found, context), found)

    return PythonSensor(
        task_id=task_id,
        python_callable=look,
        op_args=["fraudops", *arguments, "--json"],
        mode="reschedule",
        poke_interval=LOOK_EVERY.total_seconds(),
        timeout=PATIENCE.total_seconds(),
        # The registry may be away for a while.
        retries=3,
    )


def _midnight(day: str) -> datetime:
    return datetime.combine(date.fromisoformat(day), datetime.min.time(), UTC)


def read_manifest(path: Path) -> Manifest:
    """A manifest as `fraudops compile airflow` wrote it.

    Raises:
        ValueError: the file is none, or one of another format.
    """
    manifest: Manifest = json.loads(path.read_text(encoding="utf-8"))
    if manifest.get("format") != FORMAT:
        raise ValueError(
            f"{path} is of format {manifest.get('format')!r} and not {FORMAT}: write it again, and put the DAG file of "
            "the same release beside it"
        )
    return manifest


# Airflow takes the DAGs that it finds among a module's names.
globals().update(
    (dag.dag_id, dag)
    for manifest in map(read_manifest, sorted(MANIFESTS.glob("*.json")))
    for dag in (training_dag(manifest), promotion_dag(manifest))
)
