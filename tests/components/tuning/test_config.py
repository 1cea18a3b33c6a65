"""What a search tries is refused where no training could have it."""

from __future__ import annotations

from dataclasses import fields

import pytest

from components.training.config import TrainingConfig
from components.tuning.config import Range, SearchSpace, TuningConfig
from schemas.errors import ConfigurationError


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"learning_rate": Range(1e-2, 1e-3)}, "runs from 0.01 to 0.001"),
        ({"dropout": Range(float("nan"), 0.5)}, "runs from nan to 0.5"),
        ({"learning_rate": Range(0.0, 1e-3)}, "holds 0.0"),
        ({"dropout": Range(0.1, 1.0)}, "holds 1.0"),
        ({"units": ((64,), ())}, r"holds \(\)"),
        ({"block": ("plain", "wide")}, "holds 'wide'"),
        ({"fraud_share": (None, 1.5)}, "holds 1.5"),
        ({"batch_size": ()}, "has no values"),
    ],
)
def test_what_no_training_could_have_is_refused_by_name_and_value(wrong, said):
    [name] = wrong
    with pytest.raises(ConfigurationError, match=f"tuning space {name} {said}"):
        SearchSpace(**wrong)


def test_a_space_without_any_setting_is_refused():
    with pytest.raises(ConfigurationError, match="searches no setting"):
        SearchSpace(**{setting.name: None for setting in fields(SearchSpace)})


@pytest.mark.parametrize("wrong", [{"random_trials": 0}, {"pruning_epochs": 0}, {"seed": -1}])
def test_a_search_that_cannot_be_is_refused(wrong):
    [(name, value)] = wrong.items()
    with pytest.raises(ConfigurationError, match=f"tuning {name} is {value}"):
        TuningConfig(**wrong)


def test_what_is_searched_are_settings_of_a_training():
    assert SearchSpace().searched().keys() <= {setting.name for setting in fields(TrainingConfig)}
    assert SearchSpace(block=None).searched().keys() == SearchSpace().searched().keys() - {"block"}
