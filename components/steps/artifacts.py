"""The artifact types of this project in ML Metadata, and the names of the files inside them."""

from pathlib import Path

from tfx.types.artifact import Artifact, Property, PropertyType
from tfx.types.system_artifacts import Dataset, Metrics

from schemas.features import FeatureSpec


class Transactions(Artifact):
    """Canonical transactions of one log in event-time order, and the report of reading it."""

    TYPE_NAME = "Transactions"
    TYPE_ANNOTATION = Dataset
    TABLE, REPORT = "transactions.parquet", "ingest.json"


class DeadLetters(Artifact):
    """Rows of a log that were not understood, each with its reason and position."""

    TYPE_NAME = "DeadLetters"
    TYPE_ANNOTATION = Dataset
    TABLE = "dead_letters.parquet"


class FeatureSpecification(Artifact):
    """Which declared features a source can provide, in the order of `score_packed`."""

    TYPE_NAME = "FeatureSpec"
    FILE = "feature_spec.json"


class ExpectationResult(Artifact):
    """What the expectation suites found in transactions and features; Great Expectations' own pages lie beside it."""

    TYPE_NAME = "ExpectationResult"
    TYPE_ANNOTATION = Metrics
    FILE, DATA_DOCS = "expectations.json", "data_docs"


class DriftBaseline(Artifact):
    """What the rows that a model was trained on looked like, and how much they changed from week to week."""

    TYPE_NAME = "DriftBaseline"
    TYPE_ANNOTATION = Metrics
    FILE = "baseline.json"


class DriftResult(Artifact):
    """How far the examples have moved from the champion's baseline, with pictures."""

    TYPE_NAME = "DriftResult"
    TYPE_ANNOTATION = Metrics
    FILE, PICTURES = "drift.json", "pictures"


class GateVerdict(Artifact):
    """What a gate decided, with its reasons."""

    TYPE_NAME = "GateVerdict"
    PROPERTIES = {"passed": Property(type=PropertyType.INT)}  # noqa: RUF012 (TFX reads it as it is)


class Baselines(Artifact):
    """Scores of validation and test by models that a network has to beat."""

    TYPE_NAME = "Baselines"
    TYPE_ANNOTATION = Dataset
    SCORES = "scores.npz"


class ModelEvidence(Artifact):
    """Metrics per split and plots of one model."""

    TYPE_NAME = "ModelEvidence"
    TYPE_ANNOTATION = Metrics


def path_of(artifact: Artifact) -> Path:
    """The artifact's folder, made if it is not there yet."""
    folder = Path(artifact.uri)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def read_feature_spec(artifact: FeatureSpecification) -> FeatureSpec:
    """The feature specification that the artifact holds."""
    return FeatureSpec.from_json((Path(artifact.uri) / FeatureSpecification.FILE).read_text(encoding="utf-8"))
