"""Baselines: trees and a linear model on the features and splits of the network, which it has to beat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from components.transform import CATEGORICAL, NUMERIC
from schemas.errors import ArtifactError, ConfigurationError

TREES, LINEAR = "gradient-boosted trees", "logistic regression"
# One thread: on a busy machine several wait for each other longer than they work.
_THREADS = 1
# Of XGBoost, apart from how long and how fast: small trees of any shape, which fit what a few rows have in common.
TREE_SETTINGS = {
    "objective": "binary:logistic",
    "eval_metric": "aucpr",
    "tree_method": "hist",
    "grow_policy": "lossguide",
    "max_leaves": 31,
    "max_depth": 0,
}
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
    patience: int = 30
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


def tree_matrix(part: Part, threads: int, reference: Any = None) -> Any:
    """Rows as XGBoost reads them, in bins: numbers, then ids of words, which are categories.

    Args:
        part: of `rows` rows.
        threads: that bin it; 0 takes all.
        reference: the matrix of the training rows, whose bins this one takes over; None where it is these.

    Returns:
        A `xgboost.QuantileDMatrix` `[rows, N + C]`.
    """
    import xgboost

    columns, kinds = _tree_columns(part[0])
    return xgboost.QuantileDMatrix(
        columns, part[1], feature_types=kinds, enable_categorical=True, nthread=threads, ref=reference
    )


def _tree_columns(inputs: Mapping[str, np.ndarray]) -> tuple[np.ndarray, list[str]]:
    present = [(inputs[name], kind) for name, kind in ((NUMERIC, "q"), (CATEGORICAL, "c")) if name in inputs]
    columns = np.concatenate([values.astype(np.float32) for values, _ in present], axis=1)
    return columns, [kind for values, kind in present for _ in range(values.shape[1])]


def _trees(train: Part, validation: Part, config: BaselineConfig) -> Any:
    """XGBoost's trees, grown where they gain most, and stopped on validation."""
    import xgboost

    learnt = tree_matrix(train, _THREADS)
    settings = {**TREE_SETTINGS, "learning_rate": 0.1, "seed": config.seed, "nthread": _THREADS}
    judged: dict[str, Any] = {}
    # Where validation has no fraud, nothing says when to stop.
    if validation[1].any():
        stopping = xgboost.callback.EarlyStopping(rounds=config.patience, save_best=True)
        judged = {"evals": [(tree_matrix(validation, _THREADS, learnt), "validation")], "callbacks": [stopping]}
    booster = xgboost.train(settings, learnt, config.rounds, verbose_eval=False, **judged)

    def score(inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        columns, kinds = _tree_columns(inputs)
        return booster.predict(xgboost.DMatrix(columns, feature_types=kinds, enable_categorical=True, nthread=_THREADS))

    return score


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
