"""Step `data_gate`: one verdict from every check of the data; training runs only behind it."""

from datetime import UTC, datetime
from pathlib import Path

from tensorflow_metadata.proto.v0 import anomalies_pb2
from tfx.types.standard_artifacts import ExampleAnomalies
from tfx.v1.dsl.components import InputArtifact, OutputArtifact, Parameter, component

from components.gate import anomaly_reasons
from components.splits import SPLITS
from components.steps.artifacts import DriftResult, ExpectationResult, GateVerdict
from components.steps.parameters import from_parameter
from components.steps.verdicts import read_verdict, write_verdict
from schemas.acceptance import Acceptance


@component
def data_gate(
    anomalies: InputArtifact[ExampleAnomalies],
    expectation_result: InputArtifact[ExpectationResult],
    drift_result: InputArtifact[DriftResult],
    verdict: OutputArtifact[GateVerdict],
    acceptances: Parameter[str],
    code: Parameter[str],
) -> None:
    """One verdict from the schema's anomalies, the expectations and the drift; training runs only behind it.

    The acceptances carry no time unless somebody wrote one down, or the same run would never be found in the cache; the
    verdict has that of the first time that they counted.
    """
    reasons = [
        *(reason for found in read_anomalies(Path(anomalies.uri)) for reason in anomaly_reasons(found)),
        *read_verdict(expectation_result.uri).reasons,
        *read_verdict(drift_result.uri).reasons,
    ]
    # The splits of one log mostly share their anomalies; each is said once.
    write_verdict(
        verdict, dict.fromkeys(reasons), from_parameter(tuple[Acceptance, ...], acceptances), datetime.now(UTC)
    )


def read_anomalies(folder: Path) -> tuple[anomalies_pb2.Anomalies, ...]:
    """What ExampleValidator found in each split, from the folder that it wrote."""
    return tuple(
        anomalies_pb2.Anomalies.FromString((folder / f"Split-{split}" / "SchemaDiff.pb").read_bytes())
        for split in SPLITS
    )
