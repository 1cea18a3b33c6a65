"""Faults and changes that tests plant into some rows of a log, raw or canonical, to see whether the checks notice."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.transaction import DAY_S, LABEL, SECOND_US

DAY_US = DAY_S * SECOND_US
HOUR_US = 3_600 * SECOND_US
# How to plant: the log, and which of its rows are of the week that is compared.
Plant = Callable[[pa.Table, np.ndarray], pa.Table]


def times_us(log: pa.Table, column: str = "event_time") -> np.ndarray:
    return log[column].cast(pa.int64()).combine_chunks().fill_null(0).to_numpy()


def put(log: pa.Table, **columns: pa.Array) -> pa.Table:
    for name, values in columns.items():
        position = log.column_names.index(name)
        log = log.set_column(position, log.schema.field(position), pa.chunked_array([values], log[name].type))
    return log


def where(chosen: np.ndarray, value: object, column: pa.ChunkedArray) -> pa.Array:
    return pc.if_else(pa.array(chosen), pa.scalar(value, column.type), column.combine_chunks())


def some(share: float, late: np.ndarray) -> np.ndarray:
    return late & (np.random.default_rng(0).random(len(late)) < share)


def in_segment(log: pa.Table, column: str, value: str) -> np.ndarray:
    return pc.equal(log[column], value).fill_null(False).combine_chunks().to_numpy(zero_copy_only=False)


def moved(log: pa.Table, chosen: np.ndarray, us: int) -> pa.Table:
    """The rows, the chosen ones later by so much; their labels come later too."""
    for name in ("event_time", "label_time"):
        later = pa.array(times_us(log, name) + np.where(chosen, us, 0)).cast(log[name].type)
        log = put(log, **{name: pc.if_else(log[name].is_valid().combine_chunks(), later, None)})
    return log.sort_by("event_time")


def another_time_zone(log: pa.Table, late: np.ndarray) -> pa.Table:
    return moved(log, late, 5 * HOUR_US)


def a_day_twice(log: pa.Table, late: np.ndarray) -> pa.Table:
    day = times_us(log) // DAY_US
    copies = log.filter(pa.array(late & (day == int(day[late][0]) + 2)))
    again = pc.binary_join_element_wise(copies["transaction_id"], "again", "-").combine_chunks()
    copies = moved(put(copies, transaction_id=again), np.ones(copies.num_rows, bool), 2 * DAY_US)
    return pa.concat_tables([log, copies]).sort_by("event_time")


def three_times_the_frauds(log: pa.Table, late: np.ndarray, channel: str) -> pa.Table:
    there = late & in_segment(log, "channel", channel)
    frauds = there & log[LABEL].fill_null(False).combine_chunks().to_numpy(zero_copy_only=False)
    more = np.random.default_rng(0).choice(np.flatnonzero(there & ~frauds), 2 * int(frauds.sum()), replace=False)
    chosen = np.zeros(len(late), bool)
    chosen[more] = True
    return put(log, is_fraud=where(chosen, True, log[LABEL]))


def a_new_country(log: pa.Table, late: np.ndarray) -> pa.Table:
    return put(log, country=where(some(0.02, late), "BR", log["country"]))


def no_cash_machines(log: pa.Table, late: np.ndarray) -> pa.Table:
    return log.filter(pa.array(~(late & in_segment(log, "channel", "atm"))))


def a_stuck_device(log: pa.Table, late: np.ndarray) -> pa.Table:
    return put(log, device_id=where(some(0.1, late), "0000", log["device_id"]))


def nulls_in_one_column(log: pa.Table, late: np.ndarray) -> pa.Table:
    return put(log, merchant_category=where(some(0.05, late), None, log["merchant_category"]))


def a_fifth_more_cards(log: pa.Table, _late: np.ndarray) -> pa.Table:
    cards = log["card_id"].combine_chunks().dictionary_encode()
    chosen = np.random.default_rng(0).random(len(cards.dictionary)) < 0.2
    # With their past: cards without one would be another change.
    more = log.filter(pa.array(chosen[cards.indices.to_numpy()]))
    twins = {
        name: pc.binary_join_element_wise(more[name], "twin", "-").combine_chunks()
        for name in ("transaction_id", "card_id", "device_id")
    }
    return pa.concat_tables([log, put(more, **twins)]).sort_by("event_time")
