"""Step `check_expectations`: what Great Expectations says of the log and of the features."""

from pathlib import Path

from tfx.types.standard_artifacts import Examples
from tfx.v1.dsl.components import InputArtifact, OutputArtifact, Parameter, component

from components import expectations
from components.expectations import reading
from components.steps.artifacts import (
    ExpectationResult,
    FeatureSpecification,
    Transactions,
    path_of,
    read_feature_spec,
)
from components.steps.verdicts import write_reasons
from schemas import sources


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
    spec = read_feature_spec(feature_spec)
    report = expectations.check(
        reading.transactions(Path(transactions.uri) / Transactions.TABLE),
        reading.numbers(Path(examples.uri), "train", spec),
        spec,
        sources.load(source),
        sample_rows,
        data_docs=path_of(result) / ExpectationResult.DATA_DOCS,
    )
    (path_of(result) / ExpectationResult.FILE).write_text(report.to_json(), encoding="utf-8")
    write_reasons(result, expectations.reasons(report))
