"""Statistics of a whole log's features by TFDV, in batches, and what a schema has against them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow_data_validation as tfdv
from apache_beam.options.pipeline_options import PipelineOptions
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from components.examples import ROWS_PER_BATCH, to_examples
from components.features import to_float32
from components.features.table import IN_MEMORY
from components.gate import Reason, anomaly_reasons
from schemas.features import FeatureSpec
from schemas.transaction import LABEL

# Most rows of a log that is fresh have no label yet, and a label is one or the other behind the door of ingest.
_ENVIRONMENT = "SERVING"


def feature_batches(features: Path, spec: FeatureSpec) -> Iterator[pa.Table]:
    """The rows of a file of `build_feature_table`, in order, as examples have their values: float32 and text."""
    for batch in pq.ParquetFile(features).iter_batches(ROWS_PER_BATCH, columns=[i.name for i in spec.inputs]):
        yield to_float32(pa.Table.from_batches([batch]))


def feature_statistics(
    features: Path, spec: FeatureSpec, schema: schema_pb2.Schema
) -> statistics_pb2.DatasetFeatureStatisticsList:
    """TFDV's statistics of all rows of a file of `build_feature_table`, without the label.

    Args:
        schema: of the inputs of `spec`.
    """
    with tempfile.TemporaryDirectory(prefix="statistics.") as folder:
        out = Path(folder) / "statistics.pb"
        with beam.Pipeline(options=PipelineOptions(list(IN_MEMORY))) as pipeline:
            _ = (
                pipeline
                | "File" >> beam.Create([str(features)])
                | "Examples" >> beam.FlatMap(_example_batches, spec)
                | "Statistics" >> tfdv.GenerateStatistics(tfdv.StatsOptions(schema=schema))
                | "Write" >> tfdv.WriteStatisticsToBinaryFile(str(out))
            )
        return tfdv.load_stats_binary(str(out))


def find_faults(
    statistics: statistics_pb2.DatasetFeatureStatisticsList, schema: schema_pb2.Schema
) -> tuple[Reason, ...]:
    """What TFDV finds against the statistics, by feature."""
    return anomaly_reasons(tfdv.validate_statistics(statistics, schema, _ENVIRONMENT))


def _example_batches(features: str, spec: FeatureSpec) -> Iterator[pa.RecordBatch]:
    for table in feature_batches(Path(features), spec):
        unlabelled = table.append_column(LABEL, pa.array(np.zeros(table.num_rows, bool)))
        yield to_examples(unlabelled, spec).drop_columns([LABEL]).combine_chunks().to_batches()[0]
