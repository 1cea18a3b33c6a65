"""Step `register_model`: a blessed model becomes a version in MLflow.

TFX's Pusher takes a model and its blessings only, and a registration needs the evidence too; so this is a component of
its own with Pusher's contract: it runs behind a blessing and emits `PushedModel`.
"""

import json
import shutil
import tempfile
from pathlib import Path

from tfx.types.standard_artifacts import (
    Examples,
    ExampleStatistics,
    Model,
    ModelBlessing,
    ModelEvaluation,
    PushedModel,
    Schema,
)
from tfx.utils import path_utils
from tfx.v1.dsl.components import InputArtifact, OutputArtifact, Parameter, component

from components.evaluation import evaluation_digest
from components.examples import COUNTS_FILE
from components.gate import merged
from components.gathering import Gathered
from components.model_card import HTML_FILE, JSON_FILE, ModelCard
from components.pages import evidence_pictures
from components.registry.client import connect
from components.registry.registration import Registration, read_signature, register
from components.rows import outcomes, row_flows
from components.scoring import read_spec
from components.steps.artifacts import (
    DriftBaseline,
    DriftResult,
    ExpectationResult,
    GateVerdict,
    ModelEvidence,
    Transactions,
    path_of,
)
from components.steps.train import HISTORY_FILE
from components.steps.verdicts import read_verdict, write_file
from schemas.digests import directory_digest


@component
def register_model(
    model: InputArtifact[Model],
    blessing: InputArtifact[ModelBlessing],
    evaluation: InputArtifact[ModelEvaluation],
    evidence: InputArtifact[ModelEvidence],
    statistics: InputArtifact[ExampleStatistics],
    schema: InputArtifact[Schema],
    transactions: InputArtifact[Transactions],
    examples: InputArtifact[Examples],
    ingest_verdict: InputArtifact[GateVerdict],
    verdict: InputArtifact[GateVerdict],
    model_verdict: InputArtifact[GateVerdict],
    infra_verdict: InputArtifact[GateVerdict],
    expectation_result: InputArtifact[ExpectationResult],
    drift_result: InputArtifact[DriftResult],
    baseline: InputArtifact[DriftBaseline],
    pushed_model: OutputArtifact[PushedModel],
    source: Parameter[str],
    label_delay_s: Parameter[int],
    owner: Parameter[str],
    model_name: Parameter[str],
    tracking_uri: Parameter[str],
    artifact_root: Parameter[str],
    training: Parameter[str],
    code_version: Parameter[str],
    code: Parameter[str],
) -> None:
    """Registers the model with its evidence; the ids of MLflow and ML Metadata end up on each other's side.

    An empty `artifact_root` leaves to MLflow where files are kept.
    """
    saved_model, folder = Path(path_utils.serving_model_path(model.uri)), Path(evidence.uri)
    found = Gathered.read(folder)
    ingest = json.loads((Path(transactions.uri) / Transactions.REPORT).read_text(encoding="utf-8"))
    rows = json.loads((Path(examples.uri) / COUNTS_FILE).read_text(encoding="utf-8"))
    flows = row_flows(ingest, rows)
    gates = merged(read_verdict(one.uri) for one in (ingest_verdict, verdict, model_verdict, infra_verdict))
    trained = json.loads((folder / HISTORY_FILE).read_text(encoding="utf-8"))
    span = f"{ingest['first_event'][:10]} to {ingest['last_event'][:10]}"
    spec = read_spec(saved_model)
    digests = {
        "saved_model": directory_digest(saved_model),
        "evaluation": evaluation_digest(Path(evaluation.uri)),
        "schema": directory_digest(Path(schema.uri)),
    }
    card = ModelCard(
        source=source,
        span=span,
        label_delay_s=label_delay_s,
        rows=rows,
        features=[i.name for i in spec.inputs],
        found=found,
        verdict=gates,
        left_out=spec.left_out,
        owner=owner,
        digests=digests,
        code_version=code_version,
    )
    with tempfile.TemporaryDirectory() as scratch:
        collected = Path(scratch) / "evidence"
        shutil.copytree(folder, collected)
        for artifact in (expectation_result, drift_result):
            # Data Docs are megabytes of pictures and fonts, and say what the results beside them say.
            ignored = shutil.ignore_patterns(ExpectationResult.DATA_DOCS)
            shutil.copytree(artifact.uri, collected / artifact.type_name, ignore=ignored)
        write_file(collected / GateVerdict.TYPE_NAME, gates)
        (collected / JSON_FILE).write_text(card.to_json(), encoding="utf-8")
        (collected / HTML_FILE).write_text(card.to_html(evidence_pictures(folder)), encoding="utf-8")
        version = register(
            connect(tracking_uri),
            Registration(
                saved_model=saved_model,
                digest_saved_model=digests["saved_model"],
                digest_evaluation=digests["evaluation"],
                digest_schema=digests["schema"],
                data_span=span,
                code_version=code_version,
                mlmd_model_id=model.id,
                mlmd_statistics_id=statistics.id,
                mlmd_baseline_id=baseline.id,
                gate="passed",
                signature=read_signature(saved_model),
                evidence=collected,
                description=card.to_markdown(),
                run_name=f"{source} {ingest['last_event'][:10]}",
                params={key: json.dumps(value) for key, value in json.loads(training).items()}
                | {"replicas": str(trained["replicas"]), "fitted_positive_weight": f"{trained['positive_weight']:.6g}"},
                rows=outcomes(flows),
                acceptances=gates.acceptances,
                metrics={
                    f"{split}/{name}": value
                    for split, one in found.splits.items()
                    for name, value in one.metrics().items()
                },
                history=trained["history"],
                model_name=model_name,
            ),
            artifact_root or None,
        )
    pushed_model.set_string_custom_property("mlflow_run_id", version.run_id)
    pushed_model.set_int_custom_property("mlflow_model_version", version.version)
    (path_of(pushed_model) / "version.json").write_text(
        json.dumps({"model": version.model_name, "version": version.version, "run_id": version.run_id}),
        encoding="utf-8",
    )
