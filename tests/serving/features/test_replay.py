from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from serving.features import TableFeatureStore
from serving.features.replay import arrivals, replay, warm
from tests.components.features.logs import logs
from tests.components.features.test_engine import EVERYTHING
from tests.serving.features.replays import events, in_order


def event(name: str, time: int, is_fraud: bool | None = None, label_time: int | None = None) -> dict[str, Any]:
    return {"transaction_id": name, "event_time": time, "is_fraud": is_fraud, "label_time": label_time}


def test_a_label_comes_when_it_became_known_before_transactions_of_that_moment_and_never_from_the_future() -> None:
    log = [event("a", 0, True, 20), event("b", 10, False, 10), event("c", 20), event("d", 30, False, 31)]
    came = [(arrival.transaction["transaction_id"], arrival.is_label, arrival.time_us) for arrival in arrivals(log)]
    assert came == [
        ("a", False, 0),
        ("b", False, 10),
        ("b", True, 10),
        ("a", True, 20),
        ("c", False, 20),
        ("d", False, 30),
    ]


@settings(max_examples=25)
@given(transactions=logs(min_size=2), share=st.floats(0, 1))
def test_a_store_that_was_warmed_with_what_matters_answers_as_one_that_met_the_whole_log(
    transactions: Any, share: float
) -> None:
    log = events(in_order(transactions))
    cut = max(1, int(share * (len(log) - 1)))
    whole, warmed = (TableFeatureStore.in_memory(EVERYTHING) for _ in range(2))
    for _ in replay(whole, log[:cut]):
        pass
    warm(warmed, log[:cut], log[cut - 1]["event_time"] - warmed.reach_us)
    assert repr(list(replay(warmed, log[cut:]))) == repr(list(replay(whole, log[cut:])))
