"""Runs that a gate has stopped, in MLflow: their verdict, because no version will ever tell of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from components.gate import Verdict
from components.registry.client import registry_errors
from components.registry.registration import EVIDENCE_DIR
from components.registry.runs import find_or_create, log_params, row_params
from schemas.acceptance import to_tags
from schemas.approval import GATE_FAILED, GATE_TAG
from schemas.versions import MODEL_NAME

if TYPE_CHECKING:
    from mlflow import MlflowClient

# Of a run of the pipeline in ML Metadata: the name of its context of type `pipeline_run`.
PIPELINE_RUN_TAG = "mlmd.pipeline_run"
# Where registration keeps the verdict of a run that passed.
VERDICT_FILE = f"{EVIDENCE_DIR}/GateVerdict/verdict.json"


@dataclass(frozen=True, kw_only=True)
class StoppedRun:
    """A run of the pipeline that no version came out of, because a gate said no.

    Attributes:
        pipeline_run: its id in ML Metadata.
        verdict: of all gates that it reached.
        data_span: the time that its log covers, for people.
        code_version: of the code that ran.
        rows: by what became of them, as far as they were counted.
        run_name: shown with the run.
        model_name: the registered model that it would have made a version of; its experiment.
    """

    pipeline_run: str
    verdict: Verdict
    data_span: str
    code_version: str
    rows: Mapping[str, int]
    run_name: str
    model_name: str = MODEL_NAME


def record_stop(client: MlflowClient, stopped: StoppedRun, artifact_root: str | None = None) -> str:
    """Keeps the verdict with a run in MLflow, whose id it gives; told twice, there is one run all the same.

    Args:
        client: see `components.registry.client.connect`.
        stopped: what to keep.
        artifact_root: URI below which a new experiment keeps its files; None leaves that to the server.

    Raises:
        RegistryError: MLflow refused.
    """
    tags = {
        PIPELINE_RUN_TAG: stopped.pipeline_run,
        GATE_TAG: GATE_FAILED,
        "data.span": stopped.data_span,
        "code.version": stopped.code_version,
    } | to_tags(stopped.verdict.acceptances)
    with registry_errors(f"recording the verdict of run {stopped.pipeline_run}"):
        run = find_or_create(client, stopped.model_name, PIPELINE_RUN_TAG, tags, stopped.run_name, artifact_root)
        log_params(client, run, row_params(stopped.rows))
        client.log_text(run.info.run_id, stopped.verdict.to_json(), VERDICT_FILE)
        client.set_terminated(run.info.run_id, "FINISHED")
        return str(run.info.run_id)
