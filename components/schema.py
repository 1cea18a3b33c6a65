"""The curated schema of examples, cut down to what one source provides."""

from __future__ import annotations

from importlib import resources

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from schemas.errors import ArtifactError, DeclarationError
from schemas.features import FeatureSpec
from schemas.transaction import LABEL

CURATED = "fraud.pbtxt"


def curated_text() -> str:
    """The text of `schemas/fraud.pbtxt`."""
    return (resources.files("schemas") / CURATED).read_text(encoding="utf-8")


def parse_schema(text: str) -> schema_pb2.Schema:
    """The curated schema from its text.

    Raises:
        ArtifactError: the text is not a schema.
    """
    try:
        return text_format.Parse(text, schema_pb2.Schema())
    except text_format.ParseError as error:
        raise ArtifactError(f"schemas/{CURATED} is not a schema in text format: {error}; mend that line") from error


def declared_schema() -> schema_pb2.Schema:
    """The whole of `schemas/fraud.pbtxt`: every declared input and the label.

    Raises:
        ArtifactError: the file is not a schema.
    """
    return parse_schema(curated_text())


def curated_schema(spec: FeatureSpec, whole: schema_pb2.Schema | None = None) -> schema_pb2.Schema:
    """The schema of one source's examples: its inputs in the order of `spec.inputs`, then the label.

    Args:
        spec: what the source provides of the declaration.
        whole: what to cut down; by default `declared_schema()`.

    Raises:
        DeclarationError: an input is declared, but not curated.
    """
    whole = declared_schema() if whole is None else whole
    by_name = {feature.name: feature for feature in whole.feature}
    names = [*(i.name for i in spec.inputs), LABEL]
    absent = [name for name in names if name not in by_name]
    if absent:
        raise DeclarationError(f"schemas/{CURATED} says nothing about {', '.join(absent)}; describe each of them there")
    schema = schema_pb2.Schema(default_environment=whole.default_environment, feature=[by_name[name] for name in names])
    used = {feature.domain for feature in schema.feature}
    schema.string_domain.extend(domain for domain in whole.string_domain if domain.name in used)
    return schema
