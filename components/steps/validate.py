"""The steps between examples and training: schema, expectations, drift, and the gate that reads them all."""

from pathlib import Path

import pyarrow.parquet as pq
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import anomalies_pb2, statistics_pb2
from tfx.types.standard_artifacts import ExampleAnomalies, Examples, ExampleStatistics, Schema
from tfx.v1.dsl.components import InputArtifact, OutputArtifact, Parameter, component

from components import drift, expectations
from components.examples import read_features
from components.gate import anomaly_reasons
from components.schema import curated_schema
from components.splits import SPLITS
from components.steps.artifacts import (
    DriftResult,
    ExpectationResult,
    FeatureSpecification,
    GateVerdict,
    Transactions,
    path_of,
)
from components.steps.parameters import from_parameter
from components.steps.verdicts import read_verdict, write_reasons, write_verdict
from schemas import sources
from schemas.features import FeatureSpec


def read_feature_spec(artifact: FeatureSpecification) -> FeatureSpec:
    """The feature specification that the artifact holds."""
    return FeatureSpec.from_json((Path(artifact.uri) / FeatureSpecification.FILE).read_text(encoding="utf-8"))


@component
def curate_schema(
    feature_spec: InputArtifact[FeatureSpecification], schema: OutputArtifact[Schema], code: Parameter[str]
) -> None:
    """Cuts the curated schema down to what the source provides."""
    text = text_format.MessageToString(curated_schema(read_feature_spec(feature_spec)))
    (path_of(schema) / "schema.pbtxt").write_text(text, encoding="utf-8")


@component
def check_expectations(
    transactions: InputArtifact[Transactions],
    examples: InputArtifact[Examples],
    feature_spec: InputArtifact[FeatureSpecification],
    result: OutputArtifact[ExpectationResult],
    source: Parameter[str],
    mapping_digest: Parameter[str],
    sample_rows: Parameter[int],
    code: Parameter[str],
) -> None:
    """Asks the expectation suites about the log and about the features of the training split."""
    report = expectations.check(
        pq.read_table(Path(transactions.uri) / Transactions.TABLE),
        read_features(Path(examples.uri), "train", read_feature_spec(feature_spec)),
        sources.load(source),
        sample_rows,
    )
    (path_of(result) / ExpectationResult.FILE).write_text(report.to_json(), encoding="utf-8")
    write_reasons(result, expectations.reasons(report))


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


@component
def data_gate(
    anomalies: InputArtifact[ExampleAnomalies],
    expectation_result: InputArtifact[ExpectationResult],
    drift_result: InputArtifact[DriftResult],
    verdict: OutputArtifact[GateVerdict],
    code: Parameter[str],
) -> None:
    """One verdict from the schema's anomalies, the expectations and the drift; training runs only behind it."""
    reasons = [
        *(reason for found in read_anomalies(Path(anomalies.uri)) for reason in anomaly_reasons(found)),
        *read_verdict(expectation_result.uri).reasons,
        *read_verdict(drift_result.uri).reasons,
    ]
    # The splits of one log mostly share their anomalies; each is said once.
    write_verdict(verdict, dict.fromkeys(reasons))


def _training_statistics(statistics: ExampleStatistics) -> statistics_pb2.DatasetFeatureStatistics:
    return drift.load_statistics(Path(statistics.uri) / "Split-train" / "FeatureStats.pb")


def read_anomalies(folder: Path) -> tuple[anomalies_pb2.Anomalies, ...]:
    """What ExampleValidator found in each split, from the folder that it wrote."""
    return tuple(
        anomalies_pb2.Anomalies.FromString((folder / f"Split-{split}" / "SchemaDiff.pb").read_bytes())
        for split in SPLITS
    )
