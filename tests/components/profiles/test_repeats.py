import json

import numpy as np
import pyarrow as pa
import pytest

from components.profiles.repeats import NO_REPEATS, SIGNATURES, Repeats, signatures
from schemas.transaction import DAY_S, SECOND_US
from tests.components.profiles.rows import START_US, draw, put

FIRST_DAY = START_US // (DAY_S * SECOND_US)


def as_json(repeats):
    return json.dumps(repeats.to_dict())


def again(table, day, later, share=1.0):
    """The table with a share of one day's rows a second time, `later` days after."""
    time_us = table["event_time"].cast(pa.int64()).to_numpy()
    of_day = np.flatnonzero(time_us // (DAY_S * SECOND_US) == FIRST_DAY + day)
    copies = table.take(of_day[: int(share * len(of_day))])
    moved = copies["event_time"].cast(pa.int64()).to_numpy() + later * DAY_S * SECOND_US
    return pa.concat_tables([table, put(copies, "event_time", pa.array(moved).cast(table["event_time"].type))])


def test_days_of_their_own_do_not_repeat():
    assert signatures(draw(0)).most_repeated_day().share == 0


@pytest.mark.parametrize("later", [0, 7, 30])
def test_a_day_that_comes_twice_is_named_though_it_is_a_small_part_of_the_log(later):
    found = signatures(again(draw(0, rows=60_000, days=60), 2, later)).most_repeated_day()
    assert (found.day, found.share) == (FIRST_DAY + 2, 1.0)


def test_the_share_is_that_of_the_rows_that_come_again():
    assert signatures(again(draw(0), 3, 1, share=0.4)).most_repeated_day().share == pytest.approx(0.4, abs=0.01)


@pytest.mark.parametrize("column", ["card_id", "merchant_id", "amount_base_minor"])
def test_rows_that_differ_in_one_thing_are_not_the_same(column):
    table = draw(0)
    other = put(table, column, np.roll(table[column].to_numpy(), 1).tolist())
    shared = len(np.intersect1d(signatures(table).signature, signatures(other).signature))
    assert shared < 0.02 * table.num_rows


def test_the_sample_of_batches_is_that_of_the_whole_and_bounded():
    table = again(draw(0, rows=50_000), 1, 3)
    whole = signatures(table)
    added = NO_REPEATS
    for first in range(0, table.num_rows, 7_000):
        added += signatures(table.slice(first, 7_000))
    assert as_json(added) == as_json(whole)
    assert len(np.unique(whole.signature)) == SIGNATURES
    assert whole.most_repeated_day().share == 1.0


def test_a_sample_is_read_back_from_json_and_none_has_no_day():
    whole = signatures(draw(0))
    assert as_json(Repeats.from_dict(json.loads(as_json(whole)))) == as_json(whole)
    assert NO_REPEATS.most_repeated_day().day == -1
    assert signatures(draw(0).slice(0, 0)).most_repeated_day().day == -1
