"""Pictures of a model beside other models and from slice to slice, with intervals, as PNG bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from components.comparison import Rival
from components.drawing import BLUE, DPI, GREY, INK, STYLE, png, say
from components.measures import Estimate
from components.slices import SliceEvidence

_WIDTH_INCHES, _HEAD_INCHES, _ROW_INCHES = 9.6, 1.1, 0.26
_OF_RIVALS = {
    "average_precision": "average precision",
    "recall_at_fpr_0.01": "recall at 1 % false positives",
    "saved_share": "saved share of fraud amount",
}
_OF_SLICES = {
    "review_recall": "frauds caught at REVIEW",
    "review_precision": "alerts that are frauds",
    "average_precision": "average precision",
}


def rivals(ours: Mapping[str, Estimate], others: Sequence[Rival]) -> bytes:
    """A model and the others on the same rows: a panel per measure, a line per model.

    Args:
        ours: measures by name.
        others: the other models.
    """
    lines = [("this model", ours), *((rival.name, rival.measures) for rival in others)]
    return _forest("This model and others on the test split", lines, _OF_RIVALS, guided=True)


def slices(found: Sequence[SliceEvidence]) -> bytes:
    """A model in each slice that has the support for it."""
    lines = [(f"{one.name} ({one.frauds:,})", one.measures) for one in found if one.supported]
    return _forest("Slices of the test split (frauds in each)", lines, _OF_SLICES)


def _forest(
    title: str, lines: Sequence[tuple[str, Mapping[str, Estimate]]], panels: Mapping[str, str], guided: bool = False
) -> bytes:
    """Points with their intervals; a guide stands at the first line's where the others are held against it."""
    with rc_context(STYLE):
        height = _HEAD_INCHES + _ROW_INCHES * max(len(lines), 3)
        figure = Figure(figsize=(_WIDTH_INCHES, height), dpi=DPI, layout="constrained")
        if not lines:
            say(figure.add_subplot(), "No slice has enough rows and frauds to be measured.")
            return png(figure)
        for axes, (name, label) in zip(figure.subplots(1, len(panels), sharey=True), panels.items(), strict=True):
            _panel(axes, [of.get(name) for _, of in lines], label, guided)
        first = figure.axes[0]
        first.set_yticks(range(len(lines)), [line for line, _ in lines])
        first.set_ylim(len(lines) - 0.5, -0.5)
        figure.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left")
        return png(figure)


def _panel(axes: Axes, estimates: Sequence[Estimate | None], label: str, guided: bool) -> None:
    for place, one in enumerate(estimates):
        if one is None:
            continue
        low, high = (one.value if end is None else end for end in (one.low, one.high))
        axes.plot([low, high], [place, place], color=BLUE, alpha=0.5, linewidth=2, zorder=2)
        axes.plot(one.value, place, "o", color=BLUE, markersize=5.5, markeredgecolor="white", zorder=3)
        axes.annotate(f"{one.value:.3f}", (one.value, place), (0, 5), textcoords="offset points", ha="center",
                      fontsize=7.5, color=INK)  # fmt: skip
    first = estimates[0] if guided else None
    if first is not None:
        axes.axvline(first.value, color=GREY, linestyle="--", linewidth=0.8, zorder=1)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(label)
