"""Pictures of a model's evidence as PNG bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from components.drawing import BLACK, BLUE, DPI, GREY, ORANGE, STYLE, VERMILION, beside, png, say
from schemas.thresholds import Costs, Thresholds

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

GENUINE, FRAUD, REVIEW, BLOCK, GUIDE = BLUE, VERMILION, ORANGE, BLACK, GREY

_SIZE_INCHES = (6.2, 4.4)
# Scores below this are drawn at it: on a logarithmic axis they would take all the room.
_LOWEST_SCORE = 1e-5
_Z95 = 1.959964


def of_split(
    split: str, labels: ArrayLike, scores: ArrayLike, amounts_base_minor: ArrayLike, thresholds: Thresholds
) -> dict[str, bytes]:
    """Every picture of one split, by name.

    Args:
        split: its name, for the captions.
        labels: `[rows]`, 1 or true for fraud.
        scores: `[rows]`, probability of fraud.
        amounts_base_minor: `[rows]`, minor units of the base currency.
        thresholds: drawn where there are any.
    """
    fraud, score = np.asarray(labels) == 1, np.asarray(scores, dtype=np.float64)
    pictures = (precision_recall, roc, reliability, score_distribution, confusion)
    drawn = {picture.__name__: picture(split, fraud, score, thresholds) for picture in pictures}
    return {**drawn, "cost": cost(split, fraud, score, np.asarray(amounts_base_minor, np.float64), thresholds)}


def precision_recall(split: str, labels: Bools, scores: Floats, thresholds: Thresholds) -> bytes:
    """Precision over recall at every score, with the operating points, and the prevalence as what chance would give."""

    def draw(axes: Axes) -> None:
        precision, recall, _ = precision_recall_curve(labels, scores)
        axes.step(recall, precision, where="post", color=GENUINE)
        axes.axhline(labels.mean(), color=GUIDE, linestyle="--", linewidth=1)
        axes.annotate("chance", (0.99, labels.mean()), (0, 3), **beside("right"))
        for name, threshold, colour in _named(thresholds):
            alert = scores >= threshold
            if alert.any():
                point = (labels[alert].sum() / labels.sum(), labels[alert].mean())
                axes.plot(*point, "o", color=colour, markersize=7, markeredgecolor="white", clip_on=False, zorder=3)
                where, side = ((-8, -14), "right") if name == "REVIEW" else ((8, 6), "left")  # clear of each other
                axes.annotate(f"{name} from {threshold:.3g}", point, where, **beside(side))
        _percent(axes.xaxis, axes.yaxis)
        axes.set(
            xlim=(0, 1), ylim=(0, 1.02), xlabel="recall: frauds caught", ylabel="precision: alerts that are frauds"
        )
        axes.set_title(f"Precision and recall: AP {average_precision_score(labels, scores):.3f}", pad=20)

    return _picture(split, labels, scores, draw, needs_both=True)


def roc(split: str, labels: Bools, scores: Floats, thresholds: Thresholds) -> bytes:
    """Frauds caught over genuine transactions alerted on; logarithmic, because only the left end can be afforded."""

    def draw(axes: Axes) -> None:
        genuine = int((~labels).sum())
        left = min(10.0 ** np.floor(np.log10(1 / genuine)), 0.1)
        false_alarms, caught, _ = roc_curve(labels, scores)
        axes.step(np.maximum(false_alarms, left), caught, where="post", color=GENUINE)
        chance = np.geomspace(left, 1, 200)
        axes.plot(chance, chance, color=GUIDE, linestyle="--", linewidth=1)
        axes.annotate("chance", (0.25, 0.25), (6, -8), **beside("left"))
        for name, threshold, colour in _named(thresholds):
            alert = scores >= threshold
            point = (max((alert & ~labels).sum() / genuine, left), (alert & labels).sum() / labels.sum())
            axes.plot(*point, "o", color=colour, markersize=7, markeredgecolor="white", clip_on=False, zorder=3)
            where, side = ((-8, 6), "right") if name == "REVIEW" else ((8, -11), "left")
            axes.annotate(f"{name} from {threshold:.3g}", point, where, **beside(side))
        axes.set_xscale("log")
        _percent(axes.xaxis, axes.yaxis)
        axes.set(xlim=(left, 1), ylim=(0, 1.02), ylabel="recall: frauds caught")
        axes.set_xlabel("false positive rate: genuine transactions alerted on (logarithmic)")
        axes.set_title(f"Receiver operating characteristic: AUC {roc_auc_score(labels, scores):.3f}", pad=20)

    return _picture(split, labels, scores, draw, needs_both=True)


def reliability(split: str, labels: Bools, scores: Floats, thresholds: Thresholds) -> bytes:
    """Share of frauds over the mean score of bins, three to a decade, with Wilson's 95 % interval.

    A bin without a fraud is drawn as a triangle at the interval's upper end.
    """
    del thresholds  # calibration does not depend on them

    def draw(axes: Axes) -> None:
        shown = np.clip(scores, _LOWEST_SCORE, 1)
        edges = np.geomspace(_LOWEST_SCORE, 1, 16)
        place = np.clip(np.searchsorted(edges, shown, "right") - 1, 0, edges.size - 2)
        rows = np.bincount(place, minlength=edges.size - 1)
        filled = rows > 0
        n = rows[filled]
        mean = np.bincount(place, shown, edges.size - 1)[filled] / n
        share = np.bincount(place, labels.astype(np.float64), edges.size - 1)[filled] / n
        low, high = _wilson(share, n)
        some = share > 0
        axes.plot([_LOWEST_SCORE, 1], [_LOWEST_SCORE, 1], color=GUIDE, linestyle="--", linewidth=1)
        axes.errorbar(
            mean[some],
            share[some],
            yerr=(np.maximum(share - low, 0)[some], np.maximum(high - share, 0)[some]),
            fmt="o",
            color=GENUINE,
            markersize=5,
            elinewidth=1,
            capsize=2,
            label="share of frauds, 95 % interval",
        )
        if not some.all():
            axes.plot(mean[~some], high[~some], "v", color=GUIDE, markersize=5, label="no fraud: share is below this")
        axes.set_xscale("log")
        axes.set_yscale("log")
        _percent(axes.xaxis, axes.yaxis)
        axes.set(xlim=(_LOWEST_SCORE, 1.3), ylim=(_LOWEST_SCORE, 1.3))
        axes.set(xlabel="mean score of the bin (logarithmic)", ylabel="share of frauds in the bin (logarithmic)")
        axes.legend(loc="upper left")
        axes.set_title("Reliability: does a score of 10 % mean 10 % fraud?", pad=20)

    return _picture(split, labels, scores, draw)


def score_distribution(split: str, labels: Bools, scores: Floats, thresholds: Thresholds) -> bytes:
    """How the scores of frauds and of genuine transactions spread, each class by itself."""

    def draw(axes: Axes) -> None:
        edges = np.geomspace(_LOWEST_SCORE, 1, 61)
        shown = np.clip(scores, _LOWEST_SCORE, 1)
        for name, members, colour in (("genuine", ~labels, GENUINE), ("fraud", labels, FRAUD)):
            if members.any():
                counts, _ = np.histogram(shown[members], edges)
                share = counts / members.sum()
                axes.stairs(share, edges, color=colour, linewidth=1.6, label=f"{name} ({int(members.sum()):,})")
                axes.stairs(share, edges, color=colour, fill=True, alpha=0.18)
        for name, threshold, colour in _named(thresholds):
            drawn = max(threshold, _LOWEST_SCORE)
            axes.axvline(drawn, color=colour, linestyle=":", linewidth=1.6)
            below = -22 if name == "REVIEW" else -34
            axes.annotate(name, (drawn, 1), (-4, below), xycoords=("data", "axes fraction"), **beside("right"))
        axes.set_xscale("log")
        _percent(axes.xaxis, axes.yaxis)
        axes.set(
            xlim=(_LOWEST_SCORE, 1), ylim=(0, None), xlabel="score (logarithmic)", ylabel="share of the class per bin"
        )
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.0), ncols=2)
        axes.set_title("Scores of frauds and of genuine transactions", pad=20)

    return _picture(split, labels, scores, draw)


def confusion(split: str, labels: Bools, scores: Floats, thresholds: Thresholds) -> bytes:
    """What became of frauds and of genuine transactions at the thresholds: PASS, REVIEW or BLOCK."""

    def draw(axes: Axes) -> None:
        blocked = scores >= (np.inf if thresholds.block is None else thresholds.block)
        reviewed = (scores >= (np.inf if thresholds.review is None else thresholds.review)) & ~blocked
        outcomes = (~reviewed & ~blocked, reviewed, blocked)
        counts = np.array([[int((outcome & group).sum()) for outcome in outcomes] for group in (labels, ~labels)])
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        shade = LinearSegmentedColormap.from_list("shade", ["#ffffff", GENUINE])
        axes.imshow(shares, cmap=shade, vmin=0, vmax=1.15, aspect="auto")
        for row in range(2):
            for column in range(3):
                text = f"{counts[row, column]:,}\n{shares[row, column]:.2%}"
                dark = shares[row, column] > 0.6
                axes.text(column, row, text, ha="center", va="center", fontsize=12, color="white" if dark else "black")
        axes.set_xticks(range(3), [_outcome("PASS", None), *_outcomes(thresholds)])
        axes.set_yticks(range(2), ["fraud", "genuine"])
        axes.tick_params(length=0)
        axes.grid(False)
        axes.set(xlabel="outcome at the thresholds; shares are of the row")
        axes.set_title("What becomes of a transaction", pad=20)

    return _picture(split, labels, scores, draw)


def cost(split: str, labels: Bools, scores: Floats, amounts: Floats, thresholds: Thresholds) -> bytes:
    """What decisions cost a transaction, over the share that is alerted on; BLOCK stays where it is."""
    costs = thresholds.costs or Costs()

    def draw(axes: Axes) -> None:
        order = np.argsort(-scores, kind="stable")
        fraud, falling = labels[order], scores[order]
        blocked = falling >= (np.inf if thresholds.block is None else thresholds.block)
        loss = (np.where(fraud, -amounts[order], 0.0) + np.where(blocked, 0, costs.review_minor)).cumsum()
        loss += costs.false_decline_minor * np.cumsum(blocked & ~fraud) + amounts[labels].sum()
        ends = np.flatnonzero(np.append(falling[1:] != falling[:-1], True))
        share, each = (ends + 1) / scores.size, loss[ends] / scores.size
        nothing = amounts[labels].sum() / scores.size
        axes.plot(share, each, color=GENUINE)
        axes.axhline(nothing, color=GUIDE, linestyle="--", linewidth=1)
        axes.annotate("everything passes", (1, nothing), (0, 4), **beside("right"))
        for name, threshold, colour in _named(thresholds):
            at = int((scores >= threshold).sum())
            if at:
                point = (at / scores.size, loss[at - 1] / scores.size)
                axes.plot(*point, "o", color=colour, markersize=7, markeredgecolor="white", zorder=3)
                axes.annotate(f"{name} from {threshold:.3g}", point, (-8, -13), **beside("right"))
        axes.axvline(thresholds.alert_budget, color=GUIDE, linestyle=":", linewidth=1.4)
        axes.annotate("budget", (thresholds.alert_budget, 0), (3, 4), **beside("left"))
        axes.set_xscale("log")
        _percent(axes.xaxis)
        # Where everything is looked at, reviews dwarf what they save, and hide where they pay.
        axes.set(xlim=(min(share[0], 0.5), 1), ylim=(0, 1.6 * max(nothing, 1e-9)), ylabel="minor units per transaction")
        axes.set_xlabel("share of transactions alerted on (logarithmic)")
        axes.set_title("Cost: missed frauds, reviews and declines", pad=20)

    return _picture(split, labels, scores, draw)


def history(history: Mapping[str, Sequence[float]]) -> bytes:
    """The course of training: a panel per metric, training and validation together.

    Args:
        history: one value per epoch by Keras's names; `val_` marks validation.
    """
    names = list(dict.fromkeys(name.removeprefix("val_") for name in history))
    with rc_context(STYLE):
        figure = Figure(figsize=(max(3.1 * len(names), _SIZE_INCHES[0]), 3.4), dpi=DPI, layout="constrained")
        panels = figure.subplots(1, max(len(names), 1), squeeze=False)[0]
        for axes, name in zip(panels, names, strict=False):
            for key, label, colour in ((name, "training", GENUINE), (f"val_{name}", "validation", FRAUD)):
                values = history.get(key, ())
                if len(values):
                    axes.plot(range(1, len(values) + 1), values, ".-", color=colour, label=label)
            axes.set(xlabel="epoch", title=name.replace("_", " "))
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.legend()
        if not names:
            say(panels[0], "There is no history: the model was not trained by epochs.")
        return png(figure)


def _picture(
    split: str, labels: Bools, scores: Floats, draw: Callable[[Axes], None], needs_both: bool = False
) -> bytes:
    """Draws with the caption that every picture of a split has, or says why there is nothing to draw."""
    frauds = int(labels.sum())
    with rc_context(STYLE):
        figure = Figure(figsize=_SIZE_INCHES, dpi=DPI, layout="constrained")
        axes = figure.add_subplot()
        if not labels.size:
            say(axes, f"Split {split} has no row.")
        elif not np.isfinite(scores).all():
            say(axes, f"{int((~np.isfinite(scores)).sum())} scores of split {split} are not finite numbers.")
        elif needs_both and frauds in (0, labels.size):
            say(axes, f"Split {split} has {frauds:,} frauds among {labels.size:,} rows;\nthis needs frauds and others.")
        else:
            draw(axes)
            caption = f"{split}: {labels.size:,} transactions, {frauds:,} frauds ({labels.mean():.3%})"
            axes.annotate(caption, (0, 1), (0, 6), xycoords="axes fraction", **beside("left"))
        return png(figure)


def _named(thresholds: Thresholds) -> list[tuple[str, float, str]]:
    """Each threshold with its name and colour; one entry where the two are the same."""
    if thresholds.review is None:
        return []
    if thresholds.block == thresholds.review:
        return [("REVIEW and BLOCK", thresholds.review, BLOCK)]
    review = [("REVIEW", thresholds.review, REVIEW)]
    return review if thresholds.block is None else [*review, ("BLOCK", thresholds.block, BLOCK)]


def _outcome(name: str, threshold: float | None) -> str:
    return name if threshold is None else f"{name}\nfrom {threshold:.4g}"


def _outcomes(thresholds: Thresholds) -> list[str]:
    named = (("REVIEW", thresholds.review), ("BLOCK", thresholds.block))
    return [f"{name}\nno threshold" if threshold is None else _outcome(name, threshold) for name, threshold in named]


def _percent(*axes: Any) -> None:
    for axis in axes:
        axis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.6g} %"))


def _wilson(share: Floats, n: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Wilson's 95 % score interval for a proportion (Wilson 1927)."""
    centre = (share + _Z95**2 / (2 * n)) / (1 + _Z95**2 / n)
    half = _Z95 / (1 + _Z95**2 / n) * np.sqrt(share * (1 - share) / n + _Z95**2 / (4 * n**2))
    return centre - half, centre + half
