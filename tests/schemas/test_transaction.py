from datetime import UTC, datetime, timedelta

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from schemas.transaction import COLUMN, COLUMNS, REQUIRED, second_of_day, second_of_week

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def test_columns_have_one_name_each_and_the_required_ones_are_those_of_the_contract() -> None:
    assert len(COLUMN) == len(COLUMNS)
    assert set(REQUIRED) == {
        "transaction_id", "event_time", "card_id", "merchant_id", "amount_minor", "amount_base_minor",
    }  # fmt: skip


@given(st.datetimes(datetime(1970, 1, 1), datetime(2100, 12, 31), timezones=st.just(UTC)))
def test_the_calendar_is_read_off_the_time_in_utc(time: datetime) -> None:
    micros = (time - EPOCH) // timedelta(microseconds=1)
    of_day = time.hour * 3_600 + time.minute * 60 + time.second
    assert second_of_day(micros) == of_day
    assert second_of_week(micros) == time.weekday() * 86_400 + of_day
    assert second_of_week(np.array([micros])).tolist() == [second_of_week(micros)]
    assert second_of_day(np.array([micros])).tolist() == [second_of_day(micros)]
