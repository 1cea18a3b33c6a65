"""What TFX's Trainer calls: `run_fn` trains on the columns and writes the SavedModel."""

import json
from pathlib import Path

import tensorflow_transform as tft
from tfx.components.trainer.fn_args_utils import FnArgs

from components.steps.parameters import from_parameter
from components.trainer import ThresholdConfig, TrainingConfig, train_and_export
from schemas.features import FeatureSpec

HISTORY_FILE = "history.json"
# Below the node's folder, next to those of its outputs.
_CHECKPOINT = Path(".checkpoint", "epoch.npz")


def run_fn(arguments: FnArgs) -> None:
    """Trains as `custom_config` says: `spec`, `training` and `thresholds`, each the JSON of its dataclass, and
    `rules_digest`."""
    config = arguments.custom_config
    # TFX hands over file patterns, <examples>/Split-train/*; the rows beside the splits are needed too.
    examples_root = Path(arguments.train_files[0]).parent.parent
    run_folder = Path(arguments.model_run_dir)
    trained = train_and_export(
        examples_root,
        FeatureSpec.from_json(config["spec"]),
        tft.TFTransformOutput(arguments.transform_output),
        from_parameter(TrainingConfig, config["training"]),
        from_parameter(ThresholdConfig, config["thresholds"]),
        config["rules_digest"],
        Path(arguments.serving_model_dir),
        run_folder,
        # Beside the outputs, which a try that follows on a killed one, or another run, finds emptied.
        run_folder.parent.parent / _CHECKPOINT,
    )
    summary = {"history": trained.history, "replicas": trained.replicas, "positive_weight": trained.positive_weight}
    (run_folder / HISTORY_FILE).write_text(json.dumps(summary), encoding="utf-8")
