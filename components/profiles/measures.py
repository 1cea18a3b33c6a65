"""The statistics of drift between two profiles, by feature and segment, where both have enough rows to tell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from components.distances import (
    factor,
    jensen_shannon_divergence,
    kolmogorov_smirnov_distance,
    population_stability_index,
)
from components.profiles.counting import FRAUD, GENUINE, Counts, NumberCounts, Profile, TextCounts
from components.profiles.layout import ALL, Edges
from schemas.errors import ConfigurationError
from schemas.transaction import LABEL

Statistic = Literal[
    "psi",
    "jensen_shannon",
    "kolmogorov_smirnov",
    "missing_share_change",
    "label_share_factor",
    "volume_factor",
    "new_value_share",
    "vanished_value_share",
    "top_share_rise",
    "unit_factor",
    "time_zone_gain",
    "repeated_day_share",
    "label_auc",
]
# They measure the same: how otherwise a feature is distributed.
DISTRIBUTION: tuple[Statistic, ...] = ("psi", "jensen_shannon", "kolmogorov_smirnov")
ROWS = "rows"
Shares = npt.NDArray[np.float64]
# A value with less than this part of the rows that it had has vanished.
_VANISHED = 0.01


@dataclass(frozen=True)
class Support:
    """How many rows both sides need before a statistic is believed; noise falls with them, and so it needs no p-value.

    Attributes:
        rows_per_bin: a distribution needs as many values as that times its bins: at 100 the PSI of two samples of one
            distribution is 0.02 on average, and its standard deviation less.
        rows: a share of rows needs as many: at 2,000 the standard error of a difference is at most 0.016.
        amounts: the median amount of a currency needs as many rows, whose error matters little next to a factor.
        frauds: the share of frauds needs as many on either side at the rate of both together: frauds come in campaigns
            of dozens, so that smaller numbers double by chance from one week to the next.
        labels: how well a column ranks frauds needs as many of each label on either side.
    """

    rows_per_bin: int = 100
    rows: int = 2_000
    amounts: int = 100
    frauds: int = 100
    labels: int = 20

    def __post_init__(self) -> None:
        for name in ("rows_per_bin", "rows", "amounts", "frauds", "labels"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"support {name} is {getattr(self, name)}; it must be 1 or more")


@dataclass(frozen=True)
class Measured:
    """One statistic of one feature in one segment.

    Attributes:
        feature: a column, or `rows`.
        value: of the statistic.
        baseline, current: what moved most: of a distribution the shares of the bin that `detail` names.
        detail: a bin, a value, a day.
    """

    feature: str
    segment: str
    statistic: Statistic
    value: float
    baseline: float
    current: float
    detail: str = ""


def drift(current: Profile, baseline: Profile, support: Support) -> Iterator[Measured]:
    """The statistics of all features that both have, and that of labels and volume; the layouts are equal."""
    for name, edges in baseline.layout.numbers.items():
        if name in current.numbers and name in baseline.numbers:
            yield from _of_number(name, edges, current, baseline, support)
    for name in baseline.layout.texts:
        if name in current.texts and name in baseline.texts:
            yield from _of_text(name, current, baseline, support)
    yield from _of_labels(current, baseline, support)
    then, now = rows_per_day(baseline), rows_per_day(current)
    yield Measured(ROWS, ALL, "volume_factor", factor(then, now), then, now)


def rows_per_day(profile: Profile) -> float:
    """Rows of the median day; spans may be of any length, begin and end within a day, and have gaps."""
    return float(np.median([*profile.days.values()])) if profile.days else 0.0


def _of_number(name: str, edges: Edges, current: Profile, baseline: Profile, support: Support) -> Iterator[Measured]:
    now, then = current.numbers[name].bins, baseline.numbers[name].bins
    # Fine bins that end in one wide bin; the one above the last edge and the missing stay as they are.
    starts = [0, *(position + 1 for position in edges.coarse)]
    wide_now = np.add.reduceat(now[:, :-1], starts, axis=1)
    wide_then = np.add.reduceat(then[:, :-1], starts, axis=1)
    names = [edges.name(i, wide=True) for i in range(wide_now.shape[1])]
    yield from _missing(name, baseline.layout.segments, now, then, support)
    enough = np.minimum(wide_now.sum(axis=1), wide_then.sum(axis=1)) >= support.rows_per_bin * len(names)
    segments = [segment for segment, compared in zip(baseline.layout.segments, enough, strict=True) if compared]
    yield from _distances(name, segments, _shares(wide_now[enough]), _shares(wide_then[enough]), names)
    p, q = _shares(now[enough, :-1]), _shares(then[enough, :-1])
    below_now, below_then = np.cumsum(p, axis=1), np.cumsum(q, axis=1)
    places = np.argmax(np.abs(below_now - below_then), axis=1)
    distances = kolmogorov_smirnov_distance(p, q)
    for row, (segment, place) in enumerate(zip(segments, places.tolist(), strict=True)):
        upper = f"at most {edges.fine[place]:g}" if place < len(edges.fine) else ""
        moved = float(below_then[row, place]), float(below_now[row, place]), upper
        yield Measured(name, segment, "kolmogorov_smirnov", float(distances[row]), *moved)


def _of_text(name: str, current: Profile, baseline: Profile, support: Support) -> Iterator[Measured]:
    now, then = current.texts[name], baseline.texts[name]
    names = [*baseline.layout.texts[name], "any other value"]
    yield from _missing(name, baseline.layout.segments, now.bins, then.bins, support)
    counts_now, counts_then = now.bins[:, :-1], then.bins[:, :-1]
    # Only bins that are in use need rows: inside a segment most values of another column do not occur.
    least = support.rows_per_bin * np.maximum(np.count_nonzero(counts_now + counts_then, axis=1), 1)
    enough = np.minimum(counts_now.sum(axis=1), counts_then.sum(axis=1)) >= least
    segments = [segment for segment, compared in zip(baseline.layout.segments, enough, strict=True) if compared]
    yield from _distances(name, segments, _shares(counts_now[enough]), _shares(counts_then[enough]), names)
    if min(now.total.sum(), then.total.sum()) >= support.rows:
        yield from _of_values(name, now, then)


def _of_values(name: str, now: TextCounts, then: TextCounts) -> Iterator[Measured]:
    """What became of single values: the largest new one, the largest that vanished, the one whose share rose most."""
    share_now, share_then = _named_shares(now), _named_shares(then)
    values = sorted({*share_now, *share_then})
    before = np.array([share_then.get(value, 0.0) for value in values])
    after = np.array([share_now.get(value, 0.0) for value in values])
    changes: tuple[tuple[Statistic, npt.NDArray[np.float64]], ...] = (
        ("new_value_share", np.where(before == 0, after, 0.0)),
        ("vanished_value_share", np.where(after <= _VANISHED * before, before, 0.0)),
        ("top_share_rise", np.maximum(after - before, 0.0)),
    )
    for statistic, change in changes:
        if not len(change):
            continue
        top = int(np.argmax(change))
        detail = values[top] if change[top] else ""
        yield Measured(name, ALL, statistic, float(change[top]), float(before[top]), float(after[top]), detail)


def _of_labels(current: Profile, baseline: Profile, support: Support) -> Iterator[Measured]:
    for index, segment in enumerate(baseline.layout.segments):
        now, then = current.rows[index], baseline.rows[index]
        known_now, known_then = now[GENUINE] + now[FRAUD], then[GENUINE] + then[FRAUD]
        if not (known_now and known_then):
            continue
        rate = (now[FRAUD] + then[FRAUD]) / (known_now + known_then)
        if rate * min(known_now, known_then) < support.frauds:
            continue
        share_now, share_then = float(now[FRAUD] / known_now), float(then[FRAUD] / known_then)
        yield Measured(LABEL, segment, "label_share_factor", factor(share_now, share_then), share_then, share_now)


def _distances(name: str, segments: Sequence[str], now: Shares, then: Shares, names: list[str]) -> Iterator[Measured]:
    """PSI and Jensen-Shannon divergence of shares `[segments, bins]`."""
    psi, divergence = population_stability_index(now, then), jensen_shannon_divergence(now, then)
    tops = np.argmax(np.abs(now - then), axis=1)
    for row, (segment, top) in enumerate(zip(segments, tops.tolist(), strict=True)):
        moved = float(then[row, top]), float(now[row, top]), names[top]
        yield Measured(name, segment, "psi", float(psi[row]), *moved)
        yield Measured(name, segment, "jensen_shannon", float(divergence[row]), *moved)


def _missing(name: str, segments: Sequence[str], now: Counts, then: Counts, support: Support) -> Iterator[Measured]:
    rows_now, rows_then = now.sum(axis=1), then.sum(axis=1)
    for row in np.flatnonzero(np.minimum(rows_now, rows_then) >= support.rows).tolist():
        share_now, share_then = float(now[row, -1] / rows_now[row]), float(then[row, -1] / rows_then[row])
        change = abs(share_now - share_then)
        yield Measured(name, segments[row], "missing_share_change", change, share_then, share_now)


def _shares(counts: Counts) -> Shares:
    """Of counts `[segments, bins]`, none of whose rows is empty."""
    return counts / counts.sum(axis=1, keepdims=True)


def _named_shares(text: TextCounts) -> dict[str, float]:
    total = text.total.sum()
    return {value: float(sum(counts) / total) for value, counts in text.named.items()}


def label_counts(column: NumberCounts | TextCounts) -> tuple[Counts, Counts]:
    """Genuine rows and frauds `[bins]` of one column: numbers ascending, texts by their share of frauds."""
    if isinstance(column, NumberCounts):
        return column.sketch[GENUINE], column.sketch[FRAUD]
    named = np.array([*column.named.values()], np.int64).reshape(-1, 3)
    others = column.total - column.missing - named.sum(axis=0)
    counts = np.vstack([named, others, column.missing])[:, [GENUINE, FRAUD]]
    counts = counts[counts.sum(axis=1) > 0]
    counts = counts[np.argsort(counts[:, 1] / counts.sum(axis=1), kind="stable")]
    return counts[:, 0], counts[:, 1]
