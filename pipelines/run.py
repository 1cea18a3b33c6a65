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

from components import report
from components.devices import use_logical_cpus
from components.evaluation import refusal_reasons
from components.evidence import SplitEvidence
from components.examples import COUNTS_FILE
from components.gate import Reason, Verdict, anomaly_reasons, decide
from components.steps.artifacts import DriftResult, ExpectationResult, FeatureSpecification, Transactions
from components.steps.evidence import SPLITS
from components.steps.gate import read_anomalies
from components.steps.verdicts import read_verdict
from pipelines.runner import CompiledRun, Step, run_all
from pipelines.training import TrainingRun, build_pipeline
from schemas.bundle import THRESHOLDS_FILE
from schemas.digests import directory_digest
from schemas.features import FeatureSpec
from schemas.thresholds import Thresholds


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
        return conclude(run, steps, now(), time.monotonic() - began)


def conclude(run: TrainingRun, steps: Mapping[str, Step], finished: datetime, seconds: float) -> Outcome:
    """Writes the report of a run that has ended, and gives its answer.

    Args:
        steps: what its nodes did, by name.
        finished: when it ended; it names the report.
        seconds: how long it took.
    """
    page = run.workspace.reports / f"{run.pipeline_name}-{finished:%Y%m%dT%H%M%SZ}.html"
    outputs = _outputs(steps)
    verdicts = _verdicts(steps, outputs)
    verdict = decide(reason for one in verdicts.values() for reason in one.reasons)
    evidence = _evidence(outputs)
    rows = _rows(outputs)
    version, pushed = model_version(steps), _pushed(steps)
    whole = _report(run, steps, outputs, finished, verdicts, verdict, evidence, rows, pushed)
    page.parent.mkdir(exist_ok=True)
    page.write_text(report.render(whole), encoding="utf-8")
    return Outcome(
        "passed" if verdict.passed else "gate_failed",
        verdict.reasons,
        version,
        rows,
        {split: one.metrics() for split, one in evidence.items()},
        {step.name: round(step.seconds, 3) for step in steps.values()} | {"total": round(seconds, 3)},
        {step.name: step.state for step in steps.values()},
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        page,
    )


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


def _verdicts(steps: Mapping[str, Step], outputs: Outputs) -> dict[str, Verdict]:
    verdicts = {
        name: read_verdict(str(outputs[name, "verdict"])) for name in ("ingest", "gate") if (name, "verdict") in outputs
    }
    if "evaluator" in steps and steps["evaluator"].state != "skipped":
        verdicts["evaluator"] = decide(refusal_reasons(outputs["evaluator", "evaluation"]))
    return verdicts


def _evidence(outputs: Outputs) -> dict[str, SplitEvidence]:
    folder = outputs.get(("evidence", "evidence"))
    if folder is None:
        return {}
    return {split: SplitEvidence.from_json((folder / f"{split}.json").read_text(encoding="utf-8")) for split in SPLITS}


def _rows(outputs: Outputs) -> dict[str, int]:
    read = outputs.get(("ingest", "transactions"), Path("-")) / Transactions.REPORT
    rows = {}
    if read.is_file():
        ingest = json.loads(read.read_text(encoding="utf-8"))
        rows = {name: ingest[name] for name in ("read", "dead", "duplicate")}
    if ("examples", "examples") in outputs:
        rows |= json.loads((outputs["examples", "examples"] / COUNTS_FILE).read_text(encoding="utf-8"))
    return rows


def _report(
    run: TrainingRun,
    steps: Mapping[str, Step],
    outputs: Outputs,
    finished: datetime,
    verdicts: Mapping[str, Verdict],
    verdict: Verdict,
    evidence: Mapping[str, SplitEvidence],
    rows: Mapping[str, int],
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
        flows=_flows(rows),
        steps=tuple(report.StepLine(step.name, step.state, step.seconds) for step in steps.values()),
        verdicts=verdicts,
        expectations=_read(outputs, "expectations", ExpectationResult.FILE, report.read_expectations),
        drift=_read(outputs, "drift", DriftResult.FILE, report.read_drift),
        anomalies=_anomalies(outputs),
        evidence=tuple(evidence.values()),
        thresholds=Thresholds.from_json((folder / THRESHOLDS_FILE).read_text(encoding="utf-8")) if folder else None,
        pictures=_pictures(folder) if folder else (),
        features=tuple(i.name for i in FeatureSpec.from_json((spec / FeatureSpecification.FILE).read_text()).inputs)
        if spec
        else (),
        left_out=report.left_out(run.mapping.provided),
        digests={name: directory_digest(outputs[name, key]) for name, key in _DIGESTED if (name, key) in outputs}
        | {"mapping": run.mapping.digest},
        lineage={name: str(value) for name, value in pushed.items() if name.startswith("mlflow")},
    )


_DIGESTED = (("examples", "examples"), ("schema", "schema"), ("evaluator", "evaluation"), ("trainer", "model"))


def _pictures(folder: Path) -> tuple[report.Picture, ...]:
    """The test split first, because it is what the model is judged by; the course of training last."""
    order = {"test": 0, "validation": 1, "history": 2}
    pictures = sorted(folder.glob("*.png"), key=lambda one: (order[one.stem.partition("_")[0]], one.stem))
    return tuple(report.Picture(one.stem.replace("_", " "), one.read_bytes()) for one in pictures)


def _flows(rows: Mapping[str, int]) -> tuple[report.RowFlow, ...]:
    if not rows:
        return ()
    good = rows["read"] - rows["dead"] - rows["duplicate"]
    flows = [
        report.RowFlow("ingest", rows["read"], {"good": good, "dead": rows["dead"], "duplicate": rows["duplicate"]})
    ]
    if "train" in rows:
        parts = {name: count for name, count in rows.items() if name not in ("read", "dead", "duplicate")}
        flows.append(report.RowFlow("examples", good, parts))
    return tuple(flows)


def _span(outputs: Outputs) -> str:
    read = outputs.get(("ingest", "transactions"), Path("-")) / Transactions.REPORT
    if not read.is_file():
        return "-"
    ingest = json.loads(read.read_text(encoding="utf-8"))
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
