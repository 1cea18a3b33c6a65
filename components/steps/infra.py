"""Step `validate_infra`: a model server loads the exported model and answers; registration runs only behind it."""

import tempfile
from datetime import UTC, datetime
from pathlib import Path

from tfx.types.standard_artifacts import Examples, Model
from tfx.utils import path_utils
from tfx.v1.dsl.components import InputArtifact, OutputArtifact, Parameter, component

from components.examples import read_batches
from components.infra import InfraConfig, validate
from components.scoring import read_spec
from components.steps.artifacts import GateVerdict
from components.steps.parameters import from_parameter
from components.steps.verdicts import write_verdict


@component
def validate_infra(
    model: InputArtifact[Model],
    examples: InputArtifact[Examples],
    verdict: OutputArtifact[GateVerdict],
    settings: Parameter[str],
    code: Parameter[str],
) -> None:
    """Nobody may accept what it finds: a model that is not served as it was trained has no evidence."""
    saved_model = Path(path_utils.serving_model_path(model.uri))
    spec = read_spec(saved_model)
    rows, _ = next(read_batches(Path(examples.uri), "validation", spec))
    with tempfile.TemporaryDirectory() as scratch:
        reasons = validate(saved_model, spec, rows, from_parameter(InfraConfig, settings), Path(scratch))
    write_verdict(verdict, reasons, (), datetime.now(UTC))
