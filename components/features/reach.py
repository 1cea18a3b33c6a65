"""What a span of time depends on: which transactions matter for the features of those in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.features.engine import Ints, Mask
from schemas.features import Feature, FeatureSpec
from schemas.transaction import SECOND_US


@dataclass(frozen=True)
class Reach:
    """From when on something matters for the features of transactions at or after a time; UTC microseconds.

    Attributes:
        events_us: the smallest event time in any of their windows over events; the time itself without such windows.
        labels_us: the smallest label time in any of their windows over labels; None without such windows.
    """

    events_us: int
    labels_us: int | None


def reach(spec: FeatureSpec, begin_us: int) -> Reach:
    """How far back the features of transactions at `begin_us` or later look.

    The windows that begin first are those of `begin_us` itself.  Their tails lie on hops, so that they begin up to a
    hop before `begin_us` less their length: never as early as the longest window and its hop before it.
    """
    of_labels = [feature for feature in spec.features if _counts_labels(feature)]
    of_events = [feature for feature in spec.features if not _counts_labels(feature)]
    return Reach(
        min((_tail_us(feature, begin_us) for feature in of_events), default=begin_us),
        min((_tail_us(feature, begin_us) for feature in of_labels), default=None),
    )


def history_begins_us(spec: FeatureSpec, begin_us: int, label_delay_s: int) -> int:
    """The event time from which on a log must be whole, for the features of transactions at `begin_us` or later.

    Args:
        spec: the features.
        begin_us: of the first transaction, UTC microseconds.
        label_delay_s: the longest time after a transaction at which its label becomes known.
    """
    back = reach(spec, begin_us)
    if back.labels_us is None:
        return back.events_us
    return min(back.events_us, back.labels_us - label_delay_s * SECOND_US)


def covers(transactions: pa.Table, begin_us: int) -> bool:
    """Whether a log seems whole from a time on: it begins no later after it than its longest pause can explain.

    A log cut at that very time begins with the first transaction behind it, which comes some moments later.

    Args:
        transactions: at least one `event_time`, in order.
        begin_us: UTC microseconds.
    """
    times = micros(transactions["event_time"])
    return bool(times[0] - begin_us <= np.diff(times).max(initial=0))


def depends_on(transactions: pa.Table, spec: FeatureSpec, begin_us: int, end_us: int | None = None) -> Mask:
    """Which rows the features of the transactions in [begin_us, end_us) are computed from, these included; bool[n].

    Those that happened, and those whose label came, between what `reach` says and the end.  `compute_features` gives
    the transactions of the span the same values from these rows alone as from all rows.

    Args:
        transactions: `event_time`, and `label_time` where the specification counts labels.
        spec: the features.
        begin_us: UTC microseconds.
        end_us: UTC microseconds; None is no end.
    """
    back = reach(spec, begin_us)
    found = within(transactions["event_time"], back.events_us, end_us)
    if back.labels_us is not None:
        found |= within(transactions["label_time"], back.labels_us, end_us)
    return found


def within(times: pa.ChunkedArray, begin_us: int, end_us: int | None) -> Mask:
    """Which times lie in [begin_us, end_us), null in none; bool[n]."""
    values = micros(times)
    found = values >= begin_us
    if end_us is not None:
        found &= values < end_us
    return found & pc.is_valid(times).to_numpy() if times.null_count else found


def micros(times: pa.ChunkedArray) -> Ints:
    """Microseconds since the Unix epoch; 0 for null."""
    return pc.fill_null(times.cast(pa.timestamp("us", "UTC")).cast(pa.int64()), 0).to_numpy()


def _counts_labels(feature: Feature) -> bool:
    return "label_time" in feature.inputs


def _tail_us(feature: Feature, time_us: int) -> int:
    """Where the feature's window of a transaction at `time_us` begins."""
    hop_us = feature.window.hop_s * SECOND_US
    return (time_us - feature.window.length_s * SECOND_US) // hop_us * hop_us
