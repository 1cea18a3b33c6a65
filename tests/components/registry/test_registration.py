"""The registry on a real MLflow database: one complete version whatever happens."""

from __future__ import annotations

import dataclasses
import shutil
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run

from components.registry.client import connect
from components.registry.registration import Registration, read_signature, register
from components.registry.versions import download_saved_model, list_versions, show_version
from schemas.acceptance import Acceptance, from_tags
from schemas.digests import directory_digest
from schemas.errors import ArtifactError, DigestMismatchError
from tests.registered import example, mlflow_server


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one MLflow database for all tests; each test uses a model name of its own."""
    return tmp_path_factory.mktemp("mlflow")


@pytest.fixture(scope="module")
def client(store: Path) -> MlflowClient:
    return connect(f"sqlite:///{store}/mlflow.db")


@pytest.fixture
def registration(tmp_path: Path, request: pytest.FixtureRequest) -> Registration:
    """A small directory that stands for a SavedModel, with evidence, under the test's own model name."""
    return example(tmp_path, request.node.name)


def test_a_registered_version_says_everything_it_was_registered_with(
    client: MlflowClient, registration: Registration, store: Path
) -> None:
    done = register(client, registration, f"{(store / 'artifacts').as_uri()}")
    assert (done.version, done.created) == (1, True)
    shown = show_version(client, 1, registration.model_name)
    assert (shown.gate, shown.approval, shown.aliases) == ("passed", "pending", ())
    assert shown.digests == {"saved_model": registration.digest_saved_model, "evaluation": "e" * 64, "schema": "s" * 64}
    assert shown.lineage == {
        "data.span": "2018-04-01 to 2018-09-30",
        "code.version": "0.1.0+abc",
        "mlmd.model_id": "7",
        "mlmd.statistics_id": "4",
        "mlmd.baseline_id": "5",
    }
    assert shown.metrics == {"test/average_precision": 0.61, "loss": 0.3}
    assert (shown.description, shown.run_id) == (registration.description, done.run_id)
    run = client.get_run(done.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"learning_rate": "0.001"}
    assert [(m.step, m.value) for m in client.get_metric_history(done.run_id, "loss")] == [(0, 0.5), (1, 0.4), (2, 0.3)]
    assert {file.path for file in client.list_artifacts(done.run_id, "evidence")} == {
        "evidence/plots",
        "evidence/test.json",
    }
    assert run.info.artifact_uri.startswith((store / "artifacts" / registration.model_name).as_uri())


def test_the_version_is_usable_by_its_models_uri(
    client: MlflowClient, registration: Registration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.artifacts import download_artifacts
    from mlflow.models import Model

    register(client, registration, tmp_path.as_uri())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", client.tracking_uri)  # as a person would
    local = Path(download_artifacts(f"models:/{registration.model_name}/1", dst_path=str(tmp_path / "local")))
    assert directory_digest(local / "saved_model") == registration.digest_saved_model
    signature = Model.load(str(local)).signature
    assert signature.inputs.input_names() == ["amount", "channel", "last"]
    flavor = yaml.safe_load((local / "MLmodel").read_text())["flavors"]["tensorflow"]
    assert (flavor["saved_model_dir"], flavor["signature_def_key"]) == ("saved_model", "score")


def test_registering_twice_gives_one_version(client: MlflowClient, registration: Registration, tmp_path: Path) -> None:
    first, second = (register(client, registration, tmp_path.as_uri()) for _ in range(2))
    assert second == dataclasses.replace(first, created=False)
    assert len(list_versions(client, registration.model_name)) == 1


def test_what_people_accepted_and_the_rows_are_kept_with_the_version(
    client: MlflowClient, registration: Registration, tmp_path: Path
) -> None:
    accepted = (
        Acceptance("drift", "a new app", "m.keller", "channel", "2026-03-01T12:00:00+00:00"),
        Acceptance("ingest", "a bad day", "m.keller", at="2026-03-01T12:00:00+00:00"),
    )
    mine = dataclasses.replace(registration, acceptances=accepted, rows={"read": 10, "train": 7})
    done = register(client, mine, tmp_path.as_uri())
    assert from_tags(show_version(client, 1, mine.model_name).tags) == accepted
    run = client.get_run(done.run_id)
    assert from_tags(run.data.tags) == accepted
    assert {name: run.data.params[f"rows.{name}"] for name in ("read", "train")} == {"read": "10", "train": "7"}


def test_the_same_acceptance_at_another_time_is_the_same_version_and_for_another_reason_is_not(
    client: MlflowClient, registration: Registration, tmp_path: Path
) -> None:
    def registered(reason: str, at: str) -> int:
        accepted = (Acceptance("drift", reason, "m.keller", at=at),)
        return register(client, dataclasses.replace(registration, acceptances=accepted), tmp_path.as_uri()).version

    assert registered("a new app", "2026-03-01T12:00:00+00:00") == 1
    assert registered("a new app", "2026-03-02T12:00:00+00:00") == 1
    assert registered("a new market", "2026-03-02T12:00:00+00:00") == 2


def test_the_same_model_with_other_evidence_is_another_version(
    client: MlflowClient, registration: Registration, tmp_path: Path
) -> None:
    register(client, registration, tmp_path.as_uri())
    again = dataclasses.replace(registration, digest_evaluation="f" * 64, gate="failed")
    assert register(client, again, tmp_path.as_uri()).version == 2
    newest, oldest = list_versions(client, registration.model_name)
    assert (newest.version, newest.gate, oldest.version, oldest.gate) == (2, "failed", 1, "passed")


class Crash(BaseException):
    """Stands for the death of the process: nothing catches it."""


class CrashingClient:
    """A real client whose process dies before or right after its n-th call."""

    def __init__(self, client: MlflowClient, call: int, before: bool) -> None:
        self.client, self.left, self.before = client, call, before

    def __getattr__(self, name: str) -> Any:
        real = getattr(self.client, name)
        if not callable(real):
            return real

        def called(*args: Any, **kwargs: Any) -> Any:
            self.left -= 1
            if self.left == 0 and self.before:
                raise Crash(name)
            result = real(*args, **kwargs)
            if self.left == 0:
                raise Crash(name)
            return result

        return called


def runs_of(client: MlflowClient, registration: Registration) -> list[Run]:
    experiment = client.get_experiment_by_name(registration.model_name)
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id]))


def calls_of_one_registration(client: MlflowClient, registration: Registration, root: str) -> int:
    counting = CrashingClient(client, call=-1, before=True)
    register(counting, registration, root)  # type: ignore[arg-type]
    return -1 - counting.left


def test_a_crash_between_any_two_calls_and_a_retry_leave_one_complete_version(
    client: MlflowClient, registration: Registration, tmp_path: Path
) -> None:
    name, root = registration.model_name, tmp_path.as_uri()
    calls = calls_of_one_registration(client, dataclasses.replace(registration, model_name=f"{name}-counted"), root)
    assert calls >= 10
    for call in range(1, calls + 1):
        # Its own model name, because the first registration of a name makes more calls than the next.
        mine = dataclasses.replace(registration, model_name=f"{name}-{call}")
        with pytest.raises(Crash):
            register(CrashingClient(client, call, before=False), mine, root)  # type: ignore[arg-type]
        for seen in list_versions(client, mine.model_name):  # what others may see meanwhile is complete
            assert (seen.gate, seen.approval) == ("passed", "pending")
        done = register(client, mine, root)
        (only,) = list_versions(client, mine.model_name)
        assert (only.version, only.run_id, only.digests["saved_model"]) == (1, done.run_id, mine.digest_saved_model)
        (run,) = runs_of(client, mine)
        assert (run.info.run_id, run.info.status) == (done.run_id, "FINISHED")
        assert [m.value for m in client.get_metric_history(done.run_id, "loss")] == [0.5, 0.4, 0.3]
        download_saved_model(client, 1, tmp_path / f"copy-{call}", mine.model_name)


def test_a_copy_cut_short_by_a_crash_is_completed_by_the_retry(
    client: MlflowClient, registration: Registration, tmp_path: Path
) -> None:
    class HalfCopying(CrashingClient):
        def log_artifacts(self, run_id: str, local_dir: str, artifact_path: str) -> None:
            if artifact_path.startswith("model"):
                half = shutil.copytree(local_dir, tmp_path / "half")
                (half / "saved_model.pb").write_bytes(b"a gr")
                (half / "variables" / "variables.index").unlink()
                self.client.log_artifacts(run_id, str(half), artifact_path)
                raise Crash("log_artifacts")
            self.client.log_artifacts(run_id, local_dir, artifact_path)

    with pytest.raises(Crash):
        register(HalfCopying(client, -1, before=True), registration, tmp_path.as_uri())  # type: ignore[arg-type]
    assert list_versions(client, registration.model_name) == ()
    assert register(client, registration, tmp_path.as_uri()).version == 1


def test_a_store_that_spoils_the_copy_gets_no_version(
    client: MlflowClient, registration: Registration, tmp_path: Path
) -> None:
    class Spoiling(CrashingClient):
        def log_artifacts(self, run_id: str, local_dir: str, artifact_path: str) -> None:
            self.client.log_artifacts(run_id, local_dir, artifact_path)
            if artifact_path.startswith("model"):
                self.client.log_text(run_id, "another graph", f"{artifact_path}/saved_model.pb")

    with pytest.raises(DigestMismatchError, match="no version was made"):
        register(Spoiling(client, -1, before=True), registration, tmp_path.as_uri())  # type: ignore[arg-type]
    assert list_versions(client, registration.model_name) == ()
    assert [run.info.status for run in runs_of(client, registration)] == ["FAILED"]


def test_a_model_edited_after_its_evaluation_is_not_even_copied(
    client: MlflowClient, registration: Registration, tmp_path: Path
) -> None:
    (registration.saved_model / "saved_model.pb").write_bytes(b"edited")
    with pytest.raises(DigestMismatchError, match=registration.digest_saved_model):
        register(client, registration, tmp_path.as_uri())
    assert client.get_experiment_by_name(registration.model_name) is None
    assert list_versions(client, registration.model_name) == ()


def test_a_registration_without_evidence_is_refused(
    client: MlflowClient, registration: Registration, tmp_path: Path
) -> None:
    without = dataclasses.replace(registration, evidence=tmp_path / "absent")
    with pytest.raises(ArtifactError, match="absent"):
        register(client, without, tmp_path.as_uri())
    assert client.get_experiment_by_name(registration.model_name) is None


def exported_sum(directory: Path) -> Path:
    """A SavedModel made by TensorFlow, with the signature `score`."""
    import tensorflow as tf

    class Sum(tf.Module):
        @tf.function(
            input_signature=[
                tf.TensorSpec([None], tf.float32, name="amount"),
                tf.TensorSpec([None], tf.string, name="channel"),
                tf.TensorSpec([None, 3], tf.float32, name="last"),
            ]
        )
        def score(self, amount: Any, channel: Any, last: Any) -> dict[str, Any]:
            return {"score": amount + tf.reduce_sum(last, 1) + tf.cast(tf.strings.length(channel), tf.float32)}

    module = Sum()
    tf.saved_model.save(module, str(directory), signatures={"score": module.score})
    return directory


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning")  # MLflow, of its own classes
def test_a_real_saved_model_is_scored_through_mlflow_without_being_saved_again(
    client: MlflowClient, registration: Registration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow.pyfunc
    import numpy as np

    saved_model = exported_sum(tmp_path / "sum")
    signature = read_signature(saved_model)
    assert signature == registration.signature
    with pytest.raises(ArtifactError, match="but not 'explain'"):
        read_signature(saved_model, "explain")
    real = dataclasses.replace(
        registration, saved_model=saved_model, digest_saved_model=directory_digest(saved_model), signature=signature
    )
    register(client, real, tmp_path.as_uri())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", client.tracking_uri)
    model = mlflow.pyfunc.load_model(f"models:/{real.model_name}/1")
    rows = {
        "amount": np.array([1, 2], np.float32),
        "channel": np.array(["a", "bb"]),
        "last": np.ones((2, 3), np.float32),
    }
    assert list(model.predict(rows)["score"]) == [5.0, 7.0]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    with mlflow_server(tmp_path) as address:
        yield address


@pytest.mark.slow
def test_the_same_through_a_real_server(server: str, registration: Registration, tmp_path: Path) -> None:
    client = connect(server)
    assert register(client, registration).created
    assert not register(client, registration).created
    (only,) = list_versions(client, registration.model_name)
    assert (only.version, only.gate, only.metrics["test/average_precision"]) == (1, "passed", 0.61)
    download_saved_model(client, 1, tmp_path / "copy", registration.model_name)
    assert directory_digest(tmp_path / "copy") == registration.digest_saved_model
    # Where the UI reads the schema of a version.
    page = f"{server}/model-versions/get-artifact?name={registration.model_name}&version=1&path=MLmodel"
    with urllib.request.urlopen(page) as response:
        assert "channel" in yaml.safe_load(response)["signature"]["inputs"]
