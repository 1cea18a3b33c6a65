from __future__ import annotations

from typing import Any

import pyarrow as pa

from components.features.timeline import ARRIVAL, REPORTS, RUNS, Cause, Timeline, causes, timeline
from schemas.features import DAY, Feature, FeatureSpec
from tests.components.features.logs import DAY_US, SECOND_US, log

SPEC = FeatureSpec((), (Feature("card", "count", DAY), Feature("card", "fraud_count", DAY)), ())
LATENESS_US = 600 * SECOND_US
T = 10 * DAY_US
EVENTS, LABELS = ("card", False), ("card", True)


def decided(*rows: dict[str, Any]) -> pa.Table:
    """Rows with seconds after T as `at`, and when they came and were decided; unless told, at once and answered."""
    own = [{name: value for name, value in row.items() if name not in ("at", *ARRIVAL.names)} for row in rows]
    table = log([{**columns, "event_time": _at(row["at"])} for columns, row in zip(own, rows, strict=True)])
    arrival = {
        "came_us": [_at(row.get("came_us", row["at"])) for row in rows],
        "decided_us": [_at(row.get("decided_us", row.get("came_us", row["at"]))) for row in rows],
        "answered": [row.get("answered", True) for row in rows],
    }
    for field in ARRIVAL:
        table = table.append_column(field, pa.array(arrival[field.name], field.type))
    return table.drop_columns(["is_fraud", "label_time"])


def reported(*rows: tuple[str, bool, int, int]) -> pa.Table:
    """Id, label, and when it became known and was reported, in seconds after T."""
    columns = [(one, fraud, _at(known), _at(heard), True) for one, fraud, known, heard in rows]
    return pa.Table.from_pylist([dict(zip(REPORTS.names, row, strict=True)) for row in columns], REPORTS)


def _at(seconds: int) -> int:
    return T + seconds * SECOND_US


def told(*rows: dict[str, Any], history: pa.Table | None = None, reports: pa.Table | None = None) -> Timeline:
    logs = [] if history is None else [history]
    return timeline(
        logs, decided(*rows), REPORTS.empty_table() if reports is None else reports, SPEC, 0, RUNS.empty_table()
    )


def why(timeline_: Timeline, stream: tuple[str, bool] = EVENTS) -> dict[str, Cause]:
    found = causes(timeline_, SPEC, LATENESS_US)[stream]
    ids = timeline_.events["transaction_id"].to_pylist()
    return {name: Cause(cause) for name, cause in zip(ids, found, strict=True) if cause}


def test_what_came_in_order_has_to_agree() -> None:
    assert why(told({"at": 0}, {"at": 60}, {"at": 60}, {"at": 7_200})) == {}


def test_what_came_beyond_the_lateness_is_late_and_what_it_lies_before_was_overtaken() -> None:
    just_in_time = {"at": 4_400, "came_us": 7_000}
    rows: list[dict[str, Any]] = [{"at": 0}, {"at": 5_000}, {"at": 4_399, "came_us": 6_000}, just_in_time]
    assert why(told(*rows)) == {"t1": Cause.OVERTAKEN, "t2": Cause.LATE}


def test_keys_have_their_own_order() -> None:
    rows: list[dict[str, Any]] = [{"at": 5_000}, {"at": 0, "came_us": 6_000, "card_id": "other"}]
    assert why(told(*rows)) == {}


def test_what_is_decided_at_the_same_time_may_come_in_either_order() -> None:
    rows = [{"at": 10, "came_us": 20, "decided_us": 30}, {"at": 11, "came_us": 25}, {"at": 12, "came_us": 31}]
    assert why(told(*rows)) == {"t1": Cause.OVERTAKEN}


def test_what_no_window_holds_any_more_overtakes_nothing() -> None:
    reach = SPEC.reach_s
    assert reach == 25 * 3_600
    inside, outside = (told({"at": reach}, {"at": at, "came_us": 2 * reach}) for at in (0, -1))
    assert why(inside) == {"t0": Cause.OVERTAKEN, "t1": Cause.LATE}
    assert why(outside) == {"t1": Cause.LATE}


def test_what_follows_a_transaction_without_an_answer_is_apart() -> None:
    assert why(told({"at": 0}, {"at": 10, "answered": False}, {"at": 20})) == {"t2": Cause.UNANSWERED}


def test_a_label_that_is_heard_of_late_overtakes_the_features_of_labels_alone() -> None:
    rows = [{"at": 0}, {"at": 100}, {"at": 201}]
    timeline_ = told(*rows, reports=reported(("t0", True, 50, 200)))
    assert why(timeline_, LABELS) == {"t1": Cause.OVERTAKEN}
    assert why(timeline_) == {}
    assert why(told(*rows), LABELS) == {}


def test_a_label_that_was_reported_a_moment_ago_may_not_have_reached_the_store() -> None:
    rows = [{"at": 0}, {"at": 100, "came_us": 100}, {"at": 101, "came_us": 101}]
    assert why(told(*rows, reports=reported(("t0", True, 50, 100))), LABELS) == {"t1": Cause.OVERTAKEN}


def test_a_label_that_the_store_has_not_taken_in_overtakes_all_that_follow() -> None:
    reports = reported(("t0", True, 50, 50))
    waiting = reports.set_column(4, "applied", pa.array([False]))
    assert why(told({"at": 0}, {"at": 100}, reports=reports), LABELS) == {}
    assert why(told({"at": 0}, {"at": 100}, reports=waiting), LABELS) == {"t1": Cause.OVERTAKEN}


def test_the_latest_label_stands_and_what_lies_behind_a_corrected_one_is_apart() -> None:
    reports = reported(("t0", False, 60, 60), ("t0", True, 50, 50))
    timeline_ = told({"at": 0}, {"at": 55}, {"at": 70}, reports=reports)
    assert timeline_.events["is_fraud"].to_pylist() == [False, None, None]
    assert why(timeline_, LABELS) == {"t1": Cause.CORRECTED, "t2": Cause.CORRECTED}


def test_history_came_before_everything_and_counts_once() -> None:
    history = log([{"event_time": _at(-30)}, {"event_time": _at(0)}])
    history = history.set_column(0, "transaction_id", pa.array(["h", "t0"]))
    timeline_ = timeline(
        [history, history], decided({"at": 0}, {"at": 10}), REPORTS.empty_table(), SPEC, 0, RUNS.empty_table()
    )
    assert timeline_.events["transaction_id"].to_pylist() == ["h", "t0", "t1"]
    assert timeline_.events["came_us"].to_pylist() == [0, _at(0), _at(10)]
    assert why(timeline_) == {}


def test_of_the_history_only_what_was_known_at_its_end_is_a_label() -> None:
    def labelled(at: int, known: int) -> dict[str, Any]:
        return {"event_time": _at(at), "is_fraud": True, "label_time": _at(known)}

    history = log([labelled(-30, -20), labelled(-30, -10), labelled(-20, -9), {"event_time": _at(-10)}])
    history = history.set_column(0, "transaction_id", pa.array(["a", "b", "c", "d"]))
    timeline_ = told({"at": 0}, history=history)
    labels = dict(
        zip(timeline_.events["transaction_id"].to_pylist(), timeline_.events["is_fraud"].to_pylist(), strict=True)
    )
    assert labels == {"a": True, "b": True, "c": None, "d": None, "t0": None}
    assert timeline_.labels_ahead == 1


def labels_at(*known: int, at: int = -30) -> pa.Table:
    """History with a label each, known at seconds after T, and its ids in order."""
    history = log([{"event_time": _at(at), "is_fraud": True, "label_time": _at(second)} for second in known])
    return history.set_column(0, "transaction_id", pa.array([f"h{number}" for number in range(len(known))]))


def runs(*of: tuple[int, str, int, int]) -> pa.Table:
    """Up to which label, and when it began and ended, in seconds after T; a load before them, up to 10 s before T."""
    rows = [(_at(-10) + 1, "", 0, 0), *((_at(time), name, _at(began), _at(ended)) for time, name, began, ended in of)]
    return pa.Table.from_pylist([dict(zip(RUNS.names, row, strict=True)) for row in rows], RUNS)


def test_of_the_history_the_labels_that_runs_brought_came_with_them() -> None:
    history = labels_at(-10, -9, 20, 20, 21, 22)
    rows = [{"at": 30, "came_us": came} for came in (1, 99, 102, 200)]
    brought = runs((20, "h2", 90, 100), (21, "h4", 150, 150))
    timeline_ = timeline([history], decided(*rows), REPORTS.empty_table(), SPEC, 0, brought)
    assert timeline_.labels_ahead == 1
    came = dict(zip(*(timeline_.reports[name].to_pylist() for name in ("transaction_id", "came_us")), strict=True))
    assert came == {"h1": _at(90), "h2": _at(90), "h3": _at(150), "h4": _at(150)}
    labels = timeline_.events.select(["transaction_id", "is_fraud"]).to_pylist()
    assert [row["transaction_id"] for row in labels if row["is_fraud"]] == ["h0", "h1", "h2", "h3", "h4"]
    # Who came before the last run had ended, and a moment, need not agree.
    assert set(why(timeline_, LABELS)) == {"t0", "t1", "t2"}
    assert why(timeline_) == {}


def test_runs_leave_out_what_was_decided() -> None:
    history = labels_at(-20, 20).set_column(0, "transaction_id", pa.array(["t0", "t1"]))
    timeline_ = timeline(
        [history],
        decided({"at": -30}, {"at": -30}, {"at": 40}),
        REPORTS.empty_table(),
        SPEC,
        0,
        runs((20, "t1", 30, 30)),
    )
    assert timeline_.reports["transaction_id"].to_pylist() == ["t0"]
    assert timeline_.events["is_fraud"].to_pylist() == [True, None, None]
    assert timeline_.labels_ahead == 0


def test_history_that_is_too_old_is_left_out_unless_its_label_is_not() -> None:
    rows = [{"event_time": _at(-90)}, {"event_time": _at(-90), "is_fraud": True, "label_time": _at(-40)}]
    history = log([*rows, {"event_time": _at(-30)}])
    history = history.set_column(0, "transaction_id", pa.array(["a", "b", "c"]))
    found = timeline([history], decided({"at": 0}), REPORTS.empty_table(), SPEC, _at(-40), RUNS.empty_table())
    assert found.events["transaction_id"].to_pylist() == ["b", "c", "t0"]
