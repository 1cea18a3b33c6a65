from typing import Any

from serving.features.replay import arrivals


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
