import numpy as np
import pyarrow as pa

from components.profiles import LayoutConfig, lay_out, profile
from components.profiles.periods import ALL_ROWS, NEW_ROWS, Period, plan, profiles
from schemas.transaction import DAY_S, SECOND_US
from tests.components.profiles.rows import START_US, draw

DAY_US = DAY_S * SECOND_US


def days(first, last):
    """A row at noon of each day."""
    return START_US + np.arange(first, last) * DAY_US + DAY_US // 2


def test_what_the_champion_has_not_seen_is_compared_and_the_newest_week_besides():
    whole, week = plan(days(0, 60), days(0, 31)[-1])
    assert (whole.name, whole.rows, whole.first_us) == (NEW_ROWS, 29, days(31, 32)[0])
    assert (week.name, week.rows, week.last_us) == ("the week from 2022-03-02", 7, whole.last_us)


def test_less_than_two_new_weeks_have_no_newest_week_of_their_own():
    assert [(p.name, p.rows) for p in plan(days(0, 41), days(0, 31)[-1])] == [(NEW_ROWS, 10)]


def test_where_less_than_a_week_is_new_all_rows_are_compared():
    whole, week = plan(days(0, 35), days(0, 31)[-1])
    assert (whole.name, whole.rows, week.rows) == (ALL_ROWS, 35, 7)
    assert [(p.name, p.rows) for p in plan(days(0, 10), days(0, 31)[-1])] == [(ALL_ROWS, 10)]


def test_a_period_is_read_back_and_its_times_are_those_of_its_rows():
    period = Period("some", START_US + 1, START_US + DAY_US - 1, 3)
    assert Period.from_dict(period.to_dict()) == period
    assert period.to_dict()["to"] == "2022-01-08T23:59:59.999999+00:00"


def test_the_profiles_of_periods_are_those_of_their_rows_whatever_the_batches():
    # Of a column with many values rare ones may be counted too low, batch by batch.
    table = draw(0, rows=4_000, days=40).drop_columns(["card_id", "merchant_id"])
    layout = lay_out(table, LayoutConfig())
    times_us = table["event_time"].cast(pa.int64()).to_numpy()
    periods = plan(times_us, START_US + 10 * DAY_US)
    batches = (table.slice(at, 777) for at in range(0, 4_000, 777))
    found = profiles(batches, periods, layout)
    for period, counted in zip(periods, found, strict=True):
        rows = table.filter(pa.array(times_us >= period.first_us))
        assert counted.total == rows.num_rows == period.rows
        assert counted.to_dict() == profile(rows, layout).to_dict()
