"""Step `build_examples`: transactions become examples with all declared features, split by time."""

import json

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tfx.components.util import examples_utils
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils
from tfx.v1.dsl.components import BeamComponentParameter, InputArtifact, OutputArtifact, Parameter, component

from components.examples import ROW_COLUMNS, to_examples, write_split
from components.features import build_feature_table, to_float32
from components.splits import PARTS, SPLITS, SplitConfig, assign, counts, plan
from components.steps.artifacts import FeatureSpecification, Transactions, path_of
from schemas.features import FeatureSpec
from schemas.transaction import LABEL
from tfx.types.standard_artifacts import Examples


@component(use_beam=True)
def build_examples(
    transactions: InputArtifact[Transactions],
    examples: OutputArtifact[Examples],
    feature_spec: OutputArtifact[FeatureSpecification],
    spec: Parameter[str],
    splits: Parameter[str],
    label_delay_s: Parameter[int],
    code: Parameter[str],
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
) -> None:
    """Computes the features of the whole log, then cuts it; every window thus sees all that came before it."""
    specification = FeatureSpec.from_json(spec)
    table = pq.read_table(path_of(transactions) / Transactions.TABLE)
