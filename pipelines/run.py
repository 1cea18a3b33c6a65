"""One run of the training pipeline from end to end, and its answer: read off what the steps wrote."""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from components import attachments, report, volumes
from components.devices import use_logical_cpus
from components.evaluation import refusal_reasons
from components.examples import COUNTS_FILE
from components.gate import Reason, Verdict, anomaly_reasons, decide, merged
from components.gathering import Gathered
from components.pages import Picture, evidence_pictures
from components.registry.client import connect
from components.registry.stops import StoppedRun, record_stop
from components.rows import RowFlow, outcomes, row_flows
from components.steps.artifacts import DriftResult, ExpectationResult, FeatureSpecification, Transactions
from components.steps.gate import read_anomalies
from components.steps.verdicts import read_verdict
from components.volumes import Volumes
from pipelines.runner import CompiledRun, Step, run_all
from pipelines.training import TrainingRun, build_pipeline, code_version
from schemas.digests import directory_digest
from schemas.errors import RegistryError
from schemas.features import FeatureSpec


@dataclass(frozen=True)
class Outcome:
    """What a run came to.

    Attributes:
        status: `passed`, or `gate_failed` when a gate said no.
        reasons: of all gates, stops first.
        model_version: the version that the run ended with (a cached run ends with the earlier one), or None.
        rows: rows by what became of them; `read` is the sum of the others.
        metrics: by split and name.
        seconds: by step.
        steps: what each step did: `ran`, `cached`, `skipped`.
        peak_rss_mib: of this process.
        report: the HTML page.
        mlflow_run: in MLflow, what the version is of, or what holds the verdict of a run that was stopped; else None.
        unrecorded: why the verdict of a run that was stopped is not in MLflow; empty where it is.
    """

    status: Literal["passed", "gate_failed"]
    reasons: tuple[Reason, ...]
    model_version: int | None
    rows: dict[str, int]
    metrics: dict[str, dict[str, float]]
    seconds: dict[str, float]
    steps: dict[str, str]
    peak_rss_mib: float
    report: Path
    mlflow_run: str | None = None
    unrecorded: str = ""

    def fields(self) -> dict[str, Any]:
        """The object that `fraudops run --json` prints."""
        return {
            "status": self.status,
            "gate": {"reasons": self.reasons},
            "model_version": self.model_version,
            "rows": self.rows,
            "metrics": self.metrics,
            "seconds": self.seconds,
            "steps": self.steps,
            "peak_rss_mib": self.peak_rss_mib,
            "report": self.report,
            "mlflow_run": self.mlflow_run,
            "unrecorded": self.unrecorded,
        }


def execute(
    run: TrainingRun, until: str | None, on_step: Callable[[str], None], now: Callable[[], datetime]
) -> Outcome:
    """Runs the pipeline, alone in its workspace, and writes the report.

    Raises:
        FraudOpsError: the log, the configuration or the workspace is at fault.
    """
    # Steps before the training already start TensorFlow, and it takes its devices only then.
    use_logical_cpus(run.config.training.logical_cpu_devices)
    with run.workspace.exclusive():
        began, started = time.monotonic(), now()
        compiled = CompiledRun.of(build_pipeline(run, until), f"{run.pipeline_name}.{started:%Y%m%dT%H%M%S.%fZ}")
        steps = run_all(compiled, run.services.metadata.connection(), on_step)
        return conclude(run, compiled.run_id, steps, now(), time.monotonic() - began)


def conclude(run: TrainingRun, run_id: str, steps: Mapping[str, Step], finished: datetime, seconds: float) -> Outcome:
    """Writes the report of a run that has ended, and gives its answer; a stop is told to MLflow too.

    Args:
        run: what it was about.
        run_id: its name in ML Metadata.
        steps: what its nodes did, by name.
        finished: when it ended; it names the report.
        seconds: how long it took.
    """
    page = run.workspace.reports / f"{run.pipeline_name}-{finished:%Y%m%dT%H%M%SZ}.html"
    outputs = _outputs(steps)
    verdicts = _verdicts(steps, outputs)
    verdict = merged(verdicts.values())
    evidence = _evidence(outputs)
    flows = _flows(outputs)
    version, pushed = model_version(steps), _pushed(steps)
    page.parent.mkdir(exist_ok=True)
    links = _links(outputs, page.with_suffix(""))
    whole = _report(run, steps, outputs, finished, verdicts, verdict, evidence, flows, links, pushed)
    page.write_text(report.render(whole), encoding="utf-8")
    rows = outcomes(flows) if flows else {}
    mlflow_run, unrecorded = pushed.get("mlflow_run_id"), ""
    if not verdict.passed:
        mlflow_run, unrecorded = _record_stop(run, run_id, verdict, rows, _span(outputs))
    return Outcome(
        "passed" if verdict.passed else "gate_failed",
        verdict.reasons,
        version,
        rows,
        {split: one.metrics() for split, one in evidence.splits.items()} if evidence else {},
        {step.name: round(step.seconds, 3) for step in steps.values()} | {"total": round(seconds, 3)},
        {step.name: step.state for step in steps.values()},
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        page,
        None if mlflow_run is None else str(mlflow_run),
        unrecorded,
    )


def _record_stop(
    run: TrainingRun, run_id: str, verdict: Verdict, rows: Mapping[str, int], span: str
) -> tuple[str | None, str]:
    """The run in MLflow that holds the verdict, or why there is none.

    The verdict stands in ML Metadata and in the report; that MLflow is away must not hide it from who waits for it.
    """
    stopped = StoppedRun(
        pipeline_run=run_id,
        verdict=verdict,
        data_span=span,
        code_version=code_version(),
        rows=rows,
        run_name=f"{run.mapping.source} {span.rpartition(' ')[2]} stopped",
    )
    try:
        return record_stop(connect(run.services.tracking_uri), stopped, run.services.artifact_root), ""
    except RegistryError as error:
        return None, f"the verdict is in ML Metadata and in the report, but not in MLflow: {error}"


def model_version(steps: Mapping[str, Step]) -> int | None:
    """The version that a run ended with, None where it has none."""
    version = _pushed(steps).get("mlflow_model_version")
    return None if version is None else int(version)


def verdict_of(gate: str, steps: Mapping[str, Step]) -> Verdict | None:
    """What a gate said, with its reasons; None for a node that is none, or has not run."""
    return _verdicts(steps, _outputs(steps)).get(gate)


Outputs = Mapping[tuple[str, str], Path]


def _outputs(steps: Mapping[str, Step]) -> Outputs:
    return {(step.name, name): path for step in steps.values() for name, path in step.outputs.items()}


def _pushed(steps: Mapping[str, Step]) -> Mapping[str, str | int | float]:
    return steps["registration"].properties.get("pushed_model", {}) if "registration" in steps else {}


# Those that write a verdict; the Evaluator blesses instead.
_GATES = ("ingest", "gate", "model_gate", "infra")


def _verdicts(steps: Mapping[str, Step], outputs: Outputs) -> dict[str, Verdict]:
    verdicts = {name: read_verdict(str(outputs[name, "verdict"])) for name in _GATES if (name, "verdict") in outputs}
    if "evaluator" in steps and steps["evaluator"].state != "skipped":
        verdicts["evaluator"] = decide(refusal_reasons(outputs["evaluator", "evaluation"]))
    return verdicts


def _evidence(outputs: Outputs) -> Gathered | None:
    folder = outputs.get(("evidence", "evidence"))
    return None if folder is None else Gathered.read(folder)


def _flows(outputs: Outputs) -> tuple[RowFlow, ...]:
    read = outputs.get(("ingest", "transactions"), Path("-")) / Transactions.REPORT
    if not read.is_file():
        return ()
    folder = outputs.get(("examples", "examples"))
    return row_flows(
        json.loads(read.read_text(encoding="utf-8")),
        json.loads((folder / COUNTS_FILE).read_text(encoding="utf-8")) if folder else None,
    )


def _volumes(outputs: Outputs) -> Volumes | None:
    folder = outputs.get(("examples", "examples"))
    return Volumes.from_json((folder / volumes.FILE).read_text(encoding="utf-8")) if folder else None


def _links(outputs: Outputs, beside: Path) -> tuple[report.Link, ...]:
    """What the steps wrote for people, copied beside the page."""
    links: list[report.Link] = []
    if (result := outputs.get(("expectations", "result"))) is not None:
        links += attachments.data_docs(result / ExpectationResult.DATA_DOCS, beside)
    if (statistics := outputs.get(("statistics", "statistics"))) is not None:
        links.append(attachments.statistics_view(statistics, beside))
    return tuple(links)


def _report(
    run: TrainingRun,
    steps: Mapping[str, Step],
    outputs: Outputs,
    finished: datetime,
    verdicts: Mapping[str, Verdict],
    verdict: Verdict,
    evidence: Gathered | None,
    flows: tuple[RowFlow, ...],
    links: tuple[report.Link, ...],
    pushed: Mapping[str, str | int | float],
) -> report.RunReport:
    folder = outputs.get(("evidence", "evidence"))
    spec = outputs.get(("examples", "feature_spec"))
    version = pushed.get("mlflow_model_version")
    return report.RunReport(
        source=run.mapping.source,
        log=str(run.log),
        span=_span(outputs),
        finished=finished,
        passed=verdict.passed,
        model_version=int(version) if version is not None else None,
        flows=flows,
        volumes=_volumes(outputs),
        links=links,
        steps=tuple(report.StepLine(step.name, step.state, step.seconds) for step in steps.values()),
        verdicts=verdicts,
        expectations=_read(outputs, "expectations", ExpectationResult.FILE, report.read_expectations),
        drift=_read(outputs, "drift", DriftResult.FILE, report.read_drift),
        drift_pictures=_drift_pictures(outputs),
        anomalies=_anomalies(outputs),
        found=evidence,
        pictures=evidence_pictures(folder) if folder else (),
        features=tuple(i.name for i in FeatureSpec.from_json((spec / FeatureSpecification.FILE).read_text()).inputs)
        if spec
        else (),
        left_out=report.left_out(run.mapping.provided),
        digests={name: directory_digest(outputs[name, key]) for name, key in _DIGESTED if (name, key) in outputs}
        | {"mapping": run.mapping.digest},
        lineage={name: str(value) for name, value in pushed.items() if name.startswith("mlflow")},
    )


_DIGESTED = (("examples", "examples"), ("schema", "schema"), ("evaluator", "evaluation"), ("trainer", "model"))


def _drift_pictures(outputs: Outputs) -> tuple[report.Picture, ...]:
    folder = outputs.get(("drift", "result"), Path("-")) / DriftResult.PICTURES
    pictures = sorted(folder.glob("*.png"), key=lambda one: (one.stem != "overview", one.stem))
    return tuple(Picture(f"drift: {one.stem.replace('_', ' ')}", one.read_bytes()) for one in pictures)


def _span(outputs: Outputs) -> str:
    read = outputs.get(("ingest", "transactions"), Path("-")) / Transactions.REPORT
    if not read.is_file():
        return "-"
    ingest = json.loads(read.read_text(encoding="utf-8"))
    if ingest["first_event"] is None:  # no row was good
        return "-"
    return f"{ingest['first_event'][:10]} to {ingest['last_event'][:10]}"


def _anomalies(outputs: Outputs) -> tuple[Reason, ...] | None:
    folder = outputs.get(("anomalies", "anomalies"))
    return (
        None if folder is None else tuple(dict.fromkeys(r for a in read_anomalies(folder) for r in anomaly_reasons(a)))
    )


def _read(outputs: Outputs, step: str, file: str, reader: Callable[[Path], Any]) -> Any:
    folder = outputs.get((step, "result"))
    return reader(folder / file) if folder is not None else None


def utc_now() -> datetime:
    """The clock that runs use."""
    return datetime.now(UTC)
