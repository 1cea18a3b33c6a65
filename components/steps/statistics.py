"""Step `compute_statistics`: what TFDV says of every split of the examples."""

from pathlib import Path

import apache_beam as beam
import tensorflow_data_validation as tfdv
from tfx.dsl.component.experimental.annotations import BeamComponentParameter
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import Examples, ExampleStatistics
from tfx.v1.dsl.components import InputArtifact, OutputArtifact, Parameter, component

from components.splits import SPLITS
from components.statistics import write_statistics
from components.steps.artifacts import path_of


@component(use_beam=True)
def compute_statistics(
    examples: InputArtifact[Examples],
    statistics: OutputArtifact[ExampleStatistics],
    code: Parameter[str],
    pipeline: BeamComponentParameter[beam.Pipeline] = None,
) -> None:
    """Writes the statistics of every split."""
    write_statistics(Path(examples.uri), path_of(statistics), SPLITS, tfdv.StatsOptions(), pipeline)
    statistics.split_names = artifact_utils.encode_split_names(list(SPLITS))
    statistics.span = examples.span
