"""Statistics of examples: TFDV's own accumulators over whole row groups, all splits in one pass of Beam.

StatisticsGen comes to the same figures in five times the time: it has a graph of its own for every split, and counts
words in shuffles where a sketch would do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
from google.protobuf.message import DecodeError
from tensorflow_metadata.proto.v0 import statistics_pb2

from schemas.errors import ArtifactError

if TYPE_CHECKING:
    from tensorflow_data_validation import StatsOptions

FILE = "FeatureStats.pb"


def load_statistics(path: Path) -> statistics_pb2.DatasetFeatureStatistics:
    """The statistics of one split, as `write_statistics` and StatisticsGen write them (`Split-<name>/FeatureStats.pb`).

    Raises:
        ArtifactError: the file is absent, or holds no statistics.
    """
    try:
        datasets = statistics_pb2.DatasetFeatureStatisticsList.FromString(path.read_bytes()).datasets
    except (OSError, DecodeError) as error:
        raise ArtifactError(f"statistics {path} cannot be read ({error}); run the statistics step again") from error
    if not datasets:
        raise ArtifactError(f"statistics {path} are empty; run the statistics step again")
    return datasets[0]


def write_statistics(
    examples: Path, out: Path, splits: Sequence[str], options: StatsOptions, pipeline: beam.Pipeline
) -> None:
    """Writes `Split-<name>/FeatureStats.pb` below a folder for every split.

    Figures are those of StatisticsGen, but for those that rest on sketches: of a text with more than a few thousand
    words, how many it has and the counts of the most frequent ones are estimates (within 1 %).

    Args:
        examples: root of an `Examples` artifact in Parquet.
        out: root of an `ExampleStatistics` artifact.
        splits: their names.
        options: TFDV's; its sketches take the place of its exact counts of words.
        pipeline: it is run here; its workers must see both folders.

    Raises:
        ArtifactError: a split has no examples.
    """
    groups = [
        (split, str(file), number)
        for split in splits
        for file in sorted((examples / f"Split-{split}").glob("*.parquet"))
        for number in range(pq.read_metadata(file).num_row_groups)
    ]
    if absent := set(splits) - {split for split, _, _ in groups}:
        raise ArtifactError(f"{examples} has no examples of {', '.join(sorted(absent))}; run the examples step again")
    with pipeline as running:
        _ = (
            running
            | "Row groups" >> beam.Create(groups)
            | "Spread" >> beam.Reshuffle()
            | "Read" >> beam.FlatMap(_read)
            | "Accumulate" >> beam.CombinePerKey(_Accumulate(options))
            | "Write" >> beam.Map(_write, str(out))
        )


def _read(row_group: tuple[str, str, int]) -> Iterator[tuple[str, pa.RecordBatch]]:
    split, file, number = row_group
    for batch in pq.ParquetFile(file).read_row_group(number).combine_chunks().to_batches():
        yield split, batch


def _write(of_split: tuple[str, bytes], out: str) -> None:
    split, statistics = of_split
    folder = Path(out) / f"Split-{split}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE).write_bytes(statistics)


class _Accumulate(beam.CombineFn):
    """TFDV's accumulators of record batches, one per generator, and in the end its statistics, serialized."""

    def __init__(self, options: StatsOptions) -> None:
        super().__init__()
        self._options = options.to_json()
        self._generators: list[Any] = []

    def setup(self, *args: Any, **kwargs: Any) -> None:
        # Slow to import, and only the workers need it; its generators cannot be pickled.
        import tensorflow_data_validation as tfdv
        from tensorflow_data_validation.statistics import stats_impl

        self._generators = stats_impl.get_generators(tfdv.StatsOptions.from_json(self._options), in_memory=True)

    def create_accumulator(self) -> list[Any]:
        return [generator.create_accumulator() for generator in self._generators]

    def add_input(self, seen: list[Any], batch: pa.RecordBatch) -> list[Any]:
        return [g.add_input(of_generator, batch) for g, of_generator in zip(self._generators, seen, strict=True)]

    def merge_accumulators(self, parts: Iterable[list[Any]]) -> list[Any]:
        return [
            g.merge_accumulators(of_generator)
            for g, of_generator in zip(self._generators, zip(*parts, strict=True), strict=True)
        ]

    def compact(self, seen: list[Any]) -> list[Any]:
        return [g.compact(of_generator) for g, of_generator in zip(self._generators, seen, strict=True)]

    def extract_output(self, seen: list[Any]) -> bytes:
        from tensorflow_data_validation.statistics import stats_impl

        statistics: bytes = stats_impl.extract_statistics_output(seen, self._generators).SerializeToString(
            deterministic=True
        )
        return statistics
