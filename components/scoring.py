"""Scores of an exported model on a split, through the signature that the gateway calls."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf

from components.examples import pack, read_batches
from schemas.bundle import ASSETS_EXTRA, FEATURE_SPEC_FILE
from schemas.errors import ArtifactError
from schemas.features import FeatureSpec


def read_spec(saved_model: Path) -> FeatureSpec:
    """The feature specification that a SavedModel carries.

    Raises:
        ArtifactError: it carries none.
    """
    file = saved_model / ASSETS_EXTRA / FEATURE_SPEC_FILE
    if not file.is_file():
        raise ArtifactError(
            f"{saved_model} has no {ASSETS_EXTRA}/{FEATURE_SPEC_FILE}; it is not a model of this project"
        )
    return FeatureSpec.from_json(file.read_text(encoding="utf-8"))


def score_split(saved_model: Path, examples_root: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Scores and labels of a split, float32 `[rows]` each, in the order of its rows."""
    spec = read_spec(saved_model)
    model = tf.saved_model.load(str(saved_model))
    score = model.signatures["score_packed"]
    scores, labels = [], []
    for features, batch_labels in read_batches(examples_root, split, spec):
        numeric, categorical = pack(features, spec)
        outputs = score(
            numeric=tf.constant(numeric), categorical=tf.constant(categorical, tf.string, categorical.shape)
        )
        scores.append(outputs["score"].numpy())
        labels.append(batch_labels)
    return np.concatenate(scores), np.concatenate(labels)
