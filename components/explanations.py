"""Why a score is what it is: integrated gradients of its log-odds, taken back to the inputs that a request has.

Integrated gradients (Sundararajan, Taly and Yan, 2017) give to each coordinate of what a network reads the mean of the
output's derivative by it on the straight line from a reference, times the way that it has come from there.  The
attributions sum to the output less the output at the reference.

- What is attributed are the log-odds of the calibrated score, a Z + b for Platt's a and b and the network's logit Z.
- The network reads standardised numbers, flags, the calendar, and embeddings of words, between which no id lies.
- The reference is the average genuine row: of each number, flag and coordinate of an embedding the mean over the
  genuine training rows.  Zero would be the mean of what is standardised, but of a flag it says that the value is there,
  of the calendar's circles that there is no time, and of an embedding nothing at all.
- A number's places within bins (`components.encoding`) are the number's.  A bin may be far narrower than a step of the
  line, and the derivative within it as much larger.  So the places go straight from where they are at the begin of a
  step to where they are at its end, and what counts is how far each has come: together its whole way.
- What is derived from one input is that input's.  A column that sets the amount against a habit (ratios, deviations) is
  the habit's, in equal parts where there are several: what the amount itself weighs has a column of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from components.encoding import PiecewiseLinear
from components.transform import NUMERIC, sources
from schemas.features import AMOUNT, FeatureSpec

# Points of the line at which the derivative is taken.  Along it the derivative of a piecewise linear network jumps: no
# rule of a higher order does better than the middles of as many parts, whose error falls with their number.
STEPS = 128
_ROWS_AT_ONCE = 16_384


@dataclass(frozen=True)
class Parts:
    """The network in parts.

    Attributes:
        read: from its inputs to `numeric` and the embeddings, a list of tensors.
        encode: from `numeric` to its places within bins; None for a network without.
        judge: from `numeric`, its places if any, and the embeddings to the logit.
    """

    read: keras.Model
    encode: PiecewiseLinear | None
    judge: keras.Model


def cut(network: keras.Model) -> Parts:
    """Takes the network apart where what it reads of a row ends and what it makes of that begins."""
    embedded = [layer.output for layer in network.layers if isinstance(layer, keras.layers.Embedding)]
    numbers = network.input[NUMERIC]
    encode = next((layer for layer in network.layers if isinstance(layer, PiecewiseLinear)), None)
    judged = [numbers, *([] if encode is None else [encode.output]), *embedded]
    return Parts(
        keras.Model(network.input, [numbers, *embedded], name="read"),
        encode,
        keras.Model(judged, network.output, name="judge"),
    )


def average_genuine(network: keras.Model, inputs: Mapping[str, np.ndarray], labels: np.ndarray) -> list[np.ndarray]:
    """The reference: of each tensor behind the cut its mean over the genuine rows, float32, without a batch axis.

    Args:
        network: the fitted one.
        inputs: what it reads of the training rows, `[rows, ...]` by name.
        labels: float32 `[rows]`.
    """
    read = cut(network).read
    genuine = np.flatnonzero(labels == 0)
    sums: list[np.ndarray] | None = None
    for begin in range(0, len(genuine), _ROWS_AT_ONCE):
        rows = genuine[begin : begin + _ROWS_AT_ONCE]
        tensors = _listed(read({name: values[rows] for name, values in inputs.items()}, training=False))
        # In float64: a million float32 terms would lose the mean's last digits.
        parts = [keras.ops.convert_to_numpy(tensor).astype(np.float64).sum(axis=0) for tensor in tensors]
        sums = parts if sums is None else [total + part for total, part in zip(sums, parts, strict=True)]
    assert sums is not None, "training rows are not all frauds"
    return [(total / len(genuine)).astype(np.float32) for total in sums]


def explain(
    network: keras.Model, slope: float, reference: Sequence[np.ndarray], spec: FeatureSpec
) -> Callable[[Mapping[str, tf.Tensor]], tf.Tensor]:
    """From what the network reads to attributions float32 `[batch, F + C]`, in the order of `score_packed`.

    Args:
        network: whose output is the logit `[batch, 1]`.
        slope: Platt's a.
        reference: see `average_genuine`.
        spec: names the inputs.
    """
    parts = cut(network)
    of_columns = credit(spec)
    of_places = np.zeros((0, 0)) if parts.encode is None else of_columns[list(parts.encode.columns)]
    shares, shares_of_places = tf.constant(of_columns), tf.constant(of_places)

    def log_odds(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
        return slope * tf.cast(parts.judge(list(tensors), training=False), tf.float32)

    def attributions(inputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
        there = [tf.cast(tensor, tf.float32) for tensor in _listed(parts.read(dict(inputs), training=False))]
        numeric, *others = integrated_gradients(log_odds, there, reference, STEPS, parts.encode)
        numbers = numeric @ shares
        if parts.encode is not None:
            places, *others = others
            numbers += places @ shares_of_places
        words = [tf.reduce_sum(of_word, axis=-1) for of_word in others]
        return tf.concat([numbers, *words], axis=1)

    return attributions


def integrated_gradients(
    function: Callable[[Sequence[tf.Tensor]], tf.Tensor],
    there: Sequence[tf.Tensor],
    reference: Sequence[np.ndarray],
    steps: int,
    encode: Callable[[tf.Tensor], tf.Tensor] | None = None,
) -> list[tf.Tensor]:
    """Attributions of a function of several tensors, in their shapes.

    Args:
        function: gives each row of the tensors `[batch, ...]` a number, `[batch, ...]`.
        there: the rows to explain.
        reference: where the line begins, without a batch axis.
        steps: parts of the line, in whose middles the derivative is taken.
        encode: makes of the first tensor another, `[batch, B]`, which the function takes behind it and which gets
            attributions of its own; None for none.
    """
    ends = (np.arange(steps + 1) / steps).astype(np.float32)
    middles = (ends[1:] + ends[:-1]) / 2
    ways = [tensor - start for tensor, start in zip(there, reference, strict=True)]
    line = [_on_line(start, way, middles) for start, way in zip(reference, ways, strict=True)]
    come = [way[tf.newaxis] / steps for way in ways]
    if encode is not None:
        encoded = encode(_on_line(reference[0], ways[0], ends))
        width = encoded.shape[1]
        encoded = tf.reshape(encoded, [steps + 1, -1, width])
        line.insert(1, tf.reshape((encoded[1:] + encoded[:-1]) / 2, [-1, width]))
        come.insert(1, encoded[1:] - encoded[:-1])
    with tf.GradientTape() as tape:
        tape.watch(line)
        values = function(line)
    slopes = tape.gradient(values, line, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return [
        tf.reduce_sum(part * tf.reshape(slope, [steps, -1, *slope.shape[1:]]), axis=0)
        for part, slope in zip(come, slopes, strict=True)
    ]


def _on_line(start: np.ndarray, way: tf.Tensor, at: np.ndarray) -> tf.Tensor:
    """The points of the lines of all rows, `[steps * batch, ...]`, step by step."""
    points = start + at.reshape(-1, *[1] * way.shape.rank) * way
    return tf.reshape(points, [-1, *way.shape[1:]])


def _listed(tensors: tf.Tensor | Sequence[tf.Tensor]) -> Sequence[tf.Tensor]:
    """Keras gives a model's only output without its list."""
    return tensors if isinstance(tensors, list | tuple) else [tensors]


def credit(spec: FeatureSpec) -> np.ndarray:
    """What share of the attribution of each column of `numeric` goes to each raw number, float32 `[N, F]`."""
    columns = {source: column for column, source in enumerate(_packed(spec))}
    shares = np.zeros((len(sources(spec)), len(columns)), np.float32)
    for row, made_of in enumerate(sources(spec)):
        habits = [source for source in made_of if source[0] != AMOUNT] or list(made_of)
        for source in habits:
            shares[row, columns[source]] = 1 / len(habits)
    return shares


def _packed(spec: FeatureSpec) -> Iterator[tuple[str, int]]:
    return ((i.name, place) for i in spec.numeric for place in range(i.width))
