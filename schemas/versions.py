"""A model version as the registry tells of it, and the names under which versions are found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

MODEL_NAME = "fraud"
CHAMPION = "champion"
CHALLENGER = "challenger"


@dataclass(frozen=True)
class Version:
    """A model version as the registry holds it; what it does not say is None or empty.

    Attributes:
        gate: `passed` or `failed`.
        approval: `pending`, `approved`, `rejected` or `revoked`; who decided, and why, is in the tags.
        aliases: such as `champion`.
        digests: by what they are of: `saved_model`, `evaluation`, `schema`.
        lineage: the other tags that say what it was made from: `data.span`, `code.version`, `mlmd.*`.
        run_id: of the MLflow run that holds its files.
        metrics: of that run, the last value of each; none where they were not asked for.
        created: in UTC.
        description: Markdown.
        tags: all of them, as `schemas.approval` reads them.
    """

    model_name: str
    version: int
    gate: str | None
    approval: str | None
    aliases: tuple[str, ...]
    digests: Mapping[str, str]
    lineage: Mapping[str, str]
    run_id: str | None
    metrics: Mapping[str, float]
    created: datetime
    description: str
    tags: Mapping[str, str]
