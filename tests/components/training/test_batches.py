"""Batches: what a pass holds, how replicas and pipelines share it, and what balance changes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf

from components.training.batches import batches, frauds_per_batch, prior_correction, steps_per_pass
from schemas.errors import ConfigurationError


def numbered(count, frauds=0):
    """Rows that carry their number; the first are frauds."""
    inputs = {"numeric": np.arange(count, dtype=np.float32).reshape(-1, 1)}
    return inputs, (np.arange(count) < frauds).astype(np.float32)


def row_numbers(dataset, steps):
    return [features["numeric"].numpy()[:, 0].astype(int).tolist() for features, _ in dataset.take(steps)]


def passes(count, size, number, seed):
    """The row numbers of each pass, a list of batches."""
    inputs, _ = numbered(count)
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


@pytest.mark.parametrize("share", [None, 0.25])
def test_a_later_pass_is_the_same_whether_others_came_before_it_or_not(share):
    inputs, labels = numbered(100, frauds=9)
    steps = steps_per_pass(labels, 16, share)
    whole = row_numbers(batches(inputs, labels, 16, 5, fraud_share=share), 3 * steps)
    assert whole[2 * steps :] == row_numbers(batches(inputs, labels, 16, 5, fraud_share=share, first_pass=2), steps)


@pytest.mark.parametrize("share", [None, 0.25])
def test_pipelines_and_replicas_share_each_batch_between_them(share):
    inputs, labels = numbered(100, frauds=9)
    whole = row_numbers(batches(inputs, labels, 16, 5, fraud_share=share), 3)
    parts = []
    for pipeline in range(2):
        context = tf.distribute.InputContext(2, pipeline, num_replicas_in_sync=4)
        parts.append(row_numbers(batches(inputs, labels, 16, 5, fraud_share=share, context=context), 6))
    for step, batch in enumerate(whole):
        shared = [part[2 * step + replica] for part in parts for replica in range(2)]
        assert [len(rows) for rows in shared] == [4] * 4
        assert np.concatenate(shared).tolist() == batch


def test_a_balanced_pass_holds_each_genuine_row_once_and_frauds_equally_often():
    inputs, labels = numbered(1_000, frauds=7)
    steps = steps_per_pass(labels, 40, 0.25)
    assert steps == 993 // 30
    found = row_numbers(batches(inputs, labels, 40, 5, fraud_share=0.25), 2 * steps)
    assert [sum(row < 7 for row in batch) for batch in found] == [10] * (2 * steps)
    first, second = np.concatenate(found[:steps]), np.concatenate(found[steps:])
    genuine = first[first >= 7]
    assert len(genuine) == len(set(genuine)) == steps * 30
    times = np.bincount(first[first < 7], minlength=7)
    assert times.max() - times.min() <= 1
    assert not np.array_equal(first, second)


def test_a_share_that_leaves_out_a_class_is_refused():
    with pytest.raises(ConfigurationError, match=r"fraud_share 0.001 of batches of 100 rows is 0 frauds"):
        frauds_per_batch(100, 0.001)
    with pytest.raises(ConfigurationError, match=r"fraud_share 0.999 of batches of 100 rows is 100 frauds"):
        frauds_per_batch(100, 0.999)
    _, labels = numbered(100, frauds=60)
    with pytest.raises(ConfigurationError, match="need 80 genuine rows each, and there are 40"):
        steps_per_pass(labels, 100, 0.2)


def test_the_correction_takes_weight_and_balance_out_of_the_log_odds():
    _, labels = numbered(1_000, frauds=10)
    true = math.log(10 / 990)
    # what a loss without features would learn: the log odds of what it sees
    assert math.log(10 / 990 * 5) + prior_correction(labels, 5.0, 64, None) == pytest.approx(true)
    assert math.log(16 / 48) + prior_correction(labels, 1.0, 64, 0.25) == pytest.approx(true)
    assert math.log(16 / 48 * 3) + prior_correction(labels, 3.0, 64, 0.25) == pytest.approx(true)
    assert prior_correction(np.ones(5), 2.0, 64, None) == 0.0
