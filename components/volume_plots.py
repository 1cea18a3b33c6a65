"""Pictures of a log: transactions and known frauds per day, and how long labels take, as PNG bytes."""

from __future__ import annotations

from datetime import date

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter, StrMethodFormatter

from components.drawing import BLUE, DPI, GREY, STYLE, VERMILION, beside, png, say
from components.volumes import Maturity, Volumes

_SIZE_INCHES = (6.2, 4.4)
# Behind the label delay, as a share of it: enough to see that the curve has come to rest.
_REST = 0.25


def volumes(counted: Volumes) -> bytes:
    """Transactions per day above, and below them the frauds that are known."""
    with rc_context(STYLE):
        figure = Figure(figsize=_SIZE_INCHES, dpi=DPI, layout="constrained")
        if not counted.days:
            say(figure.add_subplot(), "The log has no transaction.")
            return png(figure)
        days = [date.fromisoformat(day) for day in counted.days]
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        above.bar(days, counted.rows, width=1.0, color=BLUE, alpha=0.3, label="transactions")
        above.bar(days, counted.labelled, width=1.0, color=BLUE, label="with a label by now")
        below.bar(days, counted.frauds, width=1.0, color=VERMILION, label="known frauds")
        for axes in (above, below):
            axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
            axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.1)
            axes.grid(axis="x", visible=False)
        locator = AutoDateLocator(maxticks=8)
        below.xaxis.set_major_locator(locator)
        below.xaxis.set_major_formatter(ConciseDateFormatter(locator))
        figure.suptitle("Transactions and known frauds per day", fontsize=11, fontweight="bold", x=0.01, ha="left")
        return png(figure)


def maturity(counted: Maturity | None) -> bytes:
    """The share of labels that are known some days after the event, and the longest delay that the mapping tells of."""
    with rc_context(STYLE):
        figure = Figure(figsize=_SIZE_INCHES, dpi=DPI, layout="constrained")
        axes = figure.add_subplot()
        if counted is None:
            say(axes, "No label has a time, so nobody knows how long it took.")
        elif len(counted.transactions) < 2:
            say(axes, "The log is too short to say how long labels take.")
        else:
            _curves(axes, counted)
        return png(figure)


def _curves(axes: Axes, counted: Maturity) -> None:
    delay = counted.label_delay_days
    right = min(max(delay * (1 + _REST), 1.0), len(counted.transactions) - 1)
    axes.axvspan(0, min(delay, right), color=GREY, alpha=0.12, linewidth=0)
    axes.annotate(f"label delay: {delay:g} days", (min(delay, right), 0.03), (-5, 0), **beside("right"))
    for shares, colour, name in (
        (counted.transactions, BLUE, "all transactions"),
        (counted.frauds, VERMILION, "those found to be frauds"),
    ):
        if shares:
            axes.step(np.arange(len(shares)), shares, where="post", color=colour, label=name)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlim=(0, right), ylim=(0, 1.02), xlabel="days after the event", ylabel="share with a label")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.1)
    axes.set_title("Label maturity: how many labels are known after some days", pad=24)
