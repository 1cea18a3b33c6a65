"""Compiled passes over transactions in the order of their scores, each card counted as often as a weight says."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(cache=True, nogil=True)
def _most_false_alerts(rate: float, genuine: int) -> int:
    """The most of so many genuine transactions that are no larger a share of them than `rate`."""
    most = int(rate * genuine)
    while most < genuine and (most + 1) / genuine <= rate:
        most += 1
    return most


@njit(cache=True, nogil=True)
def sweep(
    fraud: NDArray[np.bool_],
    amount: NDArray[np.float64],
    card: NDArray[np.int64],
    last_of_score: NDArray[np.bool_],
    gap: NDArray[np.float64],
    bin_of: NDArray[np.int64],
    bins: int,
    weights: NDArray[np.int32],
    totals: NDArray[np.int64],
    rates: NDArray[np.float64],
    precisions: NDArray[np.float64],
    ends: NDArray[np.int64],
) -> Any:
    """Every score as a threshold, highest first, in one pass for each row of weights.

    Args:
        fraud, amount, card: of the transactions, `[rows]`, by falling score.
        last_of_score: whether the next one has a lower score.
        gap: score minus label.
        bin_of: the bin of calibration, below `bins`.
        weights: `[resamples, cards]`, how often each card counts.
        totals: frauds and genuine transactions, weighted, `[resamples, 2]`.
        rates: false positive rates, ascending.
        precisions: at which recall is wanted.
        ends: how many rows are at or above each operating point's threshold, ascending, `[points]`.

    Returns:
        `[resamples, 3 + rates + precisions + 3 points]`: average precision, ROC AUC, expected calibration error, recall
        at each rate and at each precision, and for each point frauds, genuine transactions and the frauds' amount at or
        above it.  What is not defined is NaN.
    """
    points = ends.size
    at_precision = 3 + rates.size
    at_points = at_precision + precisions.size
    out = np.zeros((weights.shape[0], at_points + 3 * points))
    allowed = np.empty(rates.size + 1, np.int64)
    for resample in range(weights.shape[0]):
        weight, row = weights[resample], out[resample]
        frauds, genuine = totals[resample]
        for rate in range(rates.size):
            allowed[rate] = _most_false_alerts(rates[rate], genuine)
        allowed[rates.size] = genuine
        gaps = np.zeros(bins)
        caught, false_alerts, value = 0, 0, 0.0
        caught_before, false_before = 0, 0
        precision_sum, twice_area = 0.0, 0.0
        rate, point = 0, 0
        while point < points and ends[point] == 0:
            point += 1
        for i in range(fraud.size):
            w = weight[card[i]]
            if w:
                gaps[bin_of[i]] += w * gap[i]
                if fraud[i]:
                    caught += w
                    value += w * amount[i]
                else:
                    false_alerts += w
            while point < points and ends[point] == i + 1:
                row[at_points + 3 * point] = caught
                row[at_points + 3 * point + 1] = false_alerts
                row[at_points + 3 * point + 2] = value
                point += 1
            if not last_of_score[i]:
                continue
            # Precision falls until the next fraud, so that it is looked at only where frauds are.
            if caught > caught_before:
                precision = caught / (caught + false_alerts)
                precision_sum += (caught - caught_before) * precision
                for wanted in range(precisions.size):
                    if precision >= precisions[wanted]:
                        row[at_precision + wanted] = caught
            twice_area += (false_alerts - false_before) * (caught + caught_before)
            while false_alerts > allowed[rate]:
                row[3 + rate] = caught_before
                rate += 1
            caught_before, false_before = caught, false_alerts
        while rate < rates.size:
            row[3 + rate] = caught
            rate += 1
        ranked = frauds > 0 and genuine > 0
        row[0] = precision_sum / frauds if ranked else np.nan
        row[1] = twice_area / 2 / frauds / genuine if ranked else np.nan
        row[2] = np.abs(gaps).sum() / (frauds + genuine) if frauds + genuine else np.nan
        for place in range(3, at_points):
            row[place] = row[place] / frauds if ranked else np.nan
    return out


@njit(cache=True, nogil=True)
def inspect_cards(
    starts: NDArray[np.int64],
    card: NDArray[np.int64],
    fraud: NDArray[np.bool_],
    weights: NDArray[np.int32],
    k: int,
) -> Any:
    """Share of defrauded cards among the `k` inspected each day, mean over the days, for each row of weights.

    A card that counts `w` times is `w` cards with the same transactions.

    Args:
        starts: `[days + 1]`, where each day's cards begin.
        card: by day and falling score, `[cards of all days]`.
        fraud: whether that card was defrauded on that day.
        weights: `[resamples, cards]`.
        k: cards inspected a day.

    Returns:
        `[resamples]`.
    """
    out = np.empty(weights.shape[0])
    for resample in range(weights.shape[0]):
        open_cards = weights[resample].copy()
        total = 0
        for day in range(starts.size - 1):
            room = k
            for place in range(starts[day], starts[day + 1]):
                if room == 0:
                    break
                inspected = min(open_cards[card[place]], room)
                room -= inspected
                if fraud[place]:
                    open_cards[card[place]] -= inspected
                    total += inspected
        out[resample] = total / k / (starts.size - 1)
    return out
