"""The fit: what it finds, when it stops, that a seed fixes all of it, and that it goes on where a kill left it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from components.model import positive_weight
from components.training.config import TrainingConfig
from components.training.fit import fit, logits, refit
from schemas.errors import LogError
from tests.components.training.rows import SHAPE, SMALL, rows

PROJECT = Path(__file__).parents[3]
# A network without anything that makes it learn faster than its few weights.
BARE = TrainingConfig(bins=0, feature_rate=0.0, layer_norm=False, units=(8,), weight_decay=0.0, dropout=0.0)


def trained(config, held_out=None, **further):
    return fit(rows(1_000, 1), held_out or rows(500, 2), SHAPE, config, tf.distribute.get_strategy(), **further)


def sigmoid(z):
    return 1 / (1 + np.exp(-z.astype(np.float64)))


def assert_same_weights(one, other):
    for mine, theirs in zip(one.network.get_weights(), other.network.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"block": "residual", "schedule": "cosine", "weight_decay": 0.01},
        {"block": "gated", "fraud_share": 0.25, "precision": "mixed_bfloat16"},
    ],
)
def test_training_finds_what_decides_and_is_calibrated_in_the_large(settings):
    config = TrainingConfig(units=(8,), batch_size=64, epochs=6, learning_rate=0.03, dropout=0.0, **settings)
    result = trained(config)
    inputs, labels = rows(500, 2)
    assert max(result.history["val_average_precision"]) > 0.75 > labels.mean() * 5
    assert result.probabilities(inputs).mean() == pytest.approx(labels.mean(), rel=0.02)
    assert result.replicas == 1
    assert {one.compute_dtype for one in result.network.layers if isinstance(one, keras.layers.Dense)} == {"float32"}


@pytest.mark.parametrize("settings", [{"positive_weight": 20.0}, {"fraud_share": 0.5}])
def test_before_calibration_too_scores_are_at_the_share_of_frauds_in_the_data(settings):
    many = rows(20_000, 1)
    config = replace(BARE, batch_size=256, epochs=4, learning_rate=0.01, **settings)
    result = fit(many, rows(2_000, 2), SHAPE, config, tf.distribute.get_strategy())
    assert sigmoid(logits(result.network, many[0])).mean() == pytest.approx(many[1].mean(), rel=0.15)


def test_a_fraud_weighs_as_configured_by_its_rarity_or_once_where_batches_are_balanced():
    labels = rows(1_000, 1)[1]
    assert trained(SMALL).positive_weight == positive_weight(labels, None)
    assert trained(replace(SMALL, positive_weight=100.0)).positive_weight == 100.0
    assert trained(replace(SMALL, fraud_share=0.25)).positive_weight == 1.0


def test_a_seed_gives_the_same_weights_twice_and_another_others():
    first, same, other = (trained(replace(SMALL, seed=seed)) for seed in (3, 3, 4))
    assert_same_weights(first, same)
    assert first.history == same.history
    assert not np.allclose(first.network.get_weights()[0], other.network.get_weights()[0], atol=1e-3)


def test_early_stopping_ends_training_and_goes_back_to_the_best_weights():
    # What was learned is wrong on validation, the more the longer: the first epoch stays the best.
    against = rows(500, 2, sign=-1)
    config = replace(BARE, batch_size=64, epochs=10, patience=2, learning_rate=0.003)
    stopped = trained(config, against)
    course = stopped.history["val_average_precision"]
    assert len(course) == 3, "one that was best and two of patience"
    assert max(course) == course[0]
    assert_same_weights(stopped, trained(replace(config, epochs=1), against))


def test_a_refit_takes_the_epochs_and_rates_that_led_to_the_best():
    config = replace(SMALL, epochs=12, patience=2, learning_rate=0.1)
    like = trained(config)
    best = int(np.argmax(like.history["val_average_precision"])) + 1
    assert best < len(like.history["loss"])
    again = refit(rows(1_000, 1), SHAPE, config, tf.distribute.get_strategy(), like)
    assert again.history["learning_rate"] == like.history["learning_rate"][:best]
    assert again.history["loss"] == like.history["loss"][:best]
    assert_same_weights(again, like)
    assert (again.slope, again.intercept) == (like.slope, like.intercept)
    more = refit(rows(1_500, 1), SHAPE, config, tf.distribute.get_strategy(), like)
    assert more.probabilities(rows(500, 2)[0]).shape == (500,)


def test_training_again_makes_the_batches_of_before():
    config = replace(SMALL, batch_size=None)
    like = trained(config, rows(1_000, 2))
    assert like.batch_size == 256
    other = replace(like, batch_size=500)
    again, otherwise = (refit(rows(1_000, 1), SHAPE, config, tf.distribute.get_strategy(), of) for of in (like, other))
    assert again.history["loss"] == like.history["loss"]
    assert (otherwise.batch_size, otherwise.history["loss"] == like.history["loss"]) == (500, False)


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
    monkeypatch.setattr("components.training.fit._INFERENCE_BATCH", 64)
    np.testing.assert_allclose(logits(network, inputs), whole, rtol=1e-5, atol=1e-6)
    assert logits(network, {name: values[:0] for name, values in inputs.items()}).shape == (0,)


class Interrupted(Exception):
    """Stands for a kill that a test survives."""


def interrupted_after(epochs, config, checkpoint, held_out=None):
    """Epochs that a training which is interrupted, or done, has run."""
    seen = []

    def on_epoch(history):
        seen.append(len(history["loss"]))
        if seen[-1] == epochs:
            raise Interrupted

    try:
        return seen, trained(config, held_out, checkpoint=checkpoint, on_epoch=on_epoch)
    except Interrupted:
        return seen, None


@pytest.mark.parametrize("settings", [{}, {"fraud_share": 0.25, "schedule": "cosine"}])
def test_a_training_that_was_interrupted_ends_as_one_that_was_not(tmp_path, settings):
    config = replace(SMALL, epochs=6, patience=2, learning_rate=0.1, **settings)
    checkpoint = tmp_path / "epoch.npz"
    whole = trained(config)
    assert interrupted_after(2, config, checkpoint) == ([1, 2], None)
    seen, resumed = interrupted_after(0, config, checkpoint)
    assert seen[0] == 3
    assert resumed.history == whole.history
    assert_same_weights(resumed, whole)
    assert (resumed.slope, resumed.intercept) == (whole.slope, whole.intercept)


def test_with_other_settings_or_rows_training_starts_from_the_beginning(tmp_path):
    checkpoint = tmp_path / "epoch.npz"
    interrupted_after(1, SMALL, checkpoint)
    assert interrupted_after(0, replace(SMALL, dropout=0.1), checkpoint)[0] == [1, 2]
    interrupted_after(1, SMALL, checkpoint)
    assert interrupted_after(0, SMALL, checkpoint, rows(500, 3))[0] == [1, 2]


def test_what_was_trained_to_its_end_is_only_finished(tmp_path):
    _, done = interrupted_after(0, SMALL, tmp_path / "epoch.npz")
    seen, again = interrupted_after(0, SMALL, tmp_path / "epoch.npz")
    assert seen == []
    assert_same_weights(again, done)


def program(folder, config, last=0, cluster=None):
    """Begins `rows.py` as a program of its own."""
    settings = {name: value for name, value in asdict(config).items() if value is not None}
    command = [sys.executable, "-m", "tests.components.training.rows", json.dumps(settings), str(folder), str(last)]
    environment = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
    if cluster is not None:
        environment["TF_CONFIG"] = json.dumps(cluster)
    return subprocess.Popen(
        command, cwd=PROJECT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def found_by(process):
    try:
        said, error = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 0, error
    return json.loads(said.splitlines()[-1])


@pytest.mark.slow
def test_killed_in_the_third_epoch_and_begun_again_training_ends_with_the_same_bits(tmp_path):
    config = replace(SMALL, epochs=6, learning_rate=0.03)
    with program(tmp_path / "killed", config, last=3) as killed:
        killed.communicate(timeout=300)
    assert killed.returncode == -signal.SIGKILL
    resumed, whole = found_by(program(tmp_path / "killed", config)), found_by(program(tmp_path / "whole", config))
    assert (resumed.pop("first"), whole.pop("first")) == (3, 0)
    assert resumed == whole


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


@pytest.mark.slow
def test_two_workers_train_one_model_and_it_is_that_of_one(tmp_path):
    config = replace(SMALL, epochs=4, dropout=0.0)
    addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]
    workers = [
        program(
            tmp_path / "shared",
            config,
            cluster={"cluster": {"worker": addresses}, "task": {"type": "worker", "index": number}},
        )
        for number in range(2)
    ]
    try:
        first, second = map(found_by, workers)
    finally:
        for worker in workers:
            worker.kill()
    assert (first.pop("chief"), second.pop("chief")) == (True, False)
    assert first == second
    assert first["replicas"] == 2
    alone = found_by(program(tmp_path / "alone", config))
    assert first["history"]["loss"] == pytest.approx(alone["history"]["loss"], rel=0.01)
    course = alone["history"]["val_average_precision"]
    assert first["history"]["val_average_precision"] == pytest.approx(course, rel=0.01)
    assert list((tmp_path / "shared" / "logs").rglob("events.out.tfevents.*"))
