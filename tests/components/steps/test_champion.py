"""Which artifacts stand for the champion, by what a real MLflow database says."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import ml_metadata
import pytest
from mlflow import MlflowClient
from tfx.types.standard_artifacts import ExampleStatistics, Model
from tfx.utils import path_utils

from components.registry.client import connect
from components.steps.artifacts import DriftBaseline
from components.steps.champion import ChampionStrategy
from schemas.bundle import ASSETS_EXTRA, FEATURE_SPEC_FILE
from schemas.digests import directory_digest
from schemas.features import FeatureSpec, specify
from schemas.transaction import REQUIRED

SPEC = specify({*REQUIRED, "currency"})
OTHER = specify(REQUIRED)


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.fixture(scope="module")
def client(uri) -> MlflowClient:
    return connect(uri)


@pytest.fixture
def name(request) -> str:
    """A registered model of the test's own, in one database for all."""
    return request.node.name


def artifact(kind, number: int, folder: Path):
    one = kind()
    one.id, one.uri = number, str(folder / f"{kind.TYPE_NAME}-{number}")
    return one


@pytest.fixture
def artifacts(tmp_path) -> dict[str, list]:
    """Three models, each with its feature specification, and what belongs to them, as one pipeline has made them."""
    models = [artifact(Model, number, tmp_path) for number in (3, 7, 11)]
    for model in models:
        carry(model, SPEC.to_json())
    return {
        "model": models,
        "statistics": [artifact(ExampleStatistics, number, tmp_path) for number in (2, 6, 10)],
        "baseline": [artifact(DriftBaseline, number, tmp_path) for number in (1, 5, 9)],
    }


def carry(model: Model, specification: str) -> None:
    folder = Path(path_utils.serving_model_dir(model.uri)) / ASSETS_EXTRA
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FEATURE_SPEC_FILE).write_text(specification)


def registered(client: MlflowClient, name: str, *versions: Mapping[str, str], champion: int | None) -> None:
    """A model with these versions, made of nothing but their tags."""
    client.create_registered_model(name)
    for tags in versions:
        client.create_model_version(name, source="file:///nowhere", tags=dict(tags))
    if champion is not None:
        client.set_registered_model_alias(name, "champion", str(champion))


def resolve(uri: str, name: str, artifacts: dict[str, list], spec: FeatureSpec = SPEC) -> dict[str, list[int]]:
    store = ml_metadata.MetadataStore(_in_memory())
    found = ChampionStrategy(uri, name, spec.digest).resolve_artifacts(store, artifacts)
    return {key: [one.id for one in ones] for key, ones in found.items()}


def _in_memory():
    from ml_metadata.proto import metadata_store_pb2

    config = metadata_store_pb2.ConnectionConfig()
    config.fake_database.SetInParent()
    return config


NOBODY: dict[str, list[int]] = {"model": [], "statistics": [], "baseline": []}


def linked(artifacts: dict[str, list], place: int = 1) -> dict[str, str]:
    """The tags of a version that was made of one of the artifacts."""
    model, statistics, baseline = (artifacts[name][place] for name in ("model", "statistics", "baseline"))
    return {
        "mlmd.model_id": str(model.id),
        "mlmd.statistics_id": str(statistics.id),
        "mlmd.baseline_id": str(baseline.id),
        "digest.saved_model": directory_digest(Path(path_utils.serving_model_path(model.uri))),
    }


def test_the_champion_is_found_by_the_ids_that_its_version_carries(client, uri, name, artifacts):
    registered(client, name, linked(artifacts), linked(artifacts, 2), champion=1)
    assert resolve(uri, name, artifacts) == {"model": [7], "statistics": [6], "baseline": [5]}


def test_the_alias_decides_and_not_the_newest_version(client, uri, name, artifacts):
    registered(client, name, linked(artifacts), linked(artifacts, 2), champion=2)
    assert resolve(uri, name, artifacts) == {"model": [11], "statistics": [10], "baseline": [9]}
    client.set_registered_model_alias(name, "champion", "1")
    assert resolve(uri, name, artifacts) == {"model": [7], "statistics": [6], "baseline": [5]}


def test_without_a_model_or_without_an_alias_nobody_is_champion(client, uri, name, artifacts):
    assert resolve(uri, name, artifacts) == NOBODY
    registered(client, name, linked(artifacts), champion=None)
    assert resolve(uri, name, artifacts) == NOBODY


@pytest.mark.parametrize(
    "tag, value",
    [
        ("mlmd.model_id", "999"),
        ("mlmd.statistics_id", "999"),
        ("mlmd.statistics_id", None),
        ("digest.saved_model", "0" * 64),
        ("digest.saved_model", None),
    ],
)
def test_a_champion_of_another_pipeline_or_metadata_store_is_no_baseline_here(client, uri, name, artifacts, tag, value):
    tags = {**linked(artifacts), tag: value}
    registered(client, name, {key: text for key, text in tags.items() if text is not None}, champion=1)
    assert resolve(uri, name, artifacts) == NOBODY


@pytest.mark.parametrize("baseline", [None, "999"])
def test_a_version_that_is_older_than_baselines_is_a_champion_without_one(client, uri, name, artifacts, baseline):
    tags = {**linked(artifacts), "mlmd.baseline_id": baseline}
    registered(client, name, {key: text for key, text in tags.items() if text is not None}, champion=1)
    assert resolve(uri, name, artifacts) == {"model": [7], "statistics": [6], "baseline": []}


def test_a_version_without_lineage_is_no_baseline(client, uri, name, artifacts):
    registered(client, name, {}, champion=1)
    assert resolve(uri, name, artifacts) == NOBODY


def test_the_first_run_of_a_pipeline_has_no_artifacts_to_find(client, uri, name, artifacts):
    registered(client, name, linked(artifacts), champion=1)
    assert resolve(uri, name, {"model": [], "statistics": [], "baseline": []}) == NOBODY


@pytest.mark.parametrize("specification", [OTHER.to_json(), "{}", "not of this version"])
def test_a_champion_that_reads_other_features_is_no_baseline(client, uri, name, artifacts, specification):
    carry(artifacts["model"][1], specification)
    registered(client, name, linked(artifacts), champion=1)
    assert resolve(uri, name, artifacts) == NOBODY


def test_a_champion_whose_files_are_gone_is_no_baseline(client, uri, name, artifacts):
    registered(client, name, linked(artifacts), champion=1)
    shutil.rmtree(artifacts["model"][1].uri)
    assert resolve(uri, name, artifacts) == NOBODY


def test_the_same_model_is_a_baseline_only_for_runs_with_its_features(client, uri, name, artifacts):
    registered(client, name, linked(artifacts), champion=1)
    assert resolve(uri, name, artifacts, OTHER) == NOBODY
    assert resolve(uri, name, artifacts, SPEC) == {"model": [7], "statistics": [6], "baseline": [5]}
