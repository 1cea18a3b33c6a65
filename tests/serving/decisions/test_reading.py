"""What the decision log gives back to who recomputes features."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from serving.decisions import log as log_module
from serving.decisions.log import DecisionLog
from serving.decisions.reading import LabelReport, Observation, Span
from serving.features import Features
from tests.serving.decisions.entries import SECOND_US, entry

FEATURES = Features((1.5,), ("chip",))
EVER = Span(0, 10**15, 0)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[DecisionLog]:
    with closing(DecisionLog(tmp_path / "log.sqlite")) as log:
        yield log


def append(log: DecisionLog, name: str, event_s: int, decided_s: int, features: Features | None = FEATURES) -> None:
    made = entry(name, features=features, event_time=event_s * SECOND_US)
    log.append([replace(made, decided_us=decided_s * SECOND_US, total_us=5_000)])


def read(log: DecisionLog, span: Span) -> dict[str, Observation]:
    return {one.transaction["transaction_id"]: one for page in log.observations(span) for one in page}


def reports(log: DecisionLog, span: Span) -> list[LabelReport]:
    return [report for page in log.label_reports(span) for report in page]


def test_of_a_span_everything_is_told_and_of_what_was_before_all_but_the_features(log: DecisionLog) -> None:
    append(log, "before", 100, 110)
    append(log, "first", 101, 120)
    append(log, "silent", 102, 130, None)
    append(log, "after", 103, 140)
    found = read(log, Span(120 * SECOND_US, 140 * SECOND_US, 10 * SECOND_US))
    assert list(found) == ["before", "first", "silent"]
    assert [(one.in_span, one.answered, one.features) for one in found.values()] == [
        (False, True, None),
        (True, True, FEATURES),
        (True, False, None),
    ]
    assert (found["first"].came_us, found["first"].decided_us) == (120 * SECOND_US - 5_000, 120 * SECOND_US)
    assert found["first"].transaction["event_time"] == 101 * SECOND_US


def test_what_is_older_than_the_reach_is_left_out_unless_its_label_is_not(log: DecisionLog) -> None:
    append(log, "old", 10, 15)
    append(log, "labelled", 10, 15)
    append(log, "near", 95, 96)
    append(log, "asked", 100, 101)
    log.report("labelled", True, 97 * SECOND_US, None, 97 * SECOND_US)
    log.report("old", False, 20 * SECOND_US, None, 97 * SECOND_US)
    span = Span(100 * SECOND_US, 200 * SECOND_US, 5 * SECOND_US)
    assert list(read(log, span)) == ["labelled", "near", "asked"]
    assert [report.transaction_id for report in reports(log, span)] == ["labelled"]


def test_reports_say_whether_the_store_has_heard_of_them(log: DecisionLog) -> None:
    append(log, "t", 10, 15)
    log.report("t", True, 20 * SECOND_US, None, 21 * SECOND_US)
    log.applied(log.pending_labels())
    log.report("t", False, 30 * SECOND_US, None, 31 * SECOND_US)
    log.report("t", True, 40 * SECOND_US, None, 60 * SECOND_US)
    assert reports(log, replace(EVER, until_us=60 * SECOND_US)) == [
        LabelReport(1, "t", True, 20 * SECOND_US, 21 * SECOND_US, True),
        LabelReport(2, "t", False, 30 * SECOND_US, 31 * SECOND_US, False),
    ]


def test_pages_follow_one_another_without_gap(log: DecisionLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "_PAGE", 3)
    for number in range(7):
        append(log, f"t{number}", 100 + number, 200 + number)
        log.report(f"t{number}", False, (100 + number) * SECOND_US, None, 300 * SECOND_US)
    assert [len(page) for page in log.observations(EVER)] == [3, 3, 1]
    assert list(read(log, EVER)) == [f"t{number}" for number in range(7)]
    assert [report.number for report in reports(log, EVER)] == list(range(1, 8))


def test_a_span_without_decisions_is_empty(log: DecisionLog) -> None:
    assert not read(log, EVER)
    append(log, "t", 10, 15)
    assert not read(log, Span(16 * SECOND_US, 20 * SECOND_US, SECOND_US))
    assert not reports(log, Span(16 * SECOND_US, 20 * SECOND_US, SECOND_US))
