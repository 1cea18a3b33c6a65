"""Step `judge_model`: one verdict about a model; it is registered only behind it."""

from datetime import UTC, datetime
from pathlib import Path

from tfx.v1.dsl.components import InputArtifact, OutputArtifact, Parameter, component

from components.gathering import Gathered
from components.model_gate import ModelGateConfig, judge
from components.steps.artifacts import GateVerdict, ModelEvidence
from components.steps.parameters import from_parameter
from components.steps.verdicts import write_verdict
from schemas.acceptance import Acceptance


@component
def judge_model(
    evidence: InputArtifact[ModelEvidence],
    verdict: OutputArtifact[GateVerdict],
    bounds: Parameter[str],
    acceptances: Parameter[str],
    code: Parameter[str],
) -> None:
    """Holds what is known about a model against its bounds; the Evaluator's blessing is asked for besides."""
    reasons = judge(Gathered.read(Path(evidence.uri)), from_parameter(ModelGateConfig, bounds))
    write_verdict(verdict, reasons, from_parameter(tuple[Acceptance, ...], acceptances), datetime.now(UTC))
