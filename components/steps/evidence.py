"""Step `gather_evidence`: what the exported model does on validation and test, in numbers and pictures."""

import json
from pathlib import Path

from tfx.types.standard_artifacts import Examples, Model, ModelRun
from tfx.utils import path_utils
from tfx.v1.dsl.components import InputArtifact, OutputArtifact, Parameter, component

from components import plots
from components.baselines import read_scores
from components.gathering import EvidenceConfig, gather
from components.steps.artifacts import Baselines, ModelEvidence, path_of
from components.steps.parameters import from_parameter
from components.steps.train import HISTORY_FILE


@component
def gather_evidence(
    model: InputArtifact[Model],
    model_run: InputArtifact[ModelRun],
    examples: InputArtifact[Examples],
    baselines: InputArtifact[Baselines],
    evidence: OutputArtifact[ModelEvidence],
    settings: Parameter[str],
    code: Parameter[str],
    champion: InputArtifact[Model] = None,
) -> None:
    """Measures the model, beside the baselines and the champion, where there is one."""
    folder = path_of(evidence)
    gathered, pictures = gather(
        Path(path_utils.serving_model_path(model.uri)),
        Path(examples.uri),
        Path(path_utils.serving_model_path(champion.uri)) if champion else None,
        read_scores(Path(baselines.uri) / Baselines.SCORES),
        from_parameter(EvidenceConfig, settings),
    )
    gathered.write(folder)
    history = json.loads((Path(model_run.uri) / HISTORY_FILE).read_text(encoding="utf-8"))
    (folder / HISTORY_FILE).write_text(json.dumps(history), encoding="utf-8")
    for name, picture in {**pictures, "history": plots.history(history["history"])}.items():
        (folder / f"{name}.png").write_bytes(picture)
