"""Step `curate_schema`: the part of the curated schema that a source provides."""

from google.protobuf import text_format
from tfx.types.standard_artifacts import Schema
from tfx.v1.dsl.components import InputArtifact, OutputArtifact, Parameter, component

from components.schema import curated_schema
from components.steps.artifacts import FeatureSpecification, path_of, read_feature_spec


@component
def curate_schema(
    feature_spec: InputArtifact[FeatureSpecification], schema: OutputArtifact[Schema], code: Parameter[str]
) -> None:
    """Cuts the curated schema down to what the source provides."""
    text = text_format.MessageToString(curated_schema(read_feature_spec(feature_spec)))
    (path_of(schema) / "schema.pbtxt").write_text(text, encoding="utf-8")
