"""Reading the registry from a real MLflow database: what is there, what is not, and bytes that hold."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient

from components.registry.client import connect
from components.registry.registration import Registration, register
from components.registry.versions import champion, download_saved_model, list_versions, show_version
from schemas.digests import directory_digest
from schemas.errors import ArtifactError, DigestMismatchError, RegistryError
from tests.registered import example


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> MlflowClient:
    """One MLflow database for all tests; each test uses a model name of its own."""
    return connect(f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db")


@pytest.fixture
def registration(tmp_path: Path, request: pytest.FixtureRequest) -> Registration:
    return example(tmp_path, request.node.name)


def test_the_champion_is_the_version_under_that_alias(
    client: MlflowClient, registration: Registration, tmp_path: Path
) -> None:
    name = registration.model_name
    assert champion(client, name) is None
    register(client, registration, tmp_path.as_uri())
    assert champion(client, name) is None
    client.set_registered_model_alias(name, "champion", "1")
    assert champion(client, name) == 1
    assert list_versions(client, name)[0].aliases == ("champion",)
    assert show_version(client, 1, name).aliases == ("champion",)


def test_a_download_that_is_not_what_was_registered_leaves_nothing_behind(
    client: MlflowClient, registration: Registration, tmp_path: Path
) -> None:
    done = register(client, registration, (tmp_path / "artifacts").as_uri())
    destination = tmp_path / "served" / "1"
    download_saved_model(client, 1, destination, registration.model_name)
    assert directory_digest(destination) == registration.digest_saved_model
    with pytest.raises(ArtifactError, match="exists already"):
        download_saved_model(client, 1, destination, registration.model_name)

    client.log_text(done.run_id, "tampered", "model/saved_model/saved_model.pb")
    with pytest.raises(DigestMismatchError):
        download_saved_model(client, 1, tmp_path / "served" / "2", registration.model_name)
    assert [path.name for path in (tmp_path / "served").iterdir()] == ["1"]


def test_what_is_not_in_the_registry_is_named(client: MlflowClient, tmp_path: Path) -> None:
    assert list_versions(client, "nothing-here") == ()
    with pytest.raises(RegistryError, match="version 3 of model 'nothing-here'"):
        show_version(client, 3, "nothing-here")
    client.create_registered_model("by-hand")
    client.create_model_version("by-hand", tmp_path.as_uri())
    by_hand = show_version(client, 1, "by-hand")
    assert (by_hand.gate, by_hand.approval, by_hand.run_id, by_hand.metrics) == (None, None, None, {})
    with pytest.raises(RegistryError, match="not registered by fraudops"):
        download_saved_model(client, 1, tmp_path / "copy", "by-hand")


def test_metrics_are_left_out_where_nobody_asks_for_them(
    client: MlflowClient, registration: Registration, tmp_path: Path
) -> None:
    name = registration.model_name
    register(client, registration, tmp_path.as_uri())
    assert show_version(client, 1, name, with_metrics=False).metrics == {}
    assert list_versions(client, name, with_metrics=False)[0].metrics == {}
    assert list_versions(client, name)[0].metrics["test/average_precision"] == 0.61
