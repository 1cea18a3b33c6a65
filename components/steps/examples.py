"""Step `build_examples`: transactions become examples with all declared features, split by time."""

import json
import tempfile
from pathlib import Path

import pyarrow.parquet as pq
from tfx.components.util import examples_utils
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import Examples
from tfx.v1.dsl.components import InputArtifact, OutputArtifact, Parameter, component

from components import volumes
from components.examples import COUNTS_FILE, ROW_COLUMNS, ROWS_PER_BATCH, write_examples
from components.features import feature_batches
from components.rows import example_flow
from components.splits import SPLITS, SplitConfig
from components.steps.artifacts import FeatureSpecification, Transactions, path_of
from components.steps.parameters import from_parameter
from components.steps.rows import write_rows
from schemas.features import FeatureSpec
from schemas.transaction import LABEL


@component
def build_examples(
    transactions: InputArtifact[Transactions],
    examples: OutputArtifact[Examples],
    feature_spec: OutputArtifact[FeatureSpecification],
    spec: Parameter[str],
    splits: Parameter[str],
    label_delay_s: Parameter[int],
    code: Parameter[str],
) -> None:
    """Computes the features of the whole log, then cuts it: every window sees all that came before."""
    specification = FeatureSpec.from_json(spec)
    log = Path(transactions.uri) / Transactions.TABLE
    provided = pq.read_schema(log).names
    with tempfile.TemporaryDirectory(dir=path_of(examples)) as scratch:
        rows = write_examples(
            path_of(examples),
            pq.read_table(log, columns=[name for name in (*ROW_COLUMNS, LABEL) if name in provided]),
            feature_batches(log, Path(scratch), specification),
            specification,
            from_parameter(SplitConfig, splits),
            label_delay_s,
        )
    (path_of(examples) / COUNTS_FILE).write_text(json.dumps(rows), encoding="utf-8")
    transactions_file = pq.ParquetFile(log)
    write_rows(examples, example_flow(transactions_file.metadata.num_rows, rows))
    counted = volumes.count(transactions_file.iter_batches(ROWS_PER_BATCH, columns=volumes.COLUMNS), label_delay_s)
    (path_of(examples) / volumes.FILE).write_text(counted.to_json(), encoding="utf-8")
    (path_of(feature_spec) / FeatureSpecification.FILE).write_text(specification.to_json(), encoding="utf-8")
    examples.split_names = artifact_utils.encode_split_names(list(SPLITS))
    examples_utils.set_payload_format(examples, example_gen_pb2.PayloadFormat.FORMAT_PARQUET)
    examples_utils.set_file_format(
        examples, example_gen_pb2.FileFormat.Name(example_gen_pb2.FileFormat.FILE_FORMAT_PARQUET)
    )
