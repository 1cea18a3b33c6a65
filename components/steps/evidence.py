"""Step `gather_evidence`: what the exported model does on validation and test, in numbers and pictures."""

import json
from pathlib import Path

import pyarrow as pa
from tfx.types.standard_artifacts import Examples, Model, ModelRun
from tfx.utils import path_utils
from tfx.v1.dsl.components import InputArtifact, OutputArtifact, Parameter, component

from components import plots
from components.evidence import measure
from components.examples import read_rows
from components.scoring import score_split
from components.steps.artifacts import ModelEvidence, path_of
from components.steps.train import HISTORY_FILE
from schemas.bundle import ASSETS_EXTRA, THRESHOLDS_FILE
from schemas.thresholds import Thresholds
from schemas.transaction import DAY_S, SECOND_US

SPLITS = ("validation", "test")


@component
def gather_evidence(
    model: InputArtifact[Model],
    model_run: InputArtifact[ModelRun],
    examples: InputArtifact[Examples],
    evidence: OutputArtifact[ModelEvidence],
    code: Parameter[str],
) -> None:
    """Scores both splits by the SavedModel itself, so that what is judged is what will serve."""
    saved_model, root, folder = Path(path_utils.serving_model_path(model.uri)), Path(examples.uri), path_of(evidence)
    thresholds = Thresholds.from_json((saved_model / ASSETS_EXTRA / THRESHOLDS_FILE).read_text(encoding="utf-8"))
    (folder / THRESHOLDS_FILE).write_text(thresholds.to_json(), encoding="utf-8")
    history = json.loads((Path(model_run.uri) / HISTORY_FILE).read_text(encoding="utf-8"))
    (folder / HISTORY_FILE).write_text(json.dumps(history), encoding="utf-8")
    for split in SPLITS:
        scores, labels = score_split(saved_model, root, split)
        rows = read_rows(root, split)
        day = rows["event_time"].cast(pa.int64()).to_numpy() // (SECOND_US * DAY_S)
        cards = rows["card_id"].combine_chunks().dictionary_encode().indices.to_numpy()
        measured = measure(split, labels, scores, rows["amount_base_minor"].to_numpy(), cards, day, thresholds)
        (folder / f"{split}.json").write_text(measured.to_json(), encoding="utf-8")
        for name, picture in plots.of_split(split, labels, scores, thresholds).items():
            (folder / f"{split}_{name}.png").write_bytes(picture)
    (folder / "history.png").write_bytes(plots.history(history["history"]))
