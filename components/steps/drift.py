"""Step `check_drift`: how far the training data have moved from the champion's."""

from pathlib import Path

from tensorflow_metadata.proto.v0 import statistics_pb2
from tfx.types.standard_artifacts import ExampleStatistics
from tfx.v1.dsl.components import InputArtifact, OutputArtifact, Parameter, component

from components import drift
from components.steps.artifacts import DriftResult, path_of
from components.steps.parameters import from_parameter
from components.steps.verdicts import write_reasons


@component
def check_drift(
    statistics: InputArtifact[ExampleStatistics],
    result: OutputArtifact[DriftResult],
    thresholds: Parameter[str],
    code: Parameter[str],
    champion_statistics: InputArtifact[ExampleStatistics] = None,
) -> None:
    """Compares the training split with the one that the champion was trained on."""
    report = drift.compare(
        _training_statistics(statistics),
        _training_statistics(champion_statistics) if champion_statistics else None,
        from_parameter(drift.DriftThresholds, thresholds),
    )
    (path_of(result) / DriftResult.FILE).write_text(report.to_json(), encoding="utf-8")
    write_reasons(result, drift.reasons(report))


def _training_statistics(statistics: ExampleStatistics) -> statistics_pb2.DatasetFeatureStatistics:
    return drift.load_statistics(Path(statistics.uri) / "Split-train" / "FeatureStats.pb")
