"""What all pictures share: style, colours of Okabe and Ito, which colour-blind people can tell apart, and PNG bytes."""

from __future__ import annotations

import io
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

BLUE, VERMILION, ORANGE, BLACK, GREY = "#0072B2", "#D55E00", "#E69F00", "#000000", "#767676"
INK = "#333333"
DPI = 130

STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
}


def png(figure: Figure) -> bytes:
    """The picture; equal ones are equal bytes."""
    buffer = io.BytesIO()
    # Without the version and the time in it.
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def say(axes: Axes, text: str) -> None:
    """Words in the place of a picture for which there is nothing to draw."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes, fontsize=11, color=GREY)


def beside(side: str) -> dict[str, Any]:
    """How words are set beside a point."""
    return {"textcoords": "offset points", "ha": side, "fontsize": 8.5, "color": INK}
