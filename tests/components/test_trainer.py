"""The training step: what it reads of a split, and what it leaves beside the model."""

from __future__ import annotations

import numpy as np
import pytest

from components.trainer import ThresholdConfig, network_shape, transform_split
from schemas.errors import ConfigurationError


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


@pytest.mark.parametrize("wrong", [{"alert_budget": 0.0}, {"block_precision": 1.1}, {"alert_budget": float("nan")}])
def test_shares_that_are_none_are_refused(wrong):
    with pytest.raises(ConfigurationError, match=f"thresholds {next(iter(wrong))}"):
        ThresholdConfig(**wrong)
