"""Model versions as the registry holds them: what their tags say, and their SavedModels, fetched and verified."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from components.registry.client import registry_errors
from schemas.approval import GATE_TAG, STATE_TAG
from schemas.digests import verify_directory
from schemas.errors import ArtifactError, RegistryError
from schemas.versions import CHAMPION, MODEL_NAME, Version

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

MODEL_DIR = "model"  # of the run's artifacts; what `models:/fraud/N` resolves to
SAVED_MODEL_DIR = "saved_model"  # below it, beside the file MLmodel

SAVED_MODEL_DIGEST_TAG = "digest.saved_model"
LINEAGE_TAGS: tuple[str, ...] = (
    "data.span",
    "code.version",
    "mlmd.model_id",
    "mlmd.statistics_id",
    "mlmd.baseline_id",
)


def list_versions(client: MlflowClient, name: str = MODEL_NAME, with_metrics: bool = True) -> tuple[Version, ...]:
    """Every version of a model, newest first; none where there is no such model.

    Args:
        client: see `components.registry.client.connect`.
        name: of the model.
        with_metrics: costs a call for each version; who looks often leaves them out.

    Raises:
        RegistryError: MLflow refused.
    """
    with registry_errors(f"listing the versions of model {name!r}"):
        found: list[ModelVersion] = []
        token: str | None = None
        while token != "":
            page = client.search_model_versions(f"name = '{name}'", page_token=token)
            found += page
            token = page.token or ""
        aliases = _aliases(client, name)  # a search does not fill in those of its versions
        return tuple(
            _version(client, one, aliases, with_metrics) for one in sorted(found, key=lambda one: -int(one.version))
        )


def show_version(client: MlflowClient, version: int, name: str = MODEL_NAME, with_metrics: bool = True) -> Version:
    """One version of a model; see `list_versions`.

    Raises:
        RegistryError: there is no such version, or MLflow refused.
    """
    with registry_errors(f"looking up version {version} of model {name!r}"):
        return _version(client, client.get_model_version(name, str(version)), _aliases(client, name), with_metrics)


def champion(client: MlflowClient, name: str = MODEL_NAME) -> int | None:
    """The version that the alias `champion` names, or None while there is none.

    Raises:
        RegistryError: MLflow refused.
    """
    with registry_errors(f"looking up the champion of model {name!r}"):
        return _aliases(client, name).get(CHAMPION)


def download_saved_model(client: MlflowClient, version: int, destination: Path, name: str = MODEL_NAME) -> None:
    """Copies the SavedModel of a version to `destination`, which appears only when the copy is complete and verified.

    Raises:
        DigestMismatchError: the registry's files are not those that were registered.
        ArtifactError: `destination` exists already.
        RegistryError: there is no such version, it carries no digest, or MLflow refused.
    """
    if destination.exists():
        raise ArtifactError(f"{destination} exists already; give a path where nothing is yet")
    shown = show_version(client, version, name)
    if "saved_model" not in shown.digests or not shown.run_id:
        raise RegistryError(
            f"version {version} of model {name!r} has no run or no tag {SAVED_MODEL_DIGEST_TAG}; it was not registered "
            "by fraudops, so its files cannot be trusted"
        )
    destination.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{destination.name}.", dir=destination.parent) as beside:
        with registry_errors(f"fetching version {version} of model {name!r}"):
            copy = fetch_saved_model(client, shown.run_id, beside)
        verify_directory(copy, shown.digests["saved_model"])
        copy.rename(destination)


def fetch_saved_model(client: MlflowClient, run_id: str, directory: str) -> Path:
    """Copies the SavedModel that a run holds below `directory`, unverified, and says where it lies."""
    return Path(client.download_artifacts(run_id, f"{MODEL_DIR}/{SAVED_MODEL_DIR}", directory))


def _aliases(client: MlflowClient, name: str) -> dict[str, int]:
    models = client.search_registered_models(f"name = '{name}'")
    return {alias: int(version) for model in models for alias, version in model.aliases.items()}


def _version(client: MlflowClient, found: ModelVersion, aliases: Mapping[str, int], with_metrics: bool) -> Version:
    tags: dict[str, str] = dict(found.tags)
    return Version(
        model_name=found.name,
        version=int(found.version),
        gate=tags.get(GATE_TAG),
        approval=tags.get(STATE_TAG),
        aliases=tuple(sorted(alias for alias, version in aliases.items() if version == int(found.version))),
        digests={
            tag.removeprefix("digest."): value for tag, value in sorted(tags.items()) if tag.startswith("digest.")
        },
        lineage={tag: tags[tag] for tag in LINEAGE_TAGS if tag in tags},
        run_id=found.run_id or None,
        metrics=dict(client.get_run(found.run_id).data.metrics) if with_metrics and found.run_id else {},
        created=datetime.fromtimestamp(found.creation_timestamp / 1000, UTC),
        description=found.description or "",
        tags=tags,
    )
