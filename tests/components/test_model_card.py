"""The description of a version: it holds what is asked for, in Markdown that renders, and fits."""

from __future__ import annotations

from components.evidence import measure
from components.gate import Reason, decide
from components.model_card import MAX_LENGTH, describe
from schemas.acceptance import Acceptance
from schemas.thresholds import Thresholds

AT = Thresholds(review=0.5, block=0.8, alert_budget=0.005, block_precision=0.8)
TEST = measure("test", [0, 0, 1, 1], [0.1, 0.6, 0.55, 0.9], [100, 200, 300, 700], [1, 2, 3, 4], [0, 0, 0, 0], AT)
ROWS = {"train": 1_000_000, "validation": 5_000, "test": 4}


def test_a_risk_manager_finds_span_rows_metrics_thresholds_and_gate() -> None:
    card = describe("handbook", "2018-04-01 to 2018-09-30", ROWS, [TEST], AT, decide([]), ["device_id_count_1h"])
    for said in (
        "`handbook`",
        "2018-04-01 to 2018-09-30",
        "train 1,000,000",
        "device_id_count_1h",
        "**Gate.** Passed.",
    ):
        assert said in card
    assert "| test | 4 | 2 (50.00%) | 0.833 | 0.750 |" in card
    assert "| BLOCK | 0.8 | test | 1 (25.00%) | 100.0% | 50.0% | 70.0% |" in card


def test_every_row_of_a_table_has_as_many_cells_as_its_head() -> None:
    card = describe("handbook", "2018", ROWS, [TEST], AT, decide([]))
    for table in (block for block in card.split("\n\n") if block.startswith("|")):
        assert len({line.count("|") for line in table.splitlines()}) == 1


def test_what_the_gate_and_the_evidence_object_to_is_said() -> None:
    verdict = decide([Reason("drift", "stop", "amount", "the median of amount moved from 20 to 2000")])
    nothing = measure("test", [0], [0.5], [1], [1], [1], AT)
    card = describe("handbook", "2018", ROWS, [nothing], AT, verdict)
    assert "**Gate.** Failed" in card
    assert "- stop, drift: the median of amount moved from 20 to 2000" in card
    assert "> Split test holds no fraud" in card


def test_a_long_list_of_reasons_is_cut_and_the_whole_fits() -> None:
    verdict = decide([Reason("schema", "warn", f"f{n}", f"feature f{n} " + "x" * 600) for n in range(40)])
    card = describe("handbook", "2018", ROWS, [TEST], AT, verdict)
    assert len(card) == MAX_LENGTH
    short = describe("handbook", "2018", ROWS, [TEST], AT, decide([Reason("schema", "warn", "f", "odd")] * 20))
    assert "and 8 more" in short


def test_what_people_accepted_is_said_in_words():
    stop = Reason("drift", "stop", "amount", "the median of amount moved from 20 to 2000")
    accepted = Acceptance(
        "drift", "prices are in another currency now", "m.keller", "amount", "2026-03-01T12:00:00+00:00"
    )
    card = describe("handbook", "2018", ROWS, [TEST], AT, decide([stop], [accepted]))
    assert "Passed, and it says" in card
    assert "moved from 20 to 2000 (accepted by m.keller)" in card
    assert "- drift:amount, by m.keller at 2026-03-01T12:00:00+00:00: prices are in another currency now" in card
