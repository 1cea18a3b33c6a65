"""Pages for people: templates filled in by one set of rules, and pictures inside them."""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_TEMPLATES = Path(__file__).parent / "templates"
_WIDE_PIXELS = 1_000


@dataclass(frozen=True)
class Picture:
    """One PNG with the words that stand for it where it cannot be seen."""

    title: str
    png: bytes

    @property
    def uri(self) -> str:
        """The picture as a `data:` URI, so that the page needs no other file."""
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"

    @property
    def is_wide(self) -> bool:
        """Whether it needs a row of its own to be read."""
        # The width is the first field of a PNG's first chunk.
        return int.from_bytes(self.png[16:20], "big") > _WIDE_PIXELS


def page(template: str, **values: Any) -> str:
    """A template as HTML: every value escaped, and none that is named may be missing.

    Args:
        template: its file.
        values: what it names.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"count": _count, "number": _number, "percent": _percent, "moment": _moment}
    return environment.get_template(template).render(**values)


def evidence_pictures(folder: Path) -> tuple[Picture, ...]:
    """The pictures of a model in a folder: the test split first, because it is what the model is judged by; the course
    of training last."""
    order = {"test": 0, "validation": 1, "history": 2}
    pictures = sorted(folder.glob("*.png"), key=lambda one: (order[one.stem.partition("_")[0]], one.stem))
    return tuple(Picture(one.stem.replace("_", " "), one.read_bytes()) for one in pictures)


def _moment(at: str) -> str:
    """ISO 8601 in UTC as people read it, to the minute."""
    return f"{at[:10]} {at[11:16]} UTC"


def _count(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _number(value: float | str | None, digits: int = 4) -> str:
    if value is None:
        return "-"
    if isinstance(value, str) or not math.isfinite(value):
        return str(value)
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) >= 1_000 else f"{value:.{digits}g}"


def _percent(value: float | None, decimals: int = 2) -> str:
    return "-" if value is None else f"{100 * value:.{decimals}f} %"
