"""Training: the batches, the loss, when it stops, and that a seed fixes all of it."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from components.model import Shape, positive_weight
from components.trainer import (
    ThresholdConfig,
    TrainingConfig,
    batches,
    fit,
    logits,
    network_shape,
    transform_split,
    weighted_cross_entropy,
)
from schemas.errors import ConfigurationError, LogError

SMALL = TrainingConfig(units=(8,), batch_size=64, epochs=2, learning_rate=0.01)


def rows(count, seed, sign=1):
    """Rows with three numbers and a word; `sign` times the first number decides, mostly."""
    rng = np.random.default_rng(seed)
    numeric = rng.normal(size=(count, 3)).astype(np.float32)
    labels = (sign * numeric[:, 0] + rng.normal(0, 0.3, count) > 1.3).astype(np.float32)
    return {"numeric": numeric, "categorical": rng.integers(0, 4, (count, 1))}, labels


SHAPE = Shape(3, ((4, 1),))


def trained(config, held_out=None):
    return fit(rows(1_000, 1), held_out or rows(500, 2), SHAPE, config, tf.distribute.get_strategy())


def passes(count, size, number, seed):
    """The row numbers of each pass, a list of batches."""
    inputs = {"numeric": np.arange(count, dtype=np.float32).reshape(-1, 1)}
    labels = np.arange(count, dtype=np.float32) + 0.5
    per_pass = count // size
    found = []
    for features, targets in batches(inputs, labels, size, seed).take(number * per_pass):
        assert targets.shape == features["numeric"].shape == (size, 1)
        np.testing.assert_array_equal(targets.numpy(), features["numeric"].numpy() + 0.5)
        found.append(features["numeric"].numpy()[:, 0].astype(int).tolist())
    return [found[i : i + per_pass] for i in range(0, len(found), per_pass)]


def test_a_pass_holds_no_row_twice_and_a_few_passes_hold_them_all():
    seen = set()
    for one in passes(count=103, size=10, number=4, seed=5):
        flat = [row for batch in one for row in batch]
        assert len(flat) == len(set(flat)) == 100
        seen |= set(flat)
    assert seen == set(range(103))


def test_passes_differ_and_a_seed_repeats_them_all():
    first, second = passes(50, 10, 2, seed=5)
    assert first != second
    assert [first, second] == passes(50, 10, 2, seed=5)
    assert [first, second] != passes(50, 10, 2, seed=6)


def test_a_batch_may_hold_every_row():
    [[batch]] = passes(7, 7, 1, seed=5)
    assert sorted(batch) == list(range(7))


def test_the_loss_counts_a_fraud_as_often_as_it_weighs():
    logit = tf.constant([[0.3], [-1.2], [2.0]])
    labels = tf.constant([[1.0], [0.0], [1.0]])
    probability = 1 / (1 + np.exp(-logit.numpy()[:, 0]))
    wanted = -np.log(np.where(labels.numpy()[:, 0] == 1, probability**5, 1 - probability))
    np.testing.assert_allclose(weighted_cross_entropy(5.0)(labels, logit).numpy(), wanted, rtol=1e-6)


def test_training_finds_what_decides_and_is_calibrated_in_the_large():
    result = trained(TrainingConfig(units=(8,), batch_size=64, epochs=6, learning_rate=0.03, dropout=0.0))
    inputs, labels = rows(500, 2)
    assert max(result.history["val_average_precision"]) > 0.75 > labels.mean() * 5
    assert result.probabilities(inputs).mean() == pytest.approx(labels.mean(), rel=0.02)
    assert result.replicas == 1
    assert result.positive_weight == positive_weight(rows(1_000, 1)[1], None)


def test_a_seed_gives_the_same_weights_twice_and_another_others():
    first, same, other = (
        trained(TrainingConfig(units=(8,), batch_size=64, epochs=2, seed=seed)).network.get_weights()
        for seed in (3, 3, 4)
    )
    for one, two in zip(first, same, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)
    assert not np.allclose(first[0], other[0], atol=1e-3)


def test_early_stopping_ends_training_and_goes_back_to_the_best_weights():
    # What was learned is wrong on validation, the more the longer: the first epoch stays the best.
    against = rows(500, 2, sign=-1)
    config = TrainingConfig(units=(8,), batch_size=64, epochs=10, patience=2, learning_rate=0.003, dropout=0.0)
    stopped = trained(config, against)
    course = stopped.history["val_average_precision"]
    assert len(course) == 3, "one that was best and two of patience"
    assert max(course) == course[0]
    once = trained(TrainingConfig(units=(8,), batch_size=64, epochs=1, learning_rate=0.003, dropout=0.0), against)
    for best, first in zip(stopped.network.get_weights(), once.network.get_weights(), strict=True):
        np.testing.assert_allclose(best, first, rtol=1e-5, atol=1e-6)


def test_a_batch_larger_than_the_data_takes_them_all():
    result = trained(TrainingConfig(units=(4,), batch_size=1_000_000, epochs=1))
    assert len(result.history["loss"]) == 1


def test_without_a_fraud_there_is_nothing_to_learn():
    inputs, labels = rows(100, 1)
    with pytest.raises(LogError, match="none of the 100 training rows is a fraud"):
        fit((inputs, np.zeros_like(labels)), rows(50, 2), SHAPE, SMALL, tf.distribute.get_strategy())


def test_a_validation_split_without_a_fraud_still_gives_a_model():
    inputs, labels = rows(200, 2)
    result = trained(SMALL, (inputs, np.zeros_like(labels)))
    assert (result.slope, result.intercept) == (1.0, 0.0)
    assert set(result.history["val_average_precision"]) == {0.0}


def test_logits_do_not_depend_on_how_rows_are_cut(monkeypatch):
    network = trained(SMALL).network
    inputs, _ = rows(500, 2)
    whole = logits(network, inputs)
    monkeypatch.setattr("components.trainer._INFERENCE_BATCH", 64)
    np.testing.assert_allclose(logits(network, inputs), whole, rtol=1e-5, atol=1e-6)


def test_a_transformed_split_has_a_row_per_example_and_what_the_network_reads(tiny_model):
    import tensorflow_transform as tft

    examples, graph = tiny_model.examples, tft.TFTransformOutput(str(tiny_model.transform_graph))
    arrays, labels = transform_split(examples.root, "validation", examples.spec, graph)
    shape = network_shape(arrays, examples.spec, graph)
    assert arrays["numeric"].shape == (examples.rows["validation"], shape.numeric)
    assert arrays["categorical"].shape == (examples.rows["validation"], examples.spec.categorical_width)
    assert np.isfinite(arrays["numeric"]).all()
    assert (arrays["categorical"] >= 0).all()
    sizes = [size for size, columns in shape.vocabularies for _ in range(columns)]
    assert (arrays["categorical"].max(axis=0) < sizes).all()
    assert 0 < labels.sum() < len(labels) == examples.rows["validation"]


def test_tensorboard_finds_the_course_of_training(tiny_model):
    assert list(tiny_model.logs.rglob("events.out.tfevents.*"))
    assert {"loss", "val_average_precision"} <= set(tiny_model.trained.history)


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch_size": 0},
        {"learning_rate": -1e-3},
        {"learning_rate": float("nan")},
        {"epochs": -1},
        {"patience": 0},
        {"positive_weight": -2.0},
        {"logical_cpu_devices": 0},
        {"seed": -1},
        {"units": ()},
        {"units": (8, 0)},
        {"dropout": 1.0},
        {"dropout": float("nan")},
    ],
)
def test_settings_that_make_no_training_are_refused(wrong):
    with pytest.raises(ConfigurationError, match=f"training .*{next(iter(wrong))}"):
        TrainingConfig(**wrong)


@pytest.mark.parametrize("wrong", [{"alert_budget": 0.0}, {"block_precision": 1.1}, {"alert_budget": float("nan")}])
def test_shares_that_are_none_are_refused(wrong):
    with pytest.raises(ConfigurationError, match=f"thresholds {next(iter(wrong))}"):
        ThresholdConfig(**wrong)
