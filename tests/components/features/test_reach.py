import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.features.engine import compute_features
from components.features.reach import Reach, covers, depends_on, history_begins_us, reach, within
from schemas.features import DAY, HOUR, MONTH, Feature, FeatureSpec, specify
from schemas.transaction import COLUMN
from tests.components.features.logs import DAY_US, SECOND_US, log, logs
from tests.components.features.test_engine import EVERYTHING, UNUSUAL, assert_equal

HOUR_US = 3_600 * SECOND_US
MINUTE_US = 60 * SECOND_US


def only(*features: Feature) -> FeatureSpec:
    return specify(COLUMN, features, ())


@pytest.mark.parametrize("spec", [EVERYTHING, UNUSUAL, only(Feature("merchant", "fraud_rate", DAY))])
@settings(max_examples=60, deadline=None)
@given(transactions=logs(min_size=1), data=st.data())
def test_a_span_is_computed_the_same_from_what_it_depends_on(
    spec: FeatureSpec, transactions: pa.Table, data: st.DataObject
) -> None:
    times = sorted(transactions["event_time"].cast(pa.int64()).to_pylist())
    begin = data.draw(st.sampled_from(times))
    end = data.draw(st.sampled_from([None, *(time for time in times if time > begin), times[-1] + 1]))
    needed = depends_on(transactions, spec, begin, end)
    own = within(transactions["event_time"], begin, end)
    assert (needed | ~own).all()
    from_all = compute_features(transactions, spec).filter(pa.array(own))
    from_needed = compute_features(transactions.filter(pa.array(needed)), spec).filter(pa.array(own[needed]))
    assert_equal(from_needed, from_all)


def test_a_window_reaches_back_by_its_length_and_what_its_tail_lacks_to_a_hop() -> None:
    spec = only(Feature("card", "count", MONTH), Feature("merchant", "fraud_count", HOUR))
    assert reach(spec, 50 * DAY_US) == Reach(20 * DAY_US, 50 * DAY_US - HOUR_US)
    late = 51 * DAY_US - 1
    assert reach(spec, late) == Reach(20 * DAY_US, 51 * DAY_US - HOUR_US - MINUTE_US)


def test_features_of_the_row_alone_reach_back_to_nothing() -> None:
    assert reach(only(), 5) == Reach(5, None)
    assert history_begins_us(only(), 5, 86_400) == 5


def test_the_label_delay_counts_for_labels_only() -> None:
    delay_s = 5 * 86_400
    assert history_begins_us(only(Feature("card", "count", DAY)), DAY_US, delay_s) == 0
    assert history_begins_us(only(Feature("card", "fraud_count", DAY)), DAY_US, delay_s) == -5 * DAY_US
    both = only(Feature("card", "count", MONTH), Feature("card", "fraud_count", DAY))
    assert history_begins_us(both, 30 * DAY_US, delay_s) == 0


def _daily(days: int) -> pa.Table:
    """A card's payments at noon of every day, each a fraud that is known five days later."""
    noons = [day * DAY_US + DAY_US // 2 for day in range(days)]
    return log([{"event_time": noon, "is_fraud": True, "label_time": noon + 5 * DAY_US} for noon in noons])


@pytest.mark.parametrize("aggregate", ["count", "fraud_count"])
def test_a_log_that_is_whole_from_there_on_is_enough_and_one_a_hop_shorter_is_not(aggregate: str) -> None:
    spec = only(Feature("card", aggregate, MONTH))  # type: ignore[arg-type]
    transactions, since = _daily(60), 50 * DAY_US + HOUR_US
    begins = history_begins_us(spec, since, 5 * 86_400)
    whole = compute_features(transactions, spec)
    judged = pa.array(within(whole["event_time"], since, None))

    def computed(from_us: int) -> pa.Table:
        table = compute_features(transactions.filter(pa.array(within(transactions["event_time"], from_us, None))), spec)
        return table.filter(pa.array(within(table["event_time"], since, None)))

    assert_equal(computed(begins), whole.filter(judged))
    name = spec.features[0].name
    assert computed(begins + DAY_US)[name][0].as_py() == computed(begins)[name][0].as_py() - 1


def test_a_log_covers_a_time_when_a_pause_of_its_own_explains_where_it_begins() -> None:
    table = log([{"event_time": time} for time in (100, 110, 130)])
    assert covers(table, 80)
    assert covers(table, 200)
    assert not covers(table, 79)
    assert covers(log([{"event_time": 100}]), 100)
    assert not covers(log([{"event_time": 100}]), 99)


def test_missing_label_times_lie_in_no_span() -> None:
    rows = log([{"label_time": 5}, {}])
    assert np.array_equal(within(rows["label_time"], -10, 10), [True, False])
