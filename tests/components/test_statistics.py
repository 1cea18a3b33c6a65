"""Statistics in one pass over all splits: they are those of the stock StatisticsGen, which reads the same examples."""

from __future__ import annotations

from pathlib import Path

import apache_beam as beam
import pytest
import tensorflow_data_validation as tfdv
from apache_beam.options.pipeline_options import PipelineOptions
from tensorflow_metadata.proto.v0 import statistics_pb2
from tfx.components.statistics_gen.executor import Executor
from tfx.components.util import examples_utils
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import Examples, ExampleStatistics

from components.features.table import IN_MEMORY
from components.splits import SPLITS, Part
from components.statistics import FILE, load_statistics, write_statistics
from schemas.errors import ArtifactError
from tests.components.tiny import ExampleSet


def pipeline() -> beam.Pipeline:
    return beam.Pipeline(options=PipelineOptions(list(IN_MEMORY)))


@pytest.fixture(scope="module")
def ours(tiny_examples: ExampleSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("ours")
    write_statistics(tiny_examples.root, out, SPLITS, tfdv.StatsOptions(), pipeline())
    return out


@pytest.fixture(scope="module")
def stock(tiny_examples: ExampleSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    examples, statistics = Examples(), ExampleStatistics()
    examples.uri, statistics.uri = str(tiny_examples.root), str(tmp_path_factory.mktemp("stock"))
    examples.split_names = artifact_utils.encode_split_names(list(SPLITS))
    examples_utils.set_payload_format(examples, example_gen_pb2.PayloadFormat.FORMAT_PARQUET)
    examples_utils.set_file_format(
        examples, example_gen_pb2.FileFormat.Name(example_gen_pb2.FileFormat.FILE_FORMAT_PARQUET)
    )
    Executor().Do({"examples": [examples]}, {"statistics": [statistics]}, {})
    return Path(statistics.uri)


def by_name(
    statistics: statistics_pb2.DatasetFeatureStatistics,
) -> dict[str, statistics_pb2.FeatureNameStatistics]:
    return {feature.path.step[0]: feature for feature in statistics.features}


@pytest.mark.parametrize("split", SPLITS)
def test_the_figures_are_those_of_statistics_gen(
    ours: Path, stock: Path, tiny_examples: ExampleSet, split: Part
) -> None:
    found, expected = (load_statistics(folder / f"Split-{split}" / FILE) for folder in (ours, stock))
    assert found.num_examples == expected.num_examples == tiny_examples.rows[split]
    features, theirs = by_name(found), by_name(expected)
    assert features.keys() == theirs.keys()
    for name, feature in features.items():
        kind = feature.WhichOneof("stats")
        assert kind == theirs[name].WhichOneof("stats"), name
        for figure in ("num_missing", "num_non_missing", "tot_num_values", "max_num_values"):
            mine, other = (getattr(getattr(f, kind).common_stats, figure) for f in (feature, theirs[name]))
            assert mine == other, f"{name}: {figure}"
        if kind == "num_stats":
            for figure in ("mean", "std_dev", "min", "max", "num_zeros"):
                mine, other = (getattr(f.num_stats, figure) for f in (feature, theirs[name]))
                assert mine == pytest.approx(other, rel=1e-9, nan_ok=True), f"{name}: {figure}"
        else:
            mine, other = (
                {bucket.label: bucket.sample_count for bucket in f.string_stats.rank_histogram.buckets}
                for f in (feature, theirs[name])
            )
            assert (mine, feature.string_stats.unique) == (other, theirs[name].string_stats.unique), name


def test_row_groups_make_no_difference_to_what_is_counted(
    ours: Path, tiny_examples: ExampleSet, tmp_path: Path
) -> None:
    import pyarrow.parquet as pq

    folder = tmp_path / "examples" / "Split-train"
    folder.mkdir(parents=True)
    table = pq.read_table(tiny_examples.root / "Split-train" / "examples.parquet")
    pq.write_table(table, folder / "examples.parquet", row_group_size=100, use_compliant_nested_type=False)
    write_statistics(tmp_path / "examples", tmp_path / "out", ["train"], tfdv.StatsOptions(), pipeline())
    many = by_name(load_statistics(tmp_path / "out" / "Split-train" / FILE))
    for name, one in by_name(load_statistics(ours / "Split-train" / FILE)).items():
        if one.WhichOneof("stats") == "string_stats":
            assert many[name].string_stats == one.string_stats, name
        else:
            assert many[name].num_stats.common_stats == one.num_stats.common_stats, name
            assert many[name].num_stats.mean == pytest.approx(one.num_stats.mean, rel=1e-12, nan_ok=True), name


def test_a_split_without_examples_is_refused_by_name(tiny_examples: ExampleSet, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no examples of holdout"):
        write_statistics(tiny_examples.root, tmp_path, ["train", "holdout"], tfdv.StatsOptions(), pipeline())
    assert list(tmp_path.iterdir()) == []
