"""Compiled passes over one key's sorted events: window edges, sums, deviations, extremes, distinct values, distances.

Arrays named alike mean the same everywhere.  A group holds m rows of a log of n, gathered by key and sorted by time
within each key:

    rows    int64[m]    where each of them stands in the log
    offsets int64[r+1]  run j, one key, is rows[offsets[j]:offsets[j+1]]
    start   int64[m]    the window of row i is the positions start[i] <= p < stop[i] of the same run,
    stop    int64[m]    both never falling, so that a window slides over the whole group and needs no reset per key
    out     float64[n]  result by row of the log; the caller fills it with NaN, rows without the key stay so

Totals are differences of prefix sums.  Integers wrap, and a difference is exact as long as the window's own total fits,
however far the prefix has wrapped.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from schemas.features import EARTH_RADIUS_KM

COUNT, SUM, MEAN = range(3)

_LOW_HALF = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_TWO_TO_64 = 2.0**64


@njit(cache=True, nogil=True)
def group(codes, order, size):
    """The rows of `order` gathered by code, in their order within each code; rows of code -1 are left out.

    Returns `rows` and `offsets`; a counting sort, so linear in the rows and in `size`, the number of codes.
    """
    offsets = np.zeros(size + 1, np.int64)
    for row in order:
        if codes[row] >= 0:
            offsets[codes[row] + 1] += 1
    for code in range(size):
        offsets[code + 1] += offsets[code]
    free = offsets[:size].copy()
    rows = np.empty(offsets[size], np.int64)
    for row in order:
        code = codes[row]
        if code >= 0:
            rows[free[code]] = row
            free[code] += 1
    return rows, offsets


@njit(cache=True, nogil=True)
def edges(event_times, event_offsets, times, offsets, length_us):
    """For each time t, the position of its run's first event with event time >= t - length_us."""
    found = np.empty(times.size, np.int64)
    for run in range(offsets.size - 1):
        position, end = event_offsets[run], event_offsets[run + 1]
        for i in range(offsets[run], offsets[run + 1]):
            edge = times[i] - length_us
            while position < end and event_times[position] < edge:
                position += 1
            found[i] = position
    return found


@njit(cache=True, nogil=True)
def window_sums(totals, counts, start, stop, rows, kind, out):
    """COUNT, SUM or MEAN of each window from prefix sums int64[m+1] of the values and of how many there are."""
    for i in range(rows.size):
        count = counts[stop[i]] - counts[start[i]]
        if kind == COUNT:
            out[rows[i]] = count
        elif count > 0:
            total = totals[stop[i]] - totals[start[i]]
            out[rows[i]] = total if kind == SUM else total / count


@njit(cache=True, nogil=True)
def _wide_product(a, b):
    """The 128 bits of a * b as (high, low)."""
    a0, a1, b0, b1 = a & _LOW_HALF, a >> _HALF, b & _LOW_HALF, b >> _HALF
    low, middle, other, high = a0 * b0, a0 * b1, a1 * b0, a1 * b1
    carried = (low >> _HALF) + (middle & _LOW_HALF) + (other & _LOW_HALF)
    return (
        high + (middle >> _HALF) + (other >> _HALF) + (carried >> _HALF),
        (low & _LOW_HALF) | (carried << _HALF),
    )


@njit(cache=True, nogil=True)
def _magnitude(value):
    return np.uint64(value) if value >= 0 else np.uint64(-value)


@njit(cache=True, nogil=True)
def square_sums(values):
    """Prefix sums of the squares of int64 values, modulo 2**128, as uint64[m+1] high and low halves."""
    high, low = np.zeros(values.size + 1, np.uint64), np.zeros(values.size + 1, np.uint64)
    for i in range(values.size):
        size = _magnitude(values[i])
        square_high, square_low = _wide_product(size, size)
        low[i + 1] = low[i] + square_low
        high[i + 1] = high[i] + square_high + np.uint64(low[i + 1] < square_low)
    return high, low


@njit(cache=True, nogil=True)
def deviations(totals, square_high, square_low, counts, start, stop, rows, out):
    """Population standard deviation of each window, sqrt(n S2 - S1**2) / n, exact up to the square root.

    n S2 - S1**2 lies in [0, 2**126] when n * max |value| < 2**63, which the caller has checked.
    """
    for i in range(rows.size):
        first, last = start[i], stop[i]
        count = counts[last] - counts[first]
        if count <= 0:
            continue
        low = square_low[last] - square_low[first]
        high = square_high[last] - square_high[first] - np.uint64(square_low[last] < square_low[first])
        n = np.uint64(count)
        scaled_high, scaled_low = _wide_product(n, low)
        scaled_high += n * high
        size = _magnitude(totals[last] - totals[first])
        squared_high, squared_low = _wide_product(size, size)
        spread_low = scaled_low - squared_low
        spread_high = scaled_high - squared_high - np.uint64(scaled_low < squared_low)
        out[rows[i]] = math.sqrt(float(spread_high) * _TWO_TO_64 + float(spread_low)) / count


@njit(cache=True, nogil=True)
def extremes(values, keep, start, stop, rows, largest, out):
    """Largest or smallest kept value of each window, by a queue of candidates in falling (rising) order."""
    queue = np.empty(values.size, np.int64)
    head = tail = added = 0
    for i in range(rows.size):
        while added < stop[i]:
            if keep[added]:
                value = values[added]
                while tail > head:
                    rival = values[queue[tail - 1]]
                    if rival > value if largest else rival < value:
                        break
                    tail -= 1
                queue[tail] = added
                tail += 1
            added += 1
        while head < tail and queue[head] < start[i]:
            head += 1
        if head < tail:
            out[rows[i]] = values[queue[head]]


@njit(cache=True, nogil=True)
def distinct(codes, size, start, stop, rows, cap, out):
    """min(distinct codes, cap) of each window; code -1 counts for nothing, the others are below `size`."""
    held = np.zeros(size, np.int32)
    removed = added = different = 0
    for i in range(rows.size):
        while added < stop[i]:
            code = codes[added]
            if code >= 0:
                different += held[code] == 0
                held[code] += 1
            added += 1
        while removed < start[i]:
            code = codes[removed]
            if code >= 0:
                held[code] -= 1
                different -= held[code] == 0
            removed += 1
        out[rows[i]] = min(different, cap)


@njit(cache=True, nogil=True)
def first_seen(codes, size, start, stop, rows, out):
    """1 where no event of the window has the row's own code, 0 where one has; rows of code -1 are left alone."""
    held = np.zeros(size, np.int32)
    removed = added = 0
    for i in range(rows.size):
        while added < stop[i]:
            if codes[added] >= 0:
                held[codes[added]] += 1
            added += 1
        while removed < start[i]:
            if codes[removed] >= 0:
                held[codes[removed]] -= 1
            removed += 1
        if codes[i] >= 0:
            out[rows[i]] = held[codes[i]] == 0


@njit(cache=True, nogil=True)
def recent(start, stop, rows, found):
    """The log's rows of each window's last events, newest first; `found` int64[n, k] stays -1 where there are fewer."""
    for i in range(rows.size):
        here = found[rows[i]]
        for back in range(min(here.size, stop[i] - start[i])):
            here[back] = rows[stop[i] - 1 - back]


@njit(cache=True, nogil=True)
def before(rows, offsets, found):
    """The row before each in its run; `found` int64[n] stays -1 for the first of a run."""
    for run in range(offsets.size - 1):
        for i in range(offsets[run] + 1, offsets[run + 1]):
            found[rows[i]] = rows[i - 1]


@njit(cache=True, nogil=True)
def distances_km(latitudes, longitudes, previous):
    """Great-circle distance, float64[n], from each row's place to that of the row `previous`; NaN without either.

    The haversine formula (R. W. Sinnott, "Virtues of the Haversine", Sky and Telescope 68, 1984), degrees in, km out.
    """
    out = np.full(previous.size, np.nan)
    for i in range(previous.size):
        j = previous[i]
        if j >= 0:
            here, there = math.radians(latitudes[i]), math.radians(latitudes[j])
            half_north = math.sin((here - there) / 2)
            half_east = math.sin(math.radians(longitudes[i] - longitudes[j]) / 2)
            chord = half_north * half_north + math.cos(here) * math.cos(there) * half_east * half_east
            if chord > 1.0:  # rounding, at antipodes; not min(), which may take 1 for NaN
                chord = 1.0
            out[i] = 2 * EARTH_RADIUS_KM * math.asin(math.sqrt(chord))
    return out
