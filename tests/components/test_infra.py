"""Infra validation: a server that serves the model as it was trained passes, and every other is told what is wrong."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest
import tensorflow as tf

from components.export import SIGNATURES
from components.gate import Reason
from components.infra import InfraConfig, examine, validate
from schemas.bundle import ASSETS_EXTRA, RECORDED_FILE, WARM_UP_FILE
from schemas.errors import ConfigurationError, ModelServerError
from serving.model_server.config import ModelSettings
from serving.model_server.server import ModelServer, Options
from tests.components.tiny import Model, read_split

CONFIG = InfraConfig()


@pytest.fixture(scope="module")
def rows(tiny_model: Model) -> dict[str, np.ndarray]:
    return read_split(tiny_model.examples.root, "validation", tiny_model.examples.spec)[0]


@contextmanager
def served(saved_model: Path, name: str = "fraud") -> Iterator[grpc.Channel]:
    """A server within this process, of the model that lies in a folder `1`."""
    with (
        ModelServer([ModelSettings(name, saved_model.parent)], Options(port=0, metrics_port=0)) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        yield channel


@pytest.fixture(scope="module")
def channel(tiny_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Iterator[grpc.Channel]:
    """To a server of the tiny model as it is."""
    with served(shutil.copytree(tiny_model.saved_model, tmp_path_factory.mktemp("fraud") / "1")) as channel:
        yield channel


Examined = Callable[..., list[Reason]]


@pytest.fixture
def beside(tiny_model: Model, rows: dict[str, np.ndarray], channel: grpc.Channel, tmp_path: Path) -> Examined:
    """What is said of the tiny model where only what travels beside the graph has been changed."""

    def examine_changed(change: Callable[[Path], object], config: InfraConfig = CONFIG) -> list[Reason]:
        copy = shutil.copytree(tiny_model.saved_model, tmp_path / "1")
        change(copy)
        return list(examine(channel, copy, tiny_model.examples.spec, rows, config))

    return examine_changed


@pytest.fixture
def examined(tiny_model: Model, rows: dict[str, np.ndarray], tmp_path: Path) -> Examined:
    """What is said of a copy of the tiny model that has been changed and is served."""

    def examine_changed(change: Callable[[Path], object]) -> list[Reason]:
        copy = shutil.copytree(tiny_model.saved_model, tmp_path / "1")
        change(copy)
        with served(copy) as channel:
            return list(examine(channel, copy, tiny_model.examples.spec, rows, CONFIG))

    return examine_changed


def subjects(reasons: list[Reason]) -> set[str]:
    assert all(reason.stops and not reason.acceptable and reason.check == "infra" for reason in reasons)
    return {reason.subject for reason in reasons}


def recorded_of(saved_model: Path) -> list[float]:
    return json.loads((saved_model / ASSETS_EXTRA / RECORDED_FILE).read_text())


def record(saved_model: Path, scores: list[float]) -> None:
    (saved_model / ASSETS_EXTRA / RECORDED_FILE).write_text(json.dumps(scores))


def save(saved_model: Path, module: tf.Module, **signatures: object) -> None:
    """Puts another model in the place of the graph; what travels beside it stays."""
    extra = saved_model / ASSETS_EXTRA
    kept = shutil.copytree(extra, saved_model.with_name("kept"))
    (extra / WARM_UP_FILE).unlink()
    shutil.rmtree(saved_model)
    tf.saved_model.save(module, str(saved_model), signatures)
    shutil.copytree(kept, saved_model / ASSETS_EXTRA)
    (saved_model / ASSETS_EXTRA / WARM_UP_FILE).unlink()
    shutil.rmtree(kept)


def test_a_model_that_a_process_serves_as_it_was_trained_passes(tiny_model, rows, tmp_path):
    assert validate(tiny_model.saved_model, tiny_model.examples.spec, rows, CONFIG, tmp_path) == ()


def test_the_recorded_scores_are_those_of_the_first_validation_rows(tiny_model):
    from components.scoring import score_split

    scores, _ = score_split(tiny_model.saved_model, tiny_model.examples.root, "validation")
    recorded = recorded_of(tiny_model.saved_model)
    assert len(recorded) == 256
    np.testing.assert_allclose(recorded, scores[:256], atol=1e-6)


def test_a_byte_of_the_weights_that_has_changed_is_named_as_a_model_that_does_not_load(examined):
    def damage(saved_model: Path) -> None:
        [file] = (saved_model / "variables").glob("*.data-*")
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(bytes(content))

    [reason] = examined(damage)
    assert reason.subject == "loading"
    assert "Checksum does not match" in reason.message


def test_one_score_that_is_not_that_of_training_is_told_with_its_row(beside):
    def change(saved_model: Path) -> None:
        scores = recorded_of(saved_model)
        scores[200] += 2e-5
        record(saved_model, scores)

    [reason] = beside(change)
    assert (reason.subject, reason.limit) == ("score_packed", 1e-5)
    assert reason.observed == pytest.approx(2e-5, rel=0.2)
    assert "1 scores are not those of training: row 200" in reason.message


def test_how_far_scores_may_be_off_is_configured(beside):
    def change(saved_model: Path) -> None:
        record(saved_model, [score + 2e-5 for score in recorded_of(saved_model)])

    assert beside(change, InfraConfig(tolerance=1e-4)) == []


def test_signatures_that_are_not_there_are_named(examined):
    class Other(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
        def score(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"score": x[:, 0]}

    module = Other()
    found = examined(lambda saved_model: save(saved_model, module, score=module.score))
    assert subjects(found) == {WARM_UP_FILE, "serving_default", "score_packed", "explain"}


class Other(tf.Module):
    """Answers with scores and attributions of its own."""

    def __init__(self, numeric: int, categorical: int, width: int, score: float) -> None:
        super().__init__()
        taken = [tf.TensorSpec([None, numeric], tf.float32, "numeric"), tf.TensorSpec([None, categorical], tf.string)]

        def packed(numeric: tf.Tensor, categorical: tf.Tensor) -> dict[str, tf.Tensor]:
            rows = tf.shape(numeric)[0]
            return {"score": score * tf.linspace(0.5, 1.0, rows), "attributions": tf.zeros([rows, width])}

        self.packed = tf.function(packed, input_signature=taken)

    def save(self, saved_model: Path) -> None:
        save(saved_model, self, **dict.fromkeys(SIGNATURES, self.packed))


def test_signatures_that_answer_something_else_are_named(tiny_model, examined):
    spec = tiny_model.examples.spec
    found = examined(Other(spec.numeric_width, spec.categorical_width, 3, math.nan).save)
    assert subjects(found) == {WARM_UP_FILE, "score_packed", "explain"}
    assert any("256 scores are not those of training" in reason.message for reason in found)
    assert any("shape (64, 3)" in reason.message for reason in found)


def test_an_explanation_that_does_not_add_up_is_told(tiny_model, examined):
    spec = tiny_model.examples.spec
    width = spec.numeric_width + spec.categorical_width
    found = examined(Other(spec.numeric_width, spec.categorical_width, width, 0.5).save)
    assert any(one.subject == "explain" and "do not sum to the log-odds" in one.message for one in found)


def test_a_model_without_warm_up_requests_is_refused(beside):
    assert subjects(beside(lambda copy: (copy / ASSETS_EXTRA / WARM_UP_FILE).unlink())) == {WARM_UP_FILE}


def test_a_model_without_recorded_scores_is_refused(beside):
    assert subjects(beside(lambda copy: (copy / ASSETS_EXTRA / RECORDED_FILE).unlink())) == {RECORDED_FILE}


def test_a_server_that_knows_no_such_model_is_no_verdict_on_it(tiny_model, rows, tmp_path):
    tf.saved_model.save(tf.Module(), str(tmp_path / "1"))
    with served(tmp_path / "1", "other") as channel, pytest.raises(ModelServerError, match="NOT_FOUND"):
        list(examine(channel, tiny_model.saved_model, tiny_model.examples.spec, rows, CONFIG))


@pytest.mark.parametrize("name", ["tolerance", "start_s", "answer_s"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_settings_that_make_no_sense_are_refused(name, value):
    with pytest.raises(ConfigurationError, match=f"infra {name} is"):
        InfraConfig(**{name: value})
