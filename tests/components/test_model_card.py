"""The card of a version: it holds what is asked for, in each form, and the description renders and fits."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

from components.comparison import Rival
from components.evidence import SplitEvidence, measure
from components.footprint import Footprint
from components.gate import Reason, Verdict, decide
from components.gathering import Gathered
from components.measures import Estimate
from components.model_card import MAX_LENGTH, ModelCard
from components.pages import Picture
from components.slices import SliceEvidence
from schemas.acceptance import Acceptance
from schemas.thresholds import Thresholds
from schemas.transaction import DAY_S

AT = Thresholds(review=0.5, block=0.8, alert_budget=0.005, block_precision=0.8)
TEST = measure("test", [0, 0, 1, 1], [0.1, 0.6, 0.55, 0.9], [100, 200, 300, 700], [1, 2, 3, 4], [0, 0, 0, 0], AT)
ROWS = {"train": 1_000_000, "validation": 5_000, "test": 4}
CHAMPION = Rival(
    "champion", {"average_precision": Estimate(0.8, 0.7, 0.9)}, {"average_precision": Estimate(0.033, -0.1, 0.2)}
)
SLICES = (
    SliceEvidence("channel online", 900, 40, True, {"review_recall": Estimate(0.5, 0.25, 0.75)}),
    SliceEvidence("country XK", 9, 1, False),
)


def card(verdict: Verdict, test: SplitEvidence = TEST, **given: Any) -> ModelCard:
    parts = {"rivals": (), "slices": ()} | {key: given.pop(key) for key in ("rivals", "slices") if key in given}
    found = Gathered({"test": test}, AT, footprint=Footprint(3_145_728, 0.25, 0.75), **parts)
    about: dict[str, Any] = {"source": "handbook", "span": "2018-04-01 to 2018-09-30", "label_delay_s": 7 * DAY_S}
    return ModelCard(**about, rows=ROWS, features=("amount_base_minor",), found=found, verdict=verdict, **given)


def describe(verdict: Verdict, test: SplitEvidence = TEST, **given: Any) -> str:
    return card(verdict, test, **given).to_markdown()


def test_a_risk_manager_finds_span_rows_metrics_thresholds_and_gate() -> None:
    card = describe(decide([]), left_out=["device_id_count_1h"], owner="m.keller, risk")
    for said in (
        "of source handbook",
        "known 7 days after",
        "**Owner.** m.keller, risk",
        "2018-04-01 to 2018-09-30",
        "train 1,000,000",
        "device_id_count_1h",
        "**Gate.** Passed.",
    ):
        assert said in card
    assert "| test | 4 | 2 (50.00%) | 0.833 | 0.750 |" in card
    assert "| BLOCK | 0.8 | test | 1 (25.00%) | 100.0% | 50.0% | 70.0% |" in card


def test_every_row_of_a_table_has_as_many_cells_as_its_head() -> None:
    card = describe(decide([]), rivals=(CHAMPION,), slices=SLICES)
    for table in (block for block in card.split("\n\n") if block.startswith("|")):
        assert len({line.count("|") for line in table.splitlines()}) == 1


def test_what_the_gate_and_the_evidence_object_to_is_said() -> None:
    verdict = decide([Reason("drift", "stop", "amount", "the median of amount moved from 20 to 2000")])
    nothing = measure("test", [0], [0.5], [1], [1], [1], AT)
    card = describe(verdict, nothing)
    assert "**Gate.** Failed" in card
    assert "- stop, drift: the median of amount moved from 20 to 2000" in card
    assert "- Split test holds no fraud" in card


def test_a_long_list_of_reasons_is_cut_and_the_whole_fits() -> None:
    verdict = decide([Reason("schema", "warn", f"f{n}", f"feature f{n} " + "x" * 600) for n in range(40)])
    card = describe(verdict)
    assert len(card) == MAX_LENGTH
    short = describe(decide([Reason("schema", "warn", "f", "odd")] * 20))
    assert "and 8 more" in short


def test_what_people_accepted_is_said_in_words():
    stop = Reason("drift", "stop", "amount", "the median of amount moved from 20 to 2000")
    accepted = Acceptance(
        "drift", "prices are in another currency now", "m.keller", "amount", "2026-03-01T12:00:00+00:00"
    )
    card = describe(decide([stop], [accepted]))
    assert "Passed, and it says" in card
    assert "moved from 20 to 2000 (accepted by m.keller)" in card
    assert "- drift:amount, by m.keller at 2026-03-01T12:00:00+00:00: prices are in another currency now" in card


def test_other_models_and_the_weakest_slice_are_in_the_description() -> None:
    told = describe(decide([]), rivals=(CHAMPION,), slices=SLICES)
    assert "| champion | 0.800 (0.700 to 0.900) | 0.033 (-0.100 to 0.200) | - |" in told
    assert "fewest frauds are caught in channel online: 50.0% (25.0% to 75.0%) at REVIEW" in told
    assert "Too few transactions or frauds to be measured alone: country XK." in told


def test_the_card_as_json_has_every_metric_with_its_interval() -> None:
    measured = replace(TEST, intervals={"roc_auc": (0.5, 0.9)})
    digests = {"saved_model": "a" * 64}
    raw = json.loads(card(decide([]), measured, rivals=(CHAMPION,), slices=SLICES, digests=digests).to_json())
    assert raw["metrics"]["test"]["roc_auc"] == {"value": 0.75, "low": 0.5, "high": 0.9}
    assert set(raw["metrics"]["test"]) == set(TEST.metrics())
    assert (raw["other_models"][0]["name"], raw["slices"][0]["name"]) == ("champion", "channel online")
    assert (raw["owner"], raw["digests"], raw["gate"]["passed"]) == (None, digests, True)


def test_the_card_as_a_page_needs_nothing_else_and_escapes_what_it_shows() -> None:
    bad = "<script>alert(1)</script>"
    page = card(decide([]), owner=bad, rivals=(CHAMPION,), slices=SLICES).to_html((Picture(bad, b"png"),))
    assert "<script" not in page and "http" not in page
    assert "data:image/png;base64," in page
    text = re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", page))
    for said in ("Model card: fraud, handbook", "channel online", "champion", "7 days after", "nobody named"):
        assert (said in text) == (said != "nobody named")
