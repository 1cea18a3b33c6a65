"""Baselines: trees and a linear model on the features and splits of the network, which it has to beat."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from components.transform import CATEGORICAL, NUMERIC
from schemas.errors import ArtifactError, ConfigurationError

TREES, LINEAR = "gradient-boosted trees", "logistic regression"
# One thread: on a busy machine several wait for each other longer than they work.
_THREADS = 1
# Words that come up less often share a column of the linear model.
_MIN_FREQUENCY = 50
# Rows that the linear model scores at once.
_BATCH = 32_768

# `numeric` [rows, N] and `categorical` [rows, C], as the network reads them, and labels [rows].
Part = tuple[Mapping[str, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class BaselineConfig:
    """How baselines are trained.

    Attributes:
        train_rows: the newest so many training rows; it bounds the time that they take.
        rounds: trees, at most.
        patience: trees without a better average precision on validation before it ends.
        seed: of the trees.
    """

    train_rows: int = 100_000
    rounds: int = 150
    patience: int = 15
    seed: int = 7

    def __post_init__(self) -> None:
        for name in ("train_rows", "rounds", "patience"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"baselines {name} is {getattr(self, name)}; it must be 1 or more")


def baseline_scores(
    train: Part, validation: Part, others: Mapping[str, Mapping[str, np.ndarray]], config: BaselineConfig
) -> dict[str, dict[str, np.ndarray]]:
    """Trains each baseline and scores splits by it; the same inputs give the same scores.

    Args:
        train: training rows in the order of their times.
        validation: for early stopping, as the network's.
        others: inputs by split.
        config: how.

    Returns:
        Probabilities of fraud `[rows]`, by split, by baseline; none where a class is missing in the training rows.
    """
    newest = {name: values[-config.train_rows :] for name, values in train[0].items()}, train[1][-config.train_rows :]
    if len(np.unique(newest[1])) < 2:
        return {}
    fitted = {TREES: _trees(newest, validation, config), LINEAR: _linear(newest)}
    return {
        name: {split: np.asarray(score(inputs), np.float64) for split, inputs in others.items()}
        for name, score in fitted.items()
    }


def write_scores(scores: Mapping[str, Mapping[str, np.ndarray]], file: Path) -> None:
    """Keeps what `baseline_scores` returned."""
    arrays: dict[str, Any] = {f"{name}/{split}": values for name, of in scores.items() for split, values in of.items()}
    np.savez(file, **arrays)


def read_scores(file: Path) -> dict[str, dict[str, np.ndarray]]:
    """Reads back `write_scores`.

    Raises:
        ArtifactError: the file is absent or something else.
    """
    scores: dict[str, dict[str, np.ndarray]] = {}
    try:
        with np.load(file) as stored:
            for key in stored.files:
                name, _, split = key.partition("/")
                scores.setdefault(name, {})[split] = stored[key]
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{file} holds no scores of baselines ({error}); run the pipeline again") from error
    return scores


def _trees(train: Part, validation: Part, config: BaselineConfig) -> Any:
    """LightGBM with few bins and large leaves, stopped on validation; ids of words are categories."""
    import lightgbm

    def columns(inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        parts = [inputs[name].astype(np.float32) for name in (NUMERIC, CATEGORICAL) if name in inputs]
        return np.concatenate(parts, axis=1)

    numbers = train[0][NUMERIC].shape[1]
    width = columns({name: values[:1] for name, values in train[0].items()}).shape[1]
    settings = {
        "objective": "binary",
        "metric": "average_precision",
        "learning_rate": 0.1,
        "max_bin": 63,
        "min_data_in_leaf": 50,
        "seed": config.seed,
        "deterministic": True,
        "force_col_wise": True,
        "num_threads": _THREADS,
        "verbosity": -1,
    }
    data = lightgbm.Dataset(
        columns(train[0]), train[1], categorical_feature=list(range(numbers, width)), free_raw_data=False
    )
    held_out = lightgbm.Dataset(columns(validation[0]), validation[1], reference=data, free_raw_data=False)
    # Where validation has no fraud, nothing says when to stop.
    stopping: list[Callable[..., Any]] = (
        [lightgbm.early_stopping(config.patience, verbose=False)] if validation[1].any() else []
    )
    booster = lightgbm.train(settings, data, config.rounds, valid_sets=[held_out], callbacks=stopping)
    return lambda inputs: booster.predict(columns(inputs), num_threads=_THREADS)


def _linear(train: Part) -> Any:
    """Scikit-learn's logistic regression on standardised numbers and a column for each frequent word."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    scaler = StandardScaler().fit(train[0][NUMERIC])
    words = OneHotEncoder(
        min_frequency=_MIN_FREQUENCY, handle_unknown="infrequent_if_exist", sparse_output=False, dtype=np.float32
    )
    if CATEGORICAL in train[0]:
        words.fit(train[0][CATEGORICAL])

    def columns(inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        numbers = scaler.transform(inputs[NUMERIC])
        if CATEGORICAL not in inputs:
            return numbers
        return np.concatenate([numbers, words.transform(inputs[CATEGORICAL])], axis=1)

    def score(inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        # A column per word takes room, so not all rows at once.
        rows = len(inputs[NUMERIC])
        batches = [slice(begin, begin + _BATCH) for begin in range(0, rows, _BATCH)]
        parts = ({name: values[batch] for name, values in inputs.items()} for batch in batches)
        return np.concatenate([np.zeros(0), *(regression.predict_proba(columns(part))[:, 1] for part in parts)])

    # Newton's method, because there are far more rows than columns.
    regression = LogisticRegression(solver="newton-cholesky")
    regression.fit(columns(train[0]), train[1].astype(int))
    return score
