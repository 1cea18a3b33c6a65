"""The registry behind its port, on a real MLflow database and a real MLflow server."""

from __future__ import annotations

import dataclasses
import json
import urllib.request
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from components.registry.client import connect
from components.registry.registration import register
from pipelines.registry import MlflowRegistry
from schemas.approval import APPROVED, REVOKED, UNAUTHENTICATED, Approval, ApproversKey, decide, obstacles, read
from schemas.digests import directory_digest
from schemas.errors import DigestMismatchError, RegistryError
from serving.registry import Registry
from tests.registered import example, mlflow_server

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
KEY = ApproversKey(b"k" * 32)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One MLflow database for all tests; each test uses a model name of its own."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.fixture
def name(store: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """The name of a model with one version."""
    registration = example(tmp_path, request.node.name)
    register(connect(store), registration, (tmp_path / "artifacts").as_uri())
    return registration.model_name


@pytest.fixture
def registry(store: str, name: str) -> Registry:
    return MlflowRegistry(store, name)


def test_a_recorded_decision_is_what_others_read(registry: Registry, store: str, name: str) -> None:
    before = registry.version(1)
    made = decide(APPROVED, before.tags, version=1, by="ada", reason="finds more", time=NOON, key=KEY)
    registry.record(1, made)
    (seen,) = MlflowRegistry(store, name).versions()
    assert (seen.approval, read(seen.tags)) == ("approved", made)
    assert obstacles(seen.tags, 1, KEY) == ()
    assert {tag: value for tag, value in seen.tags.items() if not tag.startswith("approval")} == {
        tag: value for tag, value in before.tags.items() if not tag.startswith("approval")
    }


def test_an_unsigned_decision_leaves_no_signature_of_the_one_before(registry: Registry) -> None:
    approved = decide(APPROVED, registry.version(1).tags, version=1, by="ada", reason="fine", time=NOON, key=KEY)
    registry.record(1, approved)
    revoked = decide(REVOKED, registry.version(1).tags, version=1, by="bob", reason="alerts", time=NOON)
    registry.record(1, revoked)
    tags = registry.version(1).tags
    assert read(tags) == revoked
    assert "approval.signature" not in tags


def test_two_who_decide_at_once_are_told(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    ada, bob = (Approval(APPROVED, by, "fine", "2026-11-20T12:00:00+00:00") for by in ("ada", "bob"))
    reading = registry.version

    def bob_comes_between(version: int) -> Any:
        monkeypatch.setattr(registry, "version", reading)
        registry.record(1, bob)
        return reading(version)

    monkeypatch.setattr(registry, "version", bob_comes_between)
    with pytest.raises(RegistryError, match=r"approved by bob after it was set to approved by ada.*decide again"):
        registry.record(1, ada)


def test_a_decision_about_a_version_that_is_not_there_is_a_registry_error(registry: Registry) -> None:
    with pytest.raises(RegistryError, match="recording that version 9"):
        registry.record(9, Approval(APPROVED, "ada", "fine", "2026-11-20T12:00:00+00:00"))


def test_an_alias_names_one_version_until_it_is_moved_or_removed(
    registry: Registry, store: str, name: str, tmp_path: Path
) -> None:
    registry.remove_alias("champion")
    registry.set_alias("champion", 1)
    assert registry.version(1).aliases == ("champion",)
    second = dataclasses.replace(example(tmp_path / "second", name), data_span="2018-05-01 to 2018-10-31")
    register(connect(store), second, tmp_path.as_uri())
    registry.set_alias("champion", 2)
    assert [(one.version, one.aliases) for one in registry.versions()] == [(2, ("champion",)), (1, ())]
    registry.remove_alias("champion")
    assert [one.aliases for one in registry.versions()] == [(), ()]
    with pytest.raises(RegistryError, match=r"setting alias 'champion' .* to version 9"):
        registry.set_alias("champion", 9)


def test_what_is_downloaded_is_what_was_registered(registry: Registry, store: str, tmp_path: Path) -> None:
    registry.download(1, tmp_path / "served" / "1")
    seen = registry.version(1)
    assert directory_digest(tmp_path / "served" / "1") == seen.digests["saved_model"]
    assert seen.run_id is not None
    connect(store).log_text(seen.run_id, "another graph", "model/saved_model/saved_model.pb")
    with pytest.raises(DigestMismatchError, match=seen.digests["saved_model"]):
        registry.download(1, tmp_path / "served" / "2")
    assert [path.name for path in (tmp_path / "served").iterdir()] == ["1"]


def set_tag(server: str, name: str, tag: str, value: str) -> None:
    """As the pages of MLflow do it."""
    body = json.dumps({"name": name, "version": "1", "key": tag, "value": value}).encode()
    url = f"{server}/ajax-api/2.0/mlflow/model-versions/set-tag"
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as response:
        assert response.status == 200


@pytest.mark.slow
def test_an_approval_in_the_pages_of_a_real_server_counts_and_is_by_nobody_known(tmp_path: Path) -> None:
    registration = example(tmp_path, "fraud")
    with mlflow_server(tmp_path) as server:
        register(connect(server), registration)
        registry = MlflowRegistry(server)
        assert obstacles(registry.version(1).tags, 1) == ("version 1 is pending, not approved",)

        set_tag(server, "fraud", "approval", "approved")
        tags = registry.version(1).tags
        assert read(tags) == Approval(APPROVED, UNAUTHENTICATED)
        assert obstacles(tags, 1) == ()
        (told,) = obstacles(tags, 1, KEY)
        assert "without a signature" in told

        confirmed = decide(APPROVED, tags, version=1, by="ada", reason="looked at it", time=NOON, key=KEY)
        registry.record(1, confirmed)
        assert obstacles(registry.version(1).tags, 1, KEY) == ()

        set_tag(server, "fraud", "approval", "revoked")
        assert read(registry.version(1).tags) == Approval(REVOKED, UNAUTHENTICATED)
        assert obstacles(registry.version(1).tags, 1) == ("version 1 is revoked, not approved",)

        set_tag(server, "fraud", "approval", "pending")
        set_tag(server, "fraud", "gate", "failed")
        set_tag(server, "fraud", "approval", "approved")
        assert obstacles(registry.version(1).tags, 1) == ("the gate of version 1 says failed, not passed",)
        registry.download(1, tmp_path / "copy")
        assert directory_digest(tmp_path / "copy") == registration.digest_saved_model
