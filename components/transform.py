"""The preprocessing function: what the model derives from one row, in TFT and, inside the SavedModel, on every request.

Inputs are the declared raw features of `schemas.features`, `[batch]` each, `[batch, k]` for vectors.  Outputs are
`numeric` float32 `[batch, N]` (standardised values, flags for what is missing, the time of the day and of the week) and
`categorical` int64 `[batch, C]` (ids in one vocabulary per text input; words that it lacks, "" too, share the last id).
"""

from __future__ import annotations

import math
from collections.abc import Container
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from components.analysis import moments, vocabularies
from schemas.features import AMOUNT, FEATURES, NIGHT, ROW_INPUTS, WEEKEND, Feature, FeatureSpec, RowInput
from schemas.transaction import DAY_S, LABEL, WEEK_S

NUMERIC, CATEGORICAL = "numeric", "categorical"
VOCABULARY_SIZE = 256

# What one transaction's amount is set against: the card's and the merchant's habits and the probes before it.
_AMOUNT_REFERENCES = (
    "card_id_amount_base_minor_mean_24h",
    "card_id_amount_base_minor_mean_30d",
    "card_id_amount_base_minor_max_24h",
    "card_id_amount_base_minor_max_30d",
    "card_id_amount_base_minor_min_1h",
    "card_id_amount_base_minor_last",
    "merchant_id_amount_base_minor_mean_7d",
    "card_id_merchant_id_amount_base_minor_mean_30d",
)
_CENTRE, _SPREAD = "card_id_amount_base_minor_mean_30d", "card_id_amount_base_minor_std_30d"
_OF_CALENDAR = 6
_SECOND_OF_WEEK = "second_of_week"
_LINEAR = ("first_seen", "fraud_rate")
_ZERO_WHEN_EMPTY = ("count", "distinct", "fraud_count")
_DECLARED: tuple[RowInput | Feature, ...] = (*ROW_INPUTS, *FEATURES)

# A raw input by its name, and the place in it where it is a vector.
Source = tuple[str, int]


def vocabulary_name(text_input: str) -> str:
    """Name of a text input's vocabulary in the transform graph."""
    return f"vocabulary_{text_input}"


def preprocessing_fn(inputs: dict[str, Any], custom_config: dict[str, Any] | None = None) -> dict[str, Any]:
    """Maps raw features to what the network reads; TFT calls it once to build the graph.

    Args:
        inputs: raw features by name, and the label.
        custom_config: carries digests that key TFX's cache; not read here.
    """
    texts = {i.name: inputs[i.name] for i in _DECLARED if i.is_text and i.name in inputs}
    numbers, missing = _numbers(inputs)
    parts = [_standardised(numbers), *missing]
    if _SECOND_OF_WEEK in inputs:
        parts.append(_calendar(inputs[_SECOND_OF_WEEK]))
    outputs = {NUMERIC: tf.concat(parts, axis=1), LABEL: inputs[LABEL]}
    if texts:
        words = vocabularies({vocabulary_name(name): values for name, values in texts.items()}, VOCABULARY_SIZE)
        ids = [_ids(values, words[vocabulary_name(name)]) for name, values in texts.items()]
        outputs[CATEGORICAL] = tf.concat([_columns(of_text) for of_text in ids], axis=1)
    return outputs


def sources(spec: FeatureSpec) -> tuple[tuple[Source, ...], ...]:
    """Of each column of `numeric`, in their order, the raw inputs that it is made of."""
    names = {i.name for i in spec.inputs}
    numbers = _numeric(names)
    standardised = [((i.name, place),) for i in numbers for place in range(i.width)]
    habits = [((AMOUNT, 0), (name, 0)) for name in _AMOUNT_REFERENCES if name in names]
    deviations = [((AMOUNT, 0), (_CENTRE, 0), (_SPREAD, 0))] if _has_deviations(names) else []
    flags = [((i.name, 0),) for i in numbers if _is_fallible(i)]
    calendar = [((_SECOND_OF_WEEK, 0),)] * _OF_CALENDAR if _SECOND_OF_WEEK in names else []
    return (*standardised, *habits, *deviations, *flags, *calendar)


def _numeric(names: Container[str]) -> list[RowInput | Feature]:
    """The declared numbers among these names, without the time, which is no quantity."""
    return [i for i in _DECLARED if i.name in names and not i.is_text and i.name != _SECOND_OF_WEEK]


def _is_fallible(declaration: RowInput | Feature) -> bool:
    # A transaction always has its own columns, and what is 0 on an empty window is missing only together with its key
    # (no device, say), which other flags of that key tell.
    return isinstance(declaration, Feature) and declaration.aggregate not in _ZERO_WHEN_EMPTY


def _has_deviations(names: Container[str]) -> bool:
    return _CENTRE in names and _SPREAD in names


def _numbers(inputs: dict[str, Any]) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """What is to be standardised, NaN where it is missing, `[batch, N]`, and flags for what is missing.

    All columns at once: a graph with operations for each of them takes seconds to build and to load.
    """
    numbers = _numeric(inputs)
    raw = tf.concat([_columns(inputs[i.name]) for i in numbers], axis=1)
    is_linear = [isinstance(i, Feature) and i.aggregate in _LINEAR for i in numbers for _ in range(i.width)]
    scaled = [tf.where(is_linear, raw, _signed_log(raw)), *_against_habit(inputs)]
    # The newest of a vector's values, its first, speaks for all.
    firsts = np.cumsum([0, *(i.width for i in numbers)])
    fallible = [first for first, i in zip(firsts, numbers, strict=False) if _is_fallible(i)]
    flags = [tf.cast(tf.math.is_nan(tf.gather(raw, fallible, axis=1)), tf.float32)] if fallible else []
    return tf.concat(scaled, axis=1), flags


def _columns(values: tf.Tensor) -> tf.Tensor:
    return tf.expand_dims(values, axis=1) if values.shape.rank == 1 else values


def _signed_log(values: tf.Tensor) -> tf.Tensor:
    """sign(x) log(1 + |x|): amounts and counts span decades."""
    return tf.sign(values) * tf.math.log1p(tf.abs(values))


def _against_habit(inputs: dict[str, Any]) -> list[tf.Tensor]:
    """Log ratios of the amount to what is usual, and its deviations from the card's mean; `[batch, any]` each."""
    amount = inputs[AMOUNT]
    habits = [inputs[name] for name in _AMOUNT_REFERENCES if name in inputs]
    ratios = [_columns(tf.math.log1p(amount)) - tf.math.log1p(tf.stack(habits, axis=1))] if habits else []
    if _has_deviations(inputs):
        deviations = (amount - inputs[_CENTRE]) / (inputs[_SPREAD] + 0.01 * inputs[_CENTRE] + 1.0)
        ratios.append(_columns(_signed_log(deviations)))
    return ratios


def _standardised(values: tf.Tensor) -> tf.Tensor:
    """Zero mean and unit variance over the training rows that have a value; a missing value becomes the mean, 0."""
    mean, deviation = moments(values)
    standard = (values - tf.cast(mean, tf.float32)) / tf.cast(deviation, tf.float32)
    # Ten deviations are as telling as a thousand, and a constant column must not explode on its first new value.
    return tf.where(tf.math.is_nan(values), tf.zeros_like(values), tf.clip_by_value(standard, -10.0, 10.0))


def _calendar(second_of_week: tf.Tensor) -> tf.Tensor:
    """The hour of the day and of the week as points on a circle, and flags for night and weekend; `[batch, 6]`."""
    second_of_day = tf.math.floormod(second_of_week, float(DAY_S))
    columns = [
        circle(2 * math.pi * seconds / period)
        for seconds, period in ((second_of_day, float(DAY_S)), (second_of_week, float(WEEK_S)))
        for circle in (tf.sin, tf.cos)
    ]
    night = tf.cast(second_of_day < float(NIGHT.value), tf.float32)
    weekend = tf.cast(second_of_week >= float(WEEKEND.value), tf.float32)
    return tf.stack([*columns, night, weekend], axis=1)


def _ids(words: tf.Tensor, vocabulary: tf.Tensor) -> tf.Tensor:
    """Ids by falling frequency; words outside the vocabulary share the bucket behind it."""
    return tft.apply_vocabulary(words, vocabulary, num_oov_buckets=1)
