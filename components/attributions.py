"""What raises the highest scores of a split, input by input, as the model itself explains them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from components.drawing import BLUE, DPI, STYLE, VERMILION, png, say
from components.measures import Bools, Floats
from schemas.features import FeatureSpec

# The scores that are explained, how many at a time, and the inputs that are drawn.
ROWS = 256
_ROWS_AT_ONCE = 64
_DRAWN = 15
_SIZE_INCHES = (6.2, 4.4)


def highest(scores: Floats, rows: int = ROWS) -> Bools:
    """Where the highest scores are, `[rows]`; of equal ones the first."""
    chosen = np.zeros(scores.size, np.bool_)
    chosen[np.argsort(-scores, kind="stable")[:rows]] = True
    return chosen


def by_input(attributions: Floats, spec: FeatureSpec) -> tuple[tuple[str, float], ...]:
    """The mean contribution of each input to the log-odds of a score, the largest, either way, first.

    Args:
        attributions: `[rows, F + C]`, as the signature `explain` gives them.
        spec: the inputs; the columns of a vector add up.
    """
    if not len(attributions):
        return ()
    means = iter(attributions.mean(axis=0))
    sums = [(i.name, float(sum(next(means) for _ in range(i.width)))) for i in (*spec.numeric, *spec.categorical)]
    return tuple(sorted(sums, key=lambda one: -abs(one[1])))


def attribute(saved_model: Path, examples_root: Path, split: str, chosen: Bools) -> Floats:
    """Attributions `[chosen rows, F + C]` of some rows of a split.

    Args:
        saved_model: has the signature `explain`.
        examples_root: folder of the examples.
        split: its name.
        chosen: which of its rows, `[rows]`.
    """
    import tensorflow as tf

    from components.examples import pack, read_batches
    from components.export import EXPLAIN
    from components.scoring import read_spec

    spec = read_spec(saved_model)
    model = tf.saved_model.load(str(saved_model))
    explain, found, begin = model.signatures[EXPLAIN], [], 0
    for features, labels in read_batches(examples_root, split, spec):
        rows = np.flatnonzero(chosen[begin : begin + len(labels)])
        begin += len(labels)
        for part in np.array_split(rows, -(-rows.size // _ROWS_AT_ONCE) or 1):
            numeric, text = pack({name: values[part] for name, values in features.items()}, spec)
            asked = {"numeric": tf.constant(numeric), "categorical": tf.constant(text, tf.string, text.shape)}
            found.append(explain(**asked)["attributions"].numpy().astype(np.float64))
    return np.concatenate(found)


def picture(contributions: Sequence[tuple[str, float]], rows: int) -> bytes:
    """The strongest inputs as bars: what raises scores, and what lowers them.

    Args:
        contributions: of `by_input`.
        rows: of how many scores.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=_SIZE_INCHES, dpi=DPI, layout="constrained")
        axes = figure.add_subplot()
        shown = contributions[:_DRAWN]
        if not shown:
            say(axes, "No score was explained.")
            return png(figure)
        values = [value for _, value in shown]
        axes.barh(range(len(shown)), values, color=[VERMILION if value > 0 else BLUE for value in values], height=0.7)
        axes.set_yticks(range(len(shown)), [name.replace("_", " ") for name, _ in shown], fontsize=7.5)
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("mean contribution to the log-odds of fraud")
        figure.suptitle(f"What makes the {rows:,} highest scores", fontsize=11, fontweight="bold", x=0.01, ha="left")
        return png(figure)
