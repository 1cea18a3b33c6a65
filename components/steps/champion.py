"""Resolver `champion`: the model that serves now and the statistics of its training rows, found by MLflow's alias."""

import hashlib
import logging
from pathlib import Path

import ml_metadata
from tfx.dsl.components.common.resolver import ResolverStrategy
from tfx.types import standard_artifacts
from tfx.types.artifact import Artifact
from tfx.utils import path_utils

from components.export import ASSETS_EXTRA, FEATURE_SPEC_FILE
from components.registry import champion, connect, show_version

_LINEAGE = {"model": "mlmd.model_id", "statistics": "mlmd.statistics_id"}


class ChampionStrategy(ResolverStrategy):
    """Keeps, of the artifacts given, those that the tags of the champion's version name.

    The lists are empty when there is no champion, when it came from another pipeline (another source), or when it reads
    other features than this run computes: then there is nothing to compare with, and the gate says "no baseline".
    """

    def __init__(self, tracking_uri: str, model_name: str, feature_spec_digest: str) -> None:
        self._tracking_uri = tracking_uri
        self._model_name = model_name
        self._feature_spec_digest = feature_spec_digest

    def resolve_artifacts(
        self, store: ml_metadata.MetadataStore, input_dict: dict[str, list[Artifact]]
    ) -> dict[str, list[Artifact]]:
        """The champion's `model` and `statistics` among the artifacts of this pipeline."""
        client = connect(self._tracking_uri)
        version = champion(client, self._model_name)
        tags = show_version(client, version, self._model_name).lineage if version is not None else {}
        found = {
            name: [one for one in artifacts if str(one.id) == tags.get(_LINEAGE[name])]
            for name, artifacts in input_dict.items()
        }
        if not all(found.values()) or not self._comparable(found["model"][0]):
            logging.getLogger(__name__).info("champion %s of %s is no baseline for this run", version, self._model_name)
            return {name: [] for name in input_dict}
        return found

    def _comparable(self, model: standard_artifacts.Model) -> bool:
        file = Path(path_utils.serving_model_path(model.uri)) / ASSETS_EXTRA / FEATURE_SPEC_FILE
        # The bytes, not what they mean: a declaration that this version cannot read any more is no baseline either.
        return file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest() == self._feature_spec_digest
