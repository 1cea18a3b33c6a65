"""Baselines: they learn what is there to be learnt, the same each time, and their scores survive a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from components.baselines import LINEAR, TREES, BaselineConfig, Part, baseline_scores, read_scores, write_scores
from components.transform import CATEGORICAL, NUMERIC
from schemas.errors import ArtifactError, ConfigurationError

CONFIG = BaselineConfig(train_rows=3_000, rounds=40)


def rows(seed: int, number: int = 4_000, words: bool = True) -> Part:
    """Frauds are more likely by a number, and by one of four words."""
    rng = np.random.default_rng(seed)
    numbers, ids = rng.normal(size=(number, 3)).astype(np.float32), rng.integers(0, 4, (number, 1))
    odds = 1.5 * numbers[:, 0] + 2.0 * (ids[:, 0] == 2) * words - 4
    labels = (rng.random(number) < 1 / (1 + np.exp(-odds))).astype(np.float32)
    return {NUMERIC: numbers} | ({CATEGORICAL: ids} if words else {}), labels


@pytest.mark.parametrize("words", [True, False])
def test_both_baselines_find_what_the_labels_depend_on(words: bool) -> None:
    train, validation, test = (rows(seed, words=words) for seed in (1, 2, 3))
    scores = baseline_scores(train, validation, {"test": test[0]}, CONFIG)
    assert set(scores) == {TREES, LINEAR}
    chance = test[1].mean()
    for by_split in scores.values():
        found = by_split["test"]
        assert found.shape == test[1].shape
        assert average_precision_score(test[1], found) > 2.5 * chance
        assert found.mean() == pytest.approx(chance, rel=0.4)
    again = baseline_scores(train, validation, {"test": test[0]}, CONFIG)
    assert all((again[name]["test"] == scores[name]["test"]).all() for name in scores)


def test_words_without_a_training_row_are_scored_too() -> None:
    train, validation, test = (rows(seed) for seed in (1, 2, 3))
    for later in (validation, test):
        later[0][CATEGORICAL][::7] = 9
    for by_split in baseline_scores(train, validation, {"test": test[0]}, CONFIG).values():
        assert average_precision_score(test[1], by_split["test"]) > 2.5 * test[1].mean()


def test_only_the_newest_rows_are_learnt_from() -> None:
    (inputs, labels), validation = rows(1), rows(2)
    misleading = labels.copy()
    misleading[:1_000] = 1 - misleading[:1_000]
    first, second = (
        baseline_scores((inputs, given), validation, {"test": validation[0]}, CONFIG) for given in (labels, misleading)
    )
    assert all((first[name]["test"] == second[name]["test"]).all() for name in first)


def test_without_a_fraud_there_is_nothing_to_learn() -> None:
    inputs, labels = rows(1)
    assert baseline_scores((inputs, np.zeros_like(labels)), rows(2), {"test": inputs}, CONFIG) == {}
    assert set(baseline_scores((inputs, labels), (inputs, np.zeros_like(labels)), {}, CONFIG)) == {TREES, LINEAR}


def test_scores_are_read_back_and_another_file_is_named(tmp_path: Path) -> None:
    scores = {TREES: {"validation": np.array([0.1, 0.2]), "test": np.array([0.3])}}
    write_scores(scores, tmp_path / "scores.npz")
    assert {name: list(by_split) for name, by_split in read_scores(tmp_path / "scores.npz").items()} == {
        TREES: ["validation", "test"]
    }
    (tmp_path / "odd.npz").write_text("odd")
    for name in ("odd.npz", "absent.npz"):
        with pytest.raises(ArtifactError, match=name):
            read_scores(tmp_path / name)


def test_settings_that_train_nothing_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="rounds is 0"):
        BaselineConfig(rounds=0)
