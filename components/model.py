"""The network: embeddings for text, a tower of blocks, and Platt's scaling that makes its output a probability."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import keras
import numpy as np

from components.encoding import FeatureScale, PiecewiseLinear
from components.training.config import Block
from components.transform import CATEGORICAL, NUMERIC


@dataclass(frozen=True)
class Shape:
    """What the network reads.

    Attributes:
        numeric: N of `numeric` float32 `[batch, N]`.
        vocabularies: of each text input, the number of its ids, unknown words included, and how many neighbouring
            columns of `categorical` int64 `[batch, C]` it has: a vector has several.
        bins: of each column of `numeric` the ends of the bins, see `components.encoding`, whose places are read beside
            it; empty for no column has any.
    """

    numeric: int
    vocabularies: tuple[tuple[int, int], ...]
    bins: tuple[tuple[float, ...], ...] = ()


def build_network(
    shape: Shape,
    units: Sequence[int],
    dropout: float,
    seed: int,
    *,
    block: Block = "plain",
    feature_rate: float = 0.0,
    layer_norm: bool = False,
    precision: str = "float32",
) -> keras.Model:
    """A tower of blocks whose output is the logit of fraud, float32 `[batch, 1]`.

    Args:
        shape: what it reads.
        units: widths of the blocks.
        dropout: share of activations dropped behind each of them.
        seed: of their initial weights.
        block: what they are.
        feature_rate: of the factors of features, see `components.encoding.FeatureScale`; 0 for none.
        layer_norm: whether what a hidden layer puts out is normalised before it is bent or gated (Ba, Kiros and Hinton,
            2016).
        precision: Keras' name for the types of weights and arithmetic.
    """
    inputs: dict[str, keras.KerasTensor] = {NUMERIC: keras.Input((shape.numeric,), dtype="float32", name=NUMERIC)}
    parts = [inputs[NUMERIC]]
    if any(shape.bins):
        # Bins may be narrower than what types with 16 bits tell apart.
        parts.append(PiecewiseLinear(shape.bins, dtype="float32", name="places")(inputs[NUMERIC]))
    if shape.vocabularies:
        columns = sum(columns for _, columns in shape.vocabularies)
        inputs[CATEGORICAL] = keras.Input((columns,), dtype="int64", name=CATEGORICAL)
        at = 0
        for number, (size, columns) in enumerate(shape.vocabularies):
            width = min(16, math.ceil(size**0.5))
            ids = inputs[CATEGORICAL][:, at : at + columns]
            # A word means the same wherever in a vector it stands.
            embedded = keras.layers.Embedding(size, width, dtype=precision, name=f"embedding_{number}")(ids)
            flat = keras.layers.Reshape((columns * width,), dtype=precision, name=f"embedded_{number}")
            parts.append(flat(embedded))
            at += columns
    together = keras.layers.Concatenate(dtype=precision, name="features")
    x = together(parts) if len(parts) > 1 else parts[0]
    if feature_rate:
        x = FeatureScale(feature_rate, dtype=precision, name="feature_scale")(x)
    for layer, width in enumerate(units):
        x = _BLOCKS[block](x, _Layers(width, layer, seed + layer, layer_norm, precision))
        x = keras.layers.Dropout(dropout, seed=seed + layer, dtype=precision, name=f"dropout_{layer}")(x)
    # Of the types with 16 bits none has digits enough for a score.
    logit = keras.layers.Dense(1, dtype="float32", name="logit")(x)
    return keras.Model(inputs, logit, name="fraud_network")


@dataclass(frozen=True)
class _Layers:
    """The layers of one block."""

    width: int
    number: int
    seed: int
    layer_norm: bool
    precision: str

    def dense(
        self, x: keras.KerasTensor, name: str, initializer: keras.Initializer, activation: str | None = None
    ) -> keras.KerasTensor:
        """`[batch, any]` to `[batch, width]`."""
        layer = keras.layers.Dense(
            self.width,
            activation=activation,
            kernel_initializer=initializer,
            dtype=self.precision,
            name=f"{name}_{self.number}",
        )
        return layer(x)

    def linear(
        self, x: keras.KerasTensor, name: str, seed_after: int, activation: str | None = None
    ) -> keras.KerasTensor:
        # Seeds of one block must differ, or its layers would begin alike.
        return self.dense(x, name, keras.initializers.GlorotUniform(seed=self.seed + seed_after), activation)

    def normalised(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """With mean 0 and variance 1 over the width, where it is asked for."""
        if not self.layer_norm:
            return x
        return keras.layers.LayerNormalization(dtype=self.precision, name=f"norm_{self.number}")(x)


def _plain(x: keras.KerasTensor, layers: _Layers) -> keras.KerasTensor:
    dense = layers.dense(x, "dense", keras.initializers.HeNormal(seed=layers.seed))
    return keras.layers.ReLU(dtype=layers.precision, name=f"relu_{layers.number}")(layers.normalised(dense))


def _residual(x: keras.KerasTensor, layers: _Layers) -> keras.KerasTensor:
    """Two layers and a way round them, which is the identity where widths agree (He et al., 2016)."""
    way = x if x.shape[-1] == layers.width else layers.linear(x, "way", 1)
    inner = layers.linear(_plain(x, layers), "second", 2)
    added = keras.layers.Add(dtype=layers.precision, name=f"added_{layers.number}")([way, inner])
    return keras.layers.ReLU(dtype=layers.precision, name=f"residual_{layers.number}")(added)


def _gated(x: keras.KerasTensor, layers: _Layers) -> keras.KerasTensor:
    """A gated linear unit (Dauphin et al., 2017)."""
    value = layers.normalised(layers.linear(x, "value", 0))
    gate = layers.linear(x, "gate", 1, "sigmoid")
    return keras.layers.Multiply(dtype=layers.precision, name=f"gated_{layers.number}")([value, gate])


_BLOCKS: dict[Block, Callable[[keras.KerasTensor, _Layers], keras.KerasTensor]] = {
    "plain": _plain,
    "residual": _residual,
    "gated": _gated,
}


@keras.saving.register_keras_serializable("fraudops")
class PlattScaling(keras.layers.Layer):
    """Turns a logit z into the probability 1 / (1 + exp(-(a z + b))), `[batch, 1]` to `[batch]` (Platt, 1999)."""

    def __init__(self, slope: float, intercept: float, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.slope, self.intercept = float(slope), float(intercept)

    def call(self, logit: keras.KerasTensor) -> keras.KerasTensor:
        return keras.ops.sigmoid(self.slope * logit[:, 0] + self.intercept)

    def get_config(self) -> dict[str, object]:
        return {**super().get_config(), "slope": self.slope, "intercept": self.intercept}


def calibrate(network: keras.Model, slope: float, intercept: float) -> keras.Model:
    """The network with Platt's scaling behind it: the same inputs, a probability `[batch]`."""
    return keras.Model(network.inputs, PlattScaling(slope, intercept, name="score")(network.output), name="fraud")


def fit_platt(logits: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Slope and intercept of Platt's scaling, by logistic regression of the labels on the logits, both `[rows]`.

    The mean score then equals the share of frauds.  Returns the identity (1, 0) when only one class is present: nothing
    can be fitted then.  A slope that is not positive would turn the ranking round; it falls back to 1, with the
    intercept that keeps the mean.
    """
    from sklearn.linear_model import LogisticRegression

    positives = float(labels.sum())
    if positives in (0.0, float(len(labels))):
        return 1.0, 0.0
    # The faint penalty is on the slope alone and bounds it where logits separate the classes; the default tolerance is
    # as large as the share of frauds.
    regression = LogisticRegression(C=1e4, solver="newton-cholesky", tol=1e-9)
    wide = logits.astype(np.float64)
    fitted = regression.fit(wide.reshape(-1, 1), labels.astype(int))
    slope, intercept = float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
    return (slope, intercept) if slope > 0 else (1.0, _intercept_for(wide, positives / len(labels)))


def _intercept_for(logits: np.ndarray, mean: float) -> float:
    """The b for which 1 / (1 + exp(-(z + b))) has the given mean over the logits z: it grows with b, so bisection."""
    target = math.log(mean / (1 - mean))
    low, high = target - float(logits.max()), target - float(logits.min())
    for _ in range(64):
        middle = (low + high) / 2
        if np.mean(1 / (1 + np.exp(-(logits + middle)))) < mean:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def positive_weight(labels: np.ndarray, configured: float | None) -> float:
    """Weight of a fraud against a genuine row: as configured, or the fourth root of genuine rows per fraud in the data.

    The full ratio, some 200, would let a few frauds drown all else in the loss, and ranks worse.
    """
    if configured is not None:
        return configured
    frauds = float(labels.sum())
    return math.sqrt(math.sqrt((len(labels) - frauds) / frauds)) if frauds else 1.0


def network_inputs(transformed: Mapping[str, np.ndarray], shape: Shape) -> dict[str, np.ndarray]:
    """The arrays that the network of this shape reads."""
    names = (NUMERIC, CATEGORICAL) if shape.vocabularies else (NUMERIC,)
    return {name: transformed[name] for name in names}
