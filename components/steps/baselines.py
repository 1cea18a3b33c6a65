"""Step `train_baselines`: what simpler models make of the same features and splits."""

from pathlib import Path

import tensorflow_transform as tft
from tfx.types.standard_artifacts import Examples, TransformGraph
from tfx.v1.dsl.components import InputArtifact, OutputArtifact, Parameter, component

from components.baselines import BaselineConfig, baseline_scores, write_scores
from components.gathering import TEST, VALIDATION
from components.steps.artifacts import Baselines, path_of
from components.steps.parameters import from_parameter
from components.trainer import transform_split
from schemas.features import FeatureSpec


@component
def train_baselines(
    examples: InputArtifact[Examples],
    transform_graph: InputArtifact[TransformGraph],
    baselines: OutputArtifact[Baselines],
    spec: Parameter[str],
    settings: Parameter[str],
    code: Parameter[str],
) -> None:
    """Keeps the scores of validation and test, which is all that evidence asks of a baseline."""
    root, inputs = Path(examples.uri), FeatureSpec.from_json(spec)
    graph = tft.TFTransformOutput(transform_graph.uri)
    train, validation, test = (transform_split(root, split, inputs, graph) for split in ("train", VALIDATION, TEST))
    scores = baseline_scores(
        train, validation, {VALIDATION: validation[0], TEST: test[0]}, from_parameter(BaselineConfig, settings)
    )
    write_scores(scores, path_of(baselines) / Baselines.SCORES)
