"""The registry on a real MLflow database: one complete version whatever happens, and digests that hold."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run

from components.registry import (
    Registration,
    Signature,
    Tensor,
    champion,
    connect,
    download_saved_model,
    list_versions,
    read_signature,
    register,
    show_version,
)
from schemas.digests import directory_digest
from schemas.errors import ArtifactError, DigestMismatchError, RegistryError


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
    saved_model = tmp_path / "exported"
    (saved_model / "variables").mkdir(parents=True)
    (saved_model / "assets.extra").mkdir()
    (saved_model / "saved_model.pb").write_bytes(b"a graph")
    (saved_model / "variables" / "variables.index").write_bytes(b"\x00\x01")
    (saved_model / "assets.extra" / "tf_serving_warmup_requests").write_bytes(b"warm-up")
    evidence = tmp_path / "evidence"
    (evidence / "plots").mkdir(parents=True)
    (evidence / "test.json").write_text("{}")
    (evidence / "plots" / "roc.png").write_bytes(b"png")
    return Registration(
        saved_model=saved_model,
        digest_saved_model=directory_digest(saved_model),
        digest_evaluation="e" * 64,
        digest_schema="s" * 64,
        data_span="2018-04-01 to 2018-09-30",
        code_version="0.1.0+abc",
        mlmd_model_id=7,
        mlmd_statistics_id=4,
        gate="passed",
        signature=Signature(
            "score",
            inputs=(
                Tensor("amount", "float32", (-1,)),
                Tensor("channel", "str", (-1,)),
                Tensor("last", "float32", (-1, 3)),
            ),
            outputs=(Tensor("score", "float32", (-1,)),),
        ),
        evidence=evidence,
        description="Finds fraud.\n\n- AP 0.61",
        run_name="handbook",
        params={"learning_rate": "0.001"},
        metrics={"test/average_precision": 0.61},
        history={"loss": (0.5, 0.4, 0.3)},
        model_name=request.node.name,
    )


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


def test_a_new_database_is_made_quietly(tmp_path: Path) -> None:
    script = "import sys; from components.registry import connect, list_versions; list_versions(connect(sys.argv[1]))"
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    made = subprocess.run([sys.executable, "-c", script, uri], check=True, capture_output=True, text=True)
    assert (made.stdout, made.stderr) == ("", "")


def test_a_server_that_does_not_answer_is_a_registry_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(RegistryError, match="listing the versions"):
        list_versions(connect("http://127.0.0.1:9"))


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
    """A real MLflow server on a free port of the loopback, keeping files by itself."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", "0", "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{tmp_path}/server.db",
        "--artifacts-destination",
        str(tmp_path / "kept"),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tmp_path)
    assert process.stdout is not None
    lines = iter(process.stdout)
    try:
        yield next(line.split("running on ")[1].split()[0] for line in lines if "running on http" in line)
    finally:
        threading.Thread(target=lambda: list(lines), daemon=True).start()
        process.terminate()
        process.wait(30)


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
