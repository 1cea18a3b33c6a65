"""Several devices: a replica on each, equal weights, and the steps that one device would make."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from components.devices import is_chief, precision_of, strategy_for_this_machine, use_logical_cpus
from components.scoring import score_split
from schemas.errors import ConfigurationError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("two_devices")


@pytest.fixture(scope="module")
def two(tiny_examples, tiny_graph, folder) -> dict[str, Any]:
    """What training on two devices came to."""
    command = [sys.executable, "-m", "tests.components.two_devices", tiny_examples.root, tiny_graph, folder]
    root = Path(__file__).parents[2]
    ran = subprocess.run(list(map(str, command)), cwd=root, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])


def test_two_devices_train_two_replicas_whose_weights_are_equal(two):
    assert two["replicas"] == two["replicas_in_sync"] == 2
    assert two["agree"]
    assert len(two["course"]) == 2


def test_two_replicas_have_the_loss_curve_of_one_on_the_same_batches(two):
    one, both = two["losses"]
    assert len(one) == 4
    assert one[-1] < 0.8 * one[0]
    assert both == pytest.approx(one, rel=0.01)


def test_what_two_replicas_learned_is_exported_like_any_other(two, tiny_examples, folder):
    scores, labels = score_split(folder / "saved_model", tiny_examples.root, "validation")
    assert scores.mean() == pytest.approx(labels.mean(), rel=1e-3)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        loaded = tf.compat.v1.saved_model.load(session, ["serve"], str(folder / "saved_model"))
    assert {"serving_default", "score", "score_packed"} <= set(loaded.signature_def)


def test_a_batch_that_cannot_be_shared_out_is_refused(two):
    assert two["refusal"].startswith("batches of 1 rows cannot be divided among 2 devices")


def test_devices_cannot_be_changed_once_tensorflow_runs(two):
    assert two["other_number"].startswith("training logical_cpu_devices is 3, but TensorFlow already runs with 2")
    tf.constant(0)
    present = len(tf.config.list_logical_devices("CPU"))
    with pytest.raises(ConfigurationError, match=f"logical_cpu_devices is 7, .* already runs with {present}"):
        use_logical_cpus(7)
    use_logical_cpus(present)
    use_logical_cpus(None)


def test_one_device_needs_no_mirror():
    if len(tf.config.list_logical_devices()) > 1:
        pytest.skip("this machine has several devices")
    assert strategy_for_this_machine().num_replicas_in_sync == 1


def test_one_process_is_its_own_chief():
    assert is_chief(tf.distribute.get_strategy())


@pytest.mark.parametrize(
    "gpus, wanted",
    [
        ([], "float32"),
        ([(6, 1)], "float32"),
        ([(7, 5)], "mixed_float16"),
        ([(9, 0)], "mixed_bfloat16"),
        ([(9, 0), (7, 0)], "mixed_float16"),
    ],
)
def test_precision_is_what_all_gpus_are_made_for_unless_it_is_named(gpus, wanted):
    assert precision_of("automatic", gpus) == wanted
    assert precision_of("float32", gpus) == "float32"
    assert precision_of("mixed_float16", gpus) == "mixed_float16"
