"""Pictures of drift: which features are how far from their thresholds where, and how the worst are distributed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib import rc_context
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from components.drawing import BLUE, DPI, GREY, INK, STYLE, VERMILION, png
from components.profiles.counting import HALF_HOURS, Profile
from components.profiles.findings import Finding
from components.profiles.layout import ALL

# The strongest: more of them nobody looks at.
DISTRIBUTIONS, FEATURES = 6, 20
_LONGEST_NAME = 54

Shares = npt.NDArray[np.float64]


def pictures(
    findings: Sequence[Finding],
    strain: Mapping[tuple[str, str], float],
    current: Mapping[str, Profile],
    baseline: Profile,
) -> dict[str, bytes]:
    """PNG by name: the overview, and the distributions behind the strongest findings.

    Args:
        findings: the strongest first.
        strain: see `findings.Comparison`, the largest of all periods.
        current: the profile of each period.
        baseline: in the same layout.
    """
    drawn = {"overview": overview(strain)}
    shown: set[tuple[str, str]] = set()
    for finding in findings:
        # A fault of one currency is seen in all amounts.
        segment = finding.segment if finding.segment in baseline.layout.segments else ALL
        if len(shown) == DISTRIBUTIONS or (finding.feature, segment) in shown:
            continue
        bins = _bins(finding.feature, segment, current[finding.period], baseline)
        if bins is not None:
            shown.add((finding.feature, segment))
            drawn[f"{len(shown)}_{finding.feature}"] = distributions(finding, segment, *bins)
    return drawn


def overview(strain: Mapping[tuple[str, str], float]) -> bytes:
    """A heat map of the statistics of drift as parts of their thresholds: features by columns of segments."""
    worst: dict[str, float] = {}
    for (feature, _), value in strain.items():
        worst[feature] = max(value, worst.get(feature, 0.0))
    features = sorted(worst, key=lambda feature: (-worst[feature], feature))[:FEATURES]
    columns = [ALL, *sorted({column for _, column in strain} - {ALL})]
    values = np.array([[strain.get((feature, column), np.nan) for column in columns] for feature in features])
    with rc_context(STYLE):
        figure = Figure(figsize=(8.2, 1.5 + 0.27 * max(len(features), 1)), dpi=DPI, layout="constrained")
        axes = figure.add_subplot()
        # White where nothing was compared.
        colours = ListedColormap(["white", "#f2f6fa", "#c6dbef", "#6baed6", "#fdbe85", VERMILION])
        steps = np.where(np.isnan(values), 0, np.digitize(values, [0.25, 0.5, 1.0, 2.0]) + 1)
        axes.imshow(steps, cmap=colours, vmin=-0.5, vmax=5.5, aspect="auto")
        for (row, column), value in np.ndenumerate(values):
            if not np.isnan(value):
                text, ink = (f"{value:.2f}", "white" if value >= 2 else INK) if value < 100 else (">99", "white")
                axes.text(column, row, text, ha="center", va="center", fontsize=8, color=ink)
        axes.set_xticks(range(len(columns)), [_short(_by(column)) for column in columns], rotation=15, ha="right")
        axes.set_yticks(range(len(features)), [_short(feature) for feature in features], fontsize=8)
        axes.grid(False)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        title = "Drift as a part of its threshold: above 1 it is a finding"
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
        return png(figure)


def distributions(finding: Finding, segment: str, names: Sequence[str], now: Shares, then: Shares) -> bytes:
    """The shares of the bins of one feature in one segment, the baseline's beside this run's."""
    with rc_context(STYLE):
        figure = Figure(figsize=(6.2, 3.4), dpi=DPI, layout="constrained")
        axes = figure.add_subplot()
        places = np.arange(len(names))
        axes.bar(places - 0.21, 100 * then, 0.4, color=GREY, label="champion's training rows")
        axes.bar(places + 0.21, 100 * now, 0.4, color=BLUE, label=finding.period)
        axes.set_xticks(places, [_short(name, 22) for name in names], rotation=40, ha="right", fontsize=7.5)
        axes.xaxis.grid(False)
        axes.set_ylabel("rows, %")
        axes.set_title(_short(finding.feature, 60), pad=18)
        where = "all rows" if segment == ALL else segment
        said = f"{where}: {finding.statistic.replace('_', ' ')} {finding.value:.3g}, threshold {finding.threshold:.3g}"
        axes.annotate(
            said, (0, 1), (0, 6), xycoords="axes fraction", textcoords="offset points", fontsize=8.5, color=INK
        )
        axes.legend(fontsize=8)
        return png(figure)


def _bins(
    feature: str, segment: str, current: Profile, baseline: Profile
) -> tuple[Sequence[str], Shares, Shares] | None:
    """Names of the bins that are in use, and both sides' shares; None where the feature has no distribution."""
    layout, place = baseline.layout, baseline.layout.segments.index(segment)
    if feature == "event_time":
        names = [f"{half // 2:02d}:{half % 2 * 30:02d}" for half in range(HALF_HOURS)][::2]
        now, then = (p.half_hours[place].reshape(-1, 2).sum(axis=1) for p in (current, baseline))
    elif feature in layout.numbers and feature in current.numbers and feature in baseline.numbers:
        edges = layout.numbers[feature]
        starts = [0, *(position + 1 for position in edges.coarse), len(edges.fine) + 1]
        now, then = (np.add.reduceat(p.numbers[feature].bins[place], starts) for p in (current, baseline))
        names = [edges.name(i, wide=True) for i in range(len(starts))]
    elif feature in layout.texts and feature in current.texts and feature in baseline.texts:
        names = [*layout.texts[feature], "any other value", "missing"]
        now, then = (p.texts[feature].bins[place] for p in (current, baseline))
    else:
        return None
    if not (now.sum() and then.sum()):
        return None
    used = np.flatnonzero(now + then)
    return [names[i] for i in used], now[used] / now.sum(), then[used] / then.sum()


def _by(column: str) -> str:
    return "all rows" if column == ALL else f"by {column}"


def _short(name: str, longest: int = _LONGEST_NAME) -> str:
    return name if len(name) <= longest else f"{name[: longest - 1]}…"
