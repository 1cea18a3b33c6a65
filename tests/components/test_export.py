"""The exported SavedModel: signatures that agree in both loaders, and what travels beside the graph."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from components.examples import pack
from components.scoring import read_spec, score_split
from schemas import reasons
from schemas.bundle import ASSETS_EXTRA, WARM_UP_FILE, Bundle
from schemas.errors import ArtifactError
from tests.components.tiny import RULES_DIGEST, Model, as_example, read_split, with_odd_rows

SIGNATURES = ("serving_default", "score", "score_packed")


@pytest.fixture(scope="module")
def requests(tiny_model: Model) -> dict[str, dict[str, np.ndarray]]:
    """The same rows as each signature takes them: 40 of the test split and 40 oddities."""
    spec = tiny_model.examples.spec
    features, _ = read_split(tiny_model.examples.root, "test", spec)
    rows = with_odd_rows({name: values[:40] for name, values in features.items()}, spec)
    numeric, categorical = pack(rows, spec)
    return {
        "serving_default": {"examples": np.array([as_example(rows, row) for row in range(80)], object)},
        "score": rows,
        "score_packed": {"numeric": numeric, "categorical": categorical},
    }


# What a signature answers to a request, by the name of the output.
Ask = Callable[[str, Mapping[str, np.ndarray]], dict[str, np.ndarray]]
Score = Callable[[str, Mapping[str, np.ndarray]], np.ndarray]


@contextmanager
def loaded_by_tf1(saved_model: Path) -> Iterator[Ask]:
    """Asks through the loader that TensorFlow Serving has."""
    graph = tf.Graph()
    with graph.as_default():
        session = tf.compat.v1.Session(graph=graph)
        loaded = tf.compat.v1.saved_model.load(session, ["serve"], str(saved_model))

    def ask(signature: str, request: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        one = loaded.signature_def[signature]
        assert set(one.inputs) == set(request)
        outputs = {name: info.name for name, info in one.outputs.items()}
        return session.run(outputs, {one.inputs[name].name: v for name, v in request.items()})

    with closing(session):
        yield ask


@pytest.fixture(scope="module")
def ask_tf1(tiny_model: Model) -> Iterator[Ask]:
    with loaded_by_tf1(tiny_model.saved_model) as ask:
        yield ask


@pytest.fixture(scope="module")
def ask_tf2(tiny_model: Model) -> Ask:
    loaded = tf.saved_model.load(str(tiny_model.saved_model))

    def ask(signature: str, request: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        tensors = {
            n: tf.constant(v, tf.string if v.dtype == object else tf.float32, v.shape) for n, v in request.items()
        }
        return {name: output.numpy() for name, output in loaded.signatures[signature](**tensors).items()}

    return ask


def scoring(ask: Ask) -> Score:
    """Scores alone, of signatures that answer nothing else."""

    def score(signature: str, request: Mapping[str, np.ndarray]) -> np.ndarray:
        outputs = ask(signature, request)
        assert set(outputs) == {"score"}
        return outputs["score"]

    return score


@pytest.fixture(scope="module")
def by_tf1(ask_tf1: Ask) -> Score:
    return scoring(ask_tf1)


@pytest.fixture(scope="module")
def by_tf2(ask_tf2: Ask) -> Score:
    return scoring(ask_tf2)


@pytest.fixture(scope="module")
def scores(by_tf1, by_tf2, requests) -> dict[tuple[str, str], np.ndarray]:
    loaders = {"tf1": by_tf1, "tf2": by_tf2}
    return {(name, one): score(one, requests[one]) for name, score in loaders.items() for one in SIGNATURES}


def test_every_signature_answers_the_same_rows_equally_in_both_loaders(scores):
    reference = scores["tf2", "score"]
    assert np.unique(reference[:40]).size > 30, "rows that differ in nothing would prove nothing"
    for key, found in scores.items():
        assert (found.shape, found.dtype) == ((80,), np.float32), key
        np.testing.assert_allclose(found, reference, atol=1e-6, rtol=0, err_msg=str(key))


def test_a_score_is_a_probability_whatever_is_missing_or_unknown(scores):
    for found in scores.values():
        assert np.isfinite(found).all() and (found >= 0).all() and (found <= 1).all()


def test_the_scores_are_those_of_the_trained_network(tiny_model):
    import tensorflow_transform as tft

    from components.trainer import transform_split

    examples = tiny_model.examples
    graph = tft.TFTransformOutput(str(tiny_model.transform_graph))
    arrays, labels = transform_split(examples.root, "validation", examples.spec, graph)
    found, found_labels = score_split(tiny_model.saved_model, examples.root, "validation")
    np.testing.assert_array_equal(found_labels, labels)
    np.testing.assert_allclose(found, tiny_model.trained.probabilities(arrays), atol=1e-6)


def test_scores_are_calibrated_in_the_large_on_validation(tiny_model):
    found, labels = score_split(tiny_model.saved_model, tiny_model.examples.root, "validation")
    assert found.mean() == pytest.approx(labels.mean(), rel=1e-3)


@pytest.mark.parametrize("signature", SIGNATURES)
def test_a_batch_may_have_one_row_or_none(by_tf2, requests, scores, signature):
    for size in (0, 1):
        request = {name: values[:size] for name, values in requests[signature].items()}
        found = by_tf2(signature, request)
        assert found.shape == (size,)
        np.testing.assert_allclose(found, scores["tf2", signature][:size], atol=1e-6)


@pytest.mark.parametrize("name", ["numeric", "categorical"])
@pytest.mark.parametrize("wrong", [-1, 1], ids=["too few", "too many"])
def test_a_packed_request_with_another_number_of_columns_is_refused(by_tf1, by_tf2, requests, name, wrong):
    packed = requests["score_packed"]
    columns = np.resize(np.arange(packed[name].shape[1]), packed[name].shape[1] + wrong)
    for score in (by_tf1, by_tf2):
        with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match=r"(?i)shape"):
            score("score_packed", {**packed, name: packed[name][:, columns]})


@pytest.fixture(scope="module")
def explained(ask_tf1: Ask, ask_tf2: Ask, requests: dict[str, dict[str, np.ndarray]]) -> list[dict[str, np.ndarray]]:
    return [ask("explain", requests["score_packed"]) for ask in (ask_tf1, ask_tf2)]


def test_an_explanation_is_of_the_score_and_equal_in_both_loaders(tiny_model, explained, scores):
    spec = tiny_model.examples.spec
    for found in explained:
        assert set(found) == {"score", "attributions"}
        assert found["attributions"].shape == (80, spec.numeric_width + spec.categorical_width)
        assert found["attributions"].dtype == np.float32
        np.testing.assert_allclose(found["score"], scores["tf2", "score_packed"], atol=1e-6)
        np.testing.assert_allclose(found["attributions"], explained[0]["attributions"], atol=1e-4)


def test_attributions_sum_to_log_odds_less_the_same_number_for_all(tiny_model, explained):
    """That number is the reference's: what a row does not differ in from the average genuine one explains nothing."""
    scores, attributions = (explained[1][name].astype(np.float64) for name in ("score", "attributions"))
    rests = np.log(scores / (1 - scores)) - attributions.sum(axis=1)
    ways = np.abs(attributions.sum(axis=1))
    assert ways.max() > 1
    assert np.ptp(rests) < 0.01 * ways.max()


@pytest.mark.parametrize("size", [0, 1])
def test_a_batch_to_explain_may_have_one_row_or_none(ask_tf1, ask_tf2, requests, explained, size):
    request = {name: values[:size] for name, values in requests["score_packed"].items()}
    for ask in (ask_tf1, ask_tf2):
        found = ask("explain", request)["attributions"]
        np.testing.assert_allclose(found, explained[0]["attributions"][:size], atol=1e-4)


def test_the_bundle_travels_with_the_model(tiny_model):
    assert read_spec(tiny_model.saved_model) == tiny_model.examples.spec
    bundle = Bundle.read(tiny_model.saved_model)
    found, _ = score_split(tiny_model.saved_model, tiny_model.examples.root, "validation")
    thresholds = bundle.thresholds
    assert bundle.spec == tiny_model.examples.spec
    assert (bundle.rules_digest, bundle.reason_vocabulary) == (RULES_DIGEST, reasons.VERSION)
    assert Bundle.from_json(bundle.to_json()) == bundle
    assert thresholds.review is not None
    assert 0 < (found >= thresholds.review).mean() <= thresholds.alert_budget


def test_warm_up_requests_run_as_they_are_and_come_in_several_sizes(tiny_model, ask_tf1):
    file = tiny_model.saved_model / ASSETS_EXTRA / WARM_UP_FILE
    sizes: dict[str, list[int]] = {}
    for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator():
        request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        assert request.model_spec.name == "fraud"
        inputs = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
        name = request.model_spec.signature_name
        sizes.setdefault(name, []).append(len(ask_tf1(name, inputs)["score"]))
    assert sizes == {"score_packed": [1, 8, 64], "explain": [1, 8]}


def test_the_model_moves_with_its_folder_and_needs_nothing_outside(tiny_model, requests, scores, tmp_path):
    moved = shutil.copytree(tiny_model.saved_model, tmp_path / "elsewhere")
    graph = tiny_model.transform_graph.rename(tiny_model.transform_graph.with_name("gone"))
    try:
        with loaded_by_tf1(moved) as ask:
            found = ask("score_packed", requests["score_packed"])["score"]
    finally:
        graph.rename(tiny_model.transform_graph)
    np.testing.assert_array_equal(found, scores["tf1", "score_packed"])


def test_a_half_written_model_of_an_earlier_try_is_replaced(tiny_model):
    assert not tiny_model.leftover.exists()
    assert tiny_model.leftover.parent.is_dir()


def test_a_folder_that_is_no_model_of_ours_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match=r"no assets\.extra/feature_spec\.json"):
        read_spec(tmp_path)
