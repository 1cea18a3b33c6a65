"""The statistics of faults between two profiles: what is no change of the world, but a mistake on the way here."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt

from components.distances import factor, jensen_shannon_divergence, rank_auc
from components.profiles.counting import HALF_HOURS, Counts, NumberCounts, Profile, TextCounts
from components.profiles.layout import ALL
from components.profiles.measures import Measured, Support, label_counts
from components.profiles.sketch import sketch_quantile
from schemas.features import AMOUNT
from schemas.transaction import LABEL

# Summer time moves a log by one hour twice a year, which is no fault.
_LEAST_SHIFT = 3
# The shift must explain the change: at most this part of the divergence is left after turning the clock back.
_LEFT_OVER = 0.25
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def faults(current: Profile, baseline: Profile, support: Support) -> Iterator[Measured]:
    """The statistics of all faults; the layouts are equal."""
    yield from _unit(current, baseline, support)
    yield from _time_zone(current, baseline, support)
    yield from _repeated_day(current, baseline)
    yield from _label_leak(current, baseline, support)


def _unit(current: Profile, baseline: Profile, support: Support) -> Iterator[Measured]:
    """By which factor the median amount of a currency changed."""
    for currency, before in baseline.amounts.items():
        after = current.amounts.get(currency)
        if after is None or min(after[1:].sum(), before[1:].sum()) < support.amounts:
            continue
        then, now = sketch_quantile(before, 0.5), sketch_quantile(after, 0.5)
        if min(then, now) > 0:
            segment = f"currency={currency}" if currency else ALL
            yield Measured(AMOUNT, segment, "unit_factor", factor(then, now), then, now)


def _time_zone(current: Profile, baseline: Profile, support: Support) -> Iterator[Measured]:
    """By how many bits turning the clock brings the hours of the day nearer to the baseline's."""
    for index, segment in enumerate(baseline.layout.segments):
        now, then = current.half_hours[index], baseline.half_hours[index]
        if min(now.sum(), then.sum()) < support.rows_per_bin * HALF_HOURS:
            continue
        left = _divergence_by_shift(now, then)
        shift = int(np.argmin(left))
        # The shorter way round the clock; positive when the rows seem to be later than they were.
        shift -= HALF_HOURS if shift > HALF_HOURS // 2 else 0
        explained = abs(shift) >= _LEAST_SHIFT and left[shift] <= _LEFT_OVER * left[0]
        gain = float(left[0] - left[shift]) if explained else 0.0
        hours = shift / 2 if explained else 0.0
        yield Measured("event_time", segment, "time_zone_gain", gain, 0.0, hours, f"{hours:+g} h")


def _divergence_by_shift(now: Counts, then: Counts) -> npt.NDArray[np.float64]:
    """What is left `[48]` after turning the clock back by so many half hours."""
    p, q = now / now.sum(), then / then.sum()
    turned = np.array([np.roll(p, -shift) for shift in range(HALF_HOURS)])
    return jensen_shannon_divergence(turned, np.broadcast_to(q, turned.shape))


def _repeated_day(current: Profile, baseline: Profile) -> Iterator[Measured]:
    """Which share of some day's rows comes again with the same card, merchant, amount and second of the day."""
    day = current.repeats.most_repeated_day()
    if day.day >= 0:
        before = baseline.repeats.most_repeated_day().share
        detail = f"{_EPOCH + timedelta(days=day.day):%Y-%m-%d}"
        yield Measured("event_time", ALL, "repeated_day_share", day.share, before, day.share, detail)


def _label_leak(current: Profile, baseline: Profile, support: Support) -> Iterator[Measured]:
    """How well one column alone ranks frauds; before, 0.5 stands for a column that was not there."""
    columns: dict[str, NumberCounts | TextCounts] = {**current.numbers, **current.texts}
    for name, column in columns.items():
        after = _auc(*label_counts(column), support)
        if after is None:
            continue
        earlier = baseline.numbers.get(name) or baseline.texts.get(name)
        before = (_auc(*label_counts(earlier), support) if earlier else None) or 0.5
        yield Measured(name, ALL, "label_auc", after, before, after, LABEL)


def _auc(genuine: Counts, frauds: Counts, support: Support) -> float | None:
    if min(genuine.sum(), frauds.sum()) < support.labels:
        return None
    auc = rank_auc(genuine, frauds)
    return max(auc, 1 - auc)
