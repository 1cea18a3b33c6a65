"""What a search for training settings tries: typed, and refused where no training could have it."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

from components.training.config import Block, Schedule, TrainingConfig
from schemas.errors import ConfigurationError


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included."""

    low: float
    high: float


@dataclass(frozen=True)
class SearchSpace:
    """What is tried of a `TrainingConfig`, whose attributes these are; what the class lacks is not searched.

    None stands for a setting that stays as it is configured.  Otherwise the configured value is tried, too, whether it
    is here or not.

    Attributes:
        block, bins, feature_rate, layer_norm, units, schedule, weight_decay, batch_size, fraud_share: values to choose
            from.
        positive_weight: likewise; None among them is the weight that is taken from the data.
        dropout: searched evenly.
        learning_rate: searched evenly in its logarithm.
    """

    block: tuple[Block, ...] | None = ("plain", "residual", "gated")
    bins: tuple[int, ...] | None = (0, 8, 16)
    feature_rate: tuple[float, ...] | None = (0.0, 6.0, 20.0, 40.0)
    layer_norm: tuple[bool, ...] | None = (False, True)
    units: tuple[tuple[int, ...], ...] | None = ((64, 32), (128, 64, 32), (256, 128, 64), (512, 256, 128))
    dropout: Range | None = Range(0.0, 0.6)
    learning_rate: Range | None = Range(1e-4, 1e-2)
    schedule: tuple[Schedule, ...] | None = ("plateau", "cosine")
    weight_decay: tuple[float, ...] | None = (0.0, 0.03, 0.1, 0.3, 0.6)
    batch_size: tuple[int, ...] | None = (512, 1_024, 2_048, 4_096)
    positive_weight: tuple[float | None, ...] | None = (None, 1.0, 3.0, 10.0, 30.0, 100.0)
    fraud_share: tuple[float | None, ...] | None = (None, 0.02, 0.1, 0.3)

    def __post_init__(self) -> None:
        if not self.searched():
            raise ConfigurationError("tuning space searches no setting; leave at least one as it is by default")
        for name, searched in self.searched().items():
            if isinstance(searched, Range) and not searched.low <= searched.high:
                raise ConfigurationError(
                    f"tuning space {name} runs from {searched.low} to {searched.high}; `low` must not be above `high`"
                )
            values = (searched.low, searched.high) if isinstance(searched, Range) else searched
            if not values:
                raise ConfigurationError(f"tuning space {name} has no values; name some, or null not to search it")
            for value in values:
                try:
                    replace(TrainingConfig(), **{name: value})
                except ConfigurationError as error:
                    raise ConfigurationError(f"tuning space {name} holds {value!r}: {error}") from error

    def searched(self) -> dict[str, Range | tuple[Any, ...]]:
        """The settings that are searched, each with what it may be."""
        each = {setting.name: getattr(self, setting.name) for setting in fields(self)}
        return {name: values for name, values in each.items() if values is not None}


@dataclass(frozen=True)
class TuningConfig:
    """How settings are searched.

    Attributes:
        space: what is tried.
        random_trials: so many are drawn at random, and trained to their end, before others learn from them.
        pruning_epochs: a later trial trains at least so many; it is ended behind an epoch in which its best validation
            average precision so far is below the median of what the others had then.
        seed: of what is drawn; trainings have their own.
    """

    space: SearchSpace = field(default_factory=SearchSpace)
    random_trials: int = 8
    pruning_epochs: int = 4
    seed: int = 7

    def __post_init__(self) -> None:
        for name, least in (("random_trials", 1), ("pruning_epochs", 1), ("seed", 0)):
            if (value := getattr(self, name)) < least:
                raise ConfigurationError(f"tuning {name} is {value}; it must be {least} or more")
