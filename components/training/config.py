"""How a network is trained: the choices, typed, and refused where they make no training."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from schemas.errors import ConfigurationError

Block = Literal["plain", "residual", "gated"]
Schedule = Literal["plateau", "cosine"]
Scaling = Literal["none", "linear"]
Precision = Literal["float32", "mixed_float16", "mixed_bfloat16", "automatic"]


@dataclass(frozen=True)
class TrainingConfig:
    """How the network is trained.

    Attributes:
        block: what each width in `units` becomes: `plain`, a dense layer; `residual`, two of them and a way round;
            `gated`, one whose outputs are let through by another.
        bins: each number is also read as its places within at most so many bins, which lets few layers bend sharply
            (see `components.encoding`); 0 for none.
        feature_rate: each feature has a factor that is learned, so many times as fast as all other weights (see
            `components.encoding.FeatureScale`); 0 for none.
        layer_norm: whether what hidden layers put out is normalised.
        units: widths of the hidden blocks.
        dropout: share of activations dropped behind each of them.
        batch_size: rows per step over all replicas together; with `linear` scaling, of each replica.  None takes 2,048,
            or half of it and so on down to 256 where an epoch would have fewer than 150 steps: a network learns little
            of few steps, however many rows are in each.
        learning_rate: of Adam.
        scaling: what several replicas change: `none`, nothing; `linear`, batch and learning rate grow with their number
            (Goyal et al., 2017).
        schedule: of the learning rate: `plateau`, it is cut to 0.3 of itself when validation has not improved for half
            the patience; `cosine`, it falls to 0 over `epochs` along half a wave.
        weight_decay: per step, in units of the learning rate, of all but biases (AdamW); 0 is Adam.
        epochs: at most so many.
        patience: epochs without a better validation average precision before training stops.
        positive_weight: weight of a fraud against a genuine row; None takes the fourth root of
            genuine rows per fraud in the data, or 1 with a `fraud_share`.
        fraud_share: of the rows of each batch, whatever it is in the data; None leaves them as they come.  An epoch is
            then one pass over the genuine rows.
        precision: of the arithmetic in training; weights, losses and scores are float32 with any.  `automatic` takes
            mixed_bfloat16 or mixed_float16 where all devices are GPUs made for it.
        seed: of initial weights, dropout and shuffling.
        logical_cpu_devices: as how many devices the CPU counts, where there is no GPU; each trains a replica.  None
            leaves it one device.
    """

    block: Block = "plain"
    bins: int = 8
    feature_rate: float = 20.0
    layer_norm: bool = True
    units: tuple[int, ...] = (256, 128, 64)
    dropout: float = 0.2
    batch_size: int | None = None
    learning_rate: float = 1e-3
    scaling: Scaling = "none"
    schedule: Schedule = "cosine"
    weight_decay: float = 0.3
    epochs: int = 8
    patience: int = 6
    positive_weight: float | None = None
    fraud_share: float | None = None
    precision: Precision = "float32"
    seed: int = 7
    logical_cpu_devices: int | None = None

    def __post_init__(self) -> None:
        for name in ("batch_size", "learning_rate", "epochs", "patience", "positive_weight", "logical_cpu_devices"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ConfigurationError(f"training {name} is {value}; it must be above 0 and finite")
        if self.bins < 0:
            raise ConfigurationError(f"training bins is {self.bins}; it must be 0 or more")
        if not 0 <= self.feature_rate < math.inf:
            raise ConfigurationError(f"training feature_rate is {self.feature_rate}; it must be 0 or more, and finite")
        if not self.units or min(self.units) < 1 or not 0 <= self.dropout < 1:
            raise ConfigurationError(f"training units {self.units} and dropout {self.dropout} make no network")
        if self.seed < 0:
            raise ConfigurationError(f"training seed is {self.seed}; it must be 0 or more")
        if not 0 <= self.weight_decay < 1:
            raise ConfigurationError(f"training weight_decay is {self.weight_decay}; it must be at least 0 and below 1")
        if self.fraud_share is not None and not 0 < self.fraud_share < 1:
            raise ConfigurationError(f"training fraud_share is {self.fraud_share}; it is a share, above 0 and below 1")
        for name, kind in (("block", Block), ("schedule", Schedule), ("scaling", Scaling), ("precision", Precision)):
            if getattr(self, name) not in get_args(kind):
                known = ", ".join(get_args(kind))
                raise ConfigurationError(f"training {name} is {getattr(self, name)!r}; it must be one of {known}")
