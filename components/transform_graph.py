"""The transform graph without a pipeline: what TFX's Transform makes of a split, for backtests and tests."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from schemas.features import FeatureSpec

if TYPE_CHECKING:
    from tfx_bsl.tfxio.parquet_tfxio import ParquetTFXIO


def parquet_source(examples_root: Path, split: str, spec: FeatureSpec) -> ParquetTFXIO:
    """A split as stock TFX components read it."""
    from tfx_bsl.tfxio.parquet_tfxio import ParquetTFXIO

    from components.schema import curated_schema

    return ParquetTFXIO(
        str(examples_root / f"Split-{split}" / "*"), schema=curated_schema(spec), telemetry_descriptors=["fraudops"]
    )


def write_transform_graph(examples_root: Path, split: str, spec: FeatureSpec, folder: Path) -> None:
    """Has TFT analyse a split, and writes the graph as `tft.TFTransformOutput` reads it.

    Args:
        examples_root: folder of the examples.
        split: the rows that means, deviations and vocabularies are of.
        spec: the inputs.
        folder: for the graph; made here.
    """
    import apache_beam as beam
    import tensorflow_transform.beam as tft_beam
    from apache_beam.options.pipeline_options import PipelineOptions

    from components.examples import ROWS_PER_BATCH
    from components.features.table import IN_MEMORY
    from components.transform import preprocessing_fn

    source = parquet_source(examples_root, split, spec)
    with (
        tempfile.TemporaryDirectory() as scratch,
        beam.Pipeline(options=PipelineOptions(list(IN_MEMORY))) as pipeline,
        tft_beam.Context(temp_dir=scratch),
    ):
        rows = pipeline | source.BeamSource(batch_size=ROWS_PER_BATCH)
        graph = (rows, source.TensorAdapterConfig()) | tft_beam.AnalyzeDataset(preprocessing_fn)
        _ = graph | tft_beam.WriteTransformFn(str(folder))
