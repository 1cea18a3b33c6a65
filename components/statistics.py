"""Statistics of examples, as TFDV computes them."""

from __future__ import annotations

from pathlib import Path

from google.protobuf.message import DecodeError
from tensorflow_metadata.proto.v0 import statistics_pb2

from schemas.errors import ArtifactError


def load_statistics(path: Path) -> statistics_pb2.DatasetFeatureStatistics:
    """The statistics of one split, as StatisticsGen writes them (`Split-<name>/FeatureStats.pb`).

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
