"""Resolver `champion`: the model that serves now, with the statistics and the baseline of its training rows."""

import logging
from pathlib import Path

import ml_metadata
from tfx.dsl.components.common.resolver import ResolverStrategy
from tfx.types import standard_artifacts
from tfx.types.artifact import Artifact
from tfx.utils import path_utils

from components.registry.client import connect
from components.registry.versions import champion, show_version
from schemas.bundle import ASSETS_EXTRA, FEATURE_SPEC_FILE
from schemas.digests import directory_digest, file_digest
from schemas.versions import Version

_LINEAGE = {"model": "mlmd.model_id", "statistics": "mlmd.statistics_id", "baseline": "mlmd.baseline_id"}
# A version may be older than baselines are, or its baseline gone; a model can be judged beside it all the same.
_NEEDED = ("model", "statistics")


class ChampionStrategy(ResolverStrategy):
    """Keeps, of the artifacts given, those that the tags of the version name to which MLflow's alias points.

    The lists are empty when there is no champion, when it came from another pipeline (another source), or when it reads
    other features than this run computes: then there is nothing to compare with, and the gate says "no baseline".
    That of the baselines may be empty alone.
    """

    def __init__(self, tracking_uri: str, model_name: str, feature_spec_digest: str) -> None:
        self._tracking_uri = tracking_uri
        self._model_name = model_name
        self._feature_spec_digest = feature_spec_digest

    def resolve_artifacts(
        self, store: ml_metadata.MetadataStore, input_dict: dict[str, list[Artifact]]
    ) -> dict[str, list[Artifact]]:
        """The champion's `model`, `statistics` and `baseline` among the artifacts of this pipeline."""
        client = connect(self._tracking_uri)
        version = champion(client, self._model_name)
        shown = show_version(client, version, self._model_name) if version is not None else None
        tags = shown.lineage if shown else {}
        found = {
            name: [one for one in artifacts if str(one.id) == tags.get(_LINEAGE[name])]
            for name, artifacts in input_dict.items()
        }
        if not shown or not all(found[name] for name in _NEEDED) or not self._comparable(found["model"][0], shown):
            logging.getLogger(__name__).info("champion %s of %s is no baseline for this run", version, self._model_name)
            return {name: [] for name in input_dict}
        return found

    def _comparable(self, model: standard_artifacts.Model, shown: Version) -> bool:
        saved_model = Path(path_utils.serving_model_path(model.uri))
        spec = saved_model / ASSETS_EXTRA / FEATURE_SPEC_FILE
        # The bytes of the declaration, not what they mean: one that this version cannot read is no baseline either.
        # And those of the model, because ids start over in a new metadata store while the registry goes on.
        return (
            spec.is_file()
            and file_digest(spec) == self._feature_spec_digest
            and directory_digest(saved_model) == shown.digests.get("saved_model")
        )
