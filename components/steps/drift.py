"""Step `check_drift`: what this run's rows look like, and how far they have moved from the champion's training rows."""

from dataclasses import replace
from pathlib import Path

from tensorflow_metadata.proto.v0 import statistics_pb2
from tfx.types.standard_artifacts import Examples, ExampleStatistics, Schema
from tfx.v1.dsl.components import InputArtifact, OutputArtifact, Parameter, component

from components.comparators import exceeded
from components.profiles import lay_out, learn
from components.profiles.baseline import read_baseline
from components.profiles.config import DriftConfig
from components.profiles.examine import examine
from components.profiles.report import DriftReport
from components.schema import parse_schema
from components.splits import SPLITS
from components.statistics import load_statistics
from components.steps.artifacts import DriftBaseline, DriftResult, FeatureSpecification, path_of, read_feature_spec
from components.steps.parameters import from_parameter
from components.steps.verdicts import write_reasons
from components.watched import event_times_us, sample, watched


@component
def check_drift(
    examples: InputArtifact[Examples],
    feature_spec: InputArtifact[FeatureSpecification],
    statistics: InputArtifact[ExampleStatistics],
    schema: InputArtifact[Schema],
    baseline: OutputArtifact[DriftBaseline],
    result: OutputArtifact[DriftResult],
    settings: Parameter[str],
    code: Parameter[str],
    champion_statistics: InputArtifact[ExampleStatistics] = None,
    champion_baseline: InputArtifact[DriftBaseline] = None,
) -> None:
    """Learns the baseline of the training split for runs to come, and compares the rows with that of the champion.

    TFDV's comparators look at the newest split, the test rows, beside the champion's training rows.
    """
    root, spec, config = Path(examples.uri), read_feature_spec(feature_spec), from_parameter(DriftConfig, settings)
    layout = lay_out(sample(root, "train", spec), config.layout)
    learnt = learn(watched(root, ["train"], spec), layout, config.calibration, config.support)
    (path_of(baseline) / DriftBaseline.FILE).write_text(learnt.to_json(), encoding="utf-8")

    report = DriftReport()
    pictures: dict[str, bytes] = {}
    if champion_baseline:
        champions = read_baseline(Path(champion_baseline.uri) / DriftBaseline.FILE)
        times_us = event_times_us(root, SPLITS)
        report, pictures = examine(watched(root, SPLITS, spec), times_us, champions, config.severities)
    if champion_statistics:
        now, then = _statistics(statistics, "test"), _statistics(champion_statistics, "train")
        curated = parse_schema((Path(schema.uri) / "schema.pbtxt").read_text(encoding="utf-8"))
        report = replace(report, comparators=exceeded(now, then, curated))
    folder = path_of(result)
    (folder / DriftResult.FILE).write_text(report.to_json(), encoding="utf-8")
    (folder / DriftResult.PICTURES).mkdir(exist_ok=True)
    for name, picture in pictures.items():
        (folder / DriftResult.PICTURES / f"{name}.png").write_bytes(picture)
    write_reasons(result, report.reasons)


def _statistics(statistics: ExampleStatistics, split: str) -> statistics_pb2.DatasetFeatureStatistics:
    return load_statistics(Path(statistics.uri) / f"Split-{split}" / "FeatureStats.pb")
