"""Settings that make no training are refused by name and value."""

from __future__ import annotations

import pytest

from components.training.config import TrainingConfig
from schemas.errors import ConfigurationError


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
        {"bins": -1},
        {"feature_rate": -1.0},
        {"feature_rate": float("inf")},
        {"weight_decay": -0.1},
        {"weight_decay": float("nan")},
        {"fraud_share": 0.0},
        {"fraud_share": 1.0},
        {"block": "wide"},
        {"schedule": "steps"},
        {"scaling": "square"},
        {"precision": "int8"},
    ],
)
def test_settings_that_make_no_training_are_refused(wrong):
    [(name, value)] = wrong.items()
    with pytest.raises(ConfigurationError, match="training ") as refused:
        TrainingConfig(**wrong)
    assert name in str(refused.value)
    assert str(value) in str(refused.value)
