"""The report: it holds what a run knows, stands alone, escapes what it shows, and says what is missing."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from components.comparison import Rival
from components.evidence import SplitEvidence, measure
from components.expectations import ExpectationReport, ExpectationResult
from components.footprint import Footprint
from components.gate import Reason, decide
from components.gathering import Gathered
from components.measures import Estimate
from components.pages import Picture
from components.profiles.findings import Finding
from components.profiles.periods import Period
from components.profiles.report import DriftReport
from components.report import (
    LeftOut,
    Link,
    RunReport,
    StepLine,
    left_out,
    read_drift,
    read_expectations,
    render,
)
from components.rows import RowFlow
from components.slices import SliceEvidence
from components.volumes import Maturity, Volumes
from schemas.acceptance import Acceptance
from schemas.errors import ArtifactError
from schemas.features import specify
from schemas.thresholds import Thresholds
from schemas.transaction import REQUIRED

AT = Thresholds(review=0.5, block=0.8, alert_budget=0.005, block_precision=0.8)
EXPECTATIONS = ExpectationReport(
    (
        ExpectationResult(
            "transactions", "median", "amount_base_minor", False, 4464.0, "[20, 100]", "another unit?", 9, 10
        ),
        ExpectationResult("transactions", "not null", "card_id", True, None, "no null", "", 5, 10),
    )
)
DRIFT = DriftReport(
    baseline=Period("the champion's training rows", 0, 1_000_000, 9_000),
    periods=(Period("all new rows", 2_000_000, 3_000_000, 1_234),),
    pairs=6,
    measured=12_345,
    findings=(
        Finding("amount_base_minor", "channel=online", "psi", 0.6, 0.0, 0.0, "higher", 0.25, False, "warn", "new rows"),
    ),
    uncompared=(("city", "only in the baseline"),),
)
VOLUMES = Volumes(("2024-01-01", "2024-01-02"), (600, 400), (600, 0), (6, 0), Maturity((0.1, 0.9), (0.5, 1.0), 7.0))
ACCEPTED = Acceptance("schema", "a new market", "m.keller", "country", "2026-03-01T12:00:00+00:00")


def found(evidence: SplitEvidence, **given: Any) -> Gathered:
    """All that is known of a model, which is little."""
    parts: dict[str, Any] = {"rivals": (), "slices": (), "footprint": Footprint(3_145_728, 0.25, 0.75)}
    return Gathered({evidence.split: evidence}, AT, **parts | given)


def bare(**given: Any) -> RunReport:
    """A run that got nowhere."""
    about: dict[str, Any] = {
        "source": "handbook",
        "log": "log.parquet",
        "span": "-",
        "finished": datetime(2026, 1, 2, tzinfo=UTC),
    }
    about |= {"passed": False, "verdicts": {}, "digests": {}, "lineage": {}}
    return RunReport(**about | given)


def full() -> RunReport:
    evidence = measure("test", [0, 0, 1, 1], [0.1, 0.6, 0.55, 0.9], [100, 200, 300, 700], [1, 2, 3, 4], [0] * 4, AT)
    return bare(
        passed=True,
        model_version=7,
        flows=(RowFlow("ingest", 1_000, {"good": 990, "dead letters": 10}),),
        steps=(StepLine("ingest", "ran", 1.5), StepLine("trainer", "cached", 0.0)),
        volumes=VOLUMES,
        links=(Link("Data Docs", "fraud-1/data_docs/index.html"), Link("Statistics", "fraud-1/s.html", "loads code")),
        verdicts={
            "data": decide(
                [
                    Reason("drift", "warn", "amount", "moved a little", 0.3, 0.25),
                    Reason("schema", "stop", "country", "XX is no country"),
                ],
                [ACCEPTED],
            )
        },
        expectations=EXPECTATIONS,
        drift=DRIFT,
        anomalies=(),
        found=found(evidence),
        pictures=(Picture("test: roc", b"\x89PNG"),),
        features=("amount_base_minor", "card_id_count_1h"),
        left_out=(LeftOut("device_id_count_1h", ("device_id",)),),
        digests={"saved_model": "a" * 64},
        lineage={"MLflow run": "0123"},
    )


class Page(HTMLParser):
    """The tags with their attributes, and the text, of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.text += " "
        if tag not in {"meta", "img", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data


def words(html: str) -> str:
    return re.sub(r"\s+", " ", Page(html).text)


def test_a_whole_run_is_told() -> None:
    told = words(render(full()))
    for said in (
        "1,000 rows in, all accounted for",
        "moved a little",
        "another unit?",
        "1 of 2 held",
        "1 of 12,345 statistics are above their threshold",
        "channel=online",
        "city",
        "1,000 transactions on 2 days; 600 have a label, and 6 are known to be frauds",
        "XX is no country accepted by m.keller, 2026-03-01 12:00 UTC: a new market",
        "schema:country m.keller 2026-03-01 12:00 UTC a new market",
        "Statistics (loads code)",
        "REVIEW",
        "device_id_count_1h device_id",
        "card_id_count_1h",
        "a" * 64,
        "MLflow run 0123",
        "average precision 0.8333",
    ):
        assert said in told, said


def test_other_models_and_slices_are_told_with_their_intervals() -> None:
    evidence = measure("test", [0, 0, 1, 1], [0.1, 0.6, 0.55, 0.9], [100, 200, 300, 700], [1, 2, 3, 4], [0] * 4, AT)
    champion = Rival(
        "champion", {"average_precision": Estimate(0.8, 0.7, 0.9)}, {"average_precision": Estimate(0.033, -0.1, 0.2)}
    )
    slices = (
        SliceEvidence("channel online", 900, 40, True, {"review_recall": Estimate(0.5, 0.25, 0.75)}),
        SliceEvidence("country XK", 9, 1, False),
    )
    told = words(render(bare(found=found(evidence, rivals=(champion,), slices=slices))))
    for said in (
        "average precision 0.833 0.8 0.7 to 0.9 +0.033 (-0.1 to +0.2)",
        "channel online 900 40 - 50.0 % 25.0 % to 75.0 %",
        "measured: country XK (9, 1 frauds).",
        "3.0 MiB; a single row takes 0.25 ms",
    ):
        assert said in told, said


def test_the_page_needs_no_script_and_no_other_file() -> None:
    html = render(full())
    page = Page(html)
    assert page.open == []
    assert not {"script", "link", "iframe"} & {tag for tag, _ in page.tags}
    shown = [attrs["src"] or "" for _, attrs in page.tags if "src" in attrs]
    assert shown and all(address.startswith("data:") for address in shown)
    assert "http" not in html and "url(" not in html


def test_links_lead_to_what_lies_beside_the_page() -> None:
    links = [attrs["href"] for tag, attrs in Page(render(full())).tags if tag == "a"]
    assert links == ["fraud-1/data_docs/index.html", "fraud-1/s.html"]


def test_what_comes_from_outside_is_escaped() -> None:
    bad = "<script>alert('x')</script>"
    report = bare(
        source=bad,
        log=bad,
        verdicts={bad: decide([Reason(bad, "stop", bad, bad, bad, bad)])},
        features=(bad,),
        pictures=(Picture(f'"><script>{bad}', b""),),
        lineage={bad: bad},
    )
    html = render(report)
    assert "<script>" not in html
    assert words(html).count(bad) >= 8


def test_many_warnings_do_not_bury_a_stop() -> None:
    warnings = [Reason("drift", "warn", f"f{n}", f"f{n} moved") for n in range(30)]
    html = render(bare(verdicts={"gate": decide([*warnings, Reason("schema", "stop", "country", "XX is odd")])}))
    before, folded = html.split("<summary>30 warnings</summary>")
    assert "XX is odd" in before and "moved" not in before
    assert folded.count("moved") == 30


def test_a_run_that_got_nowhere_says_what_it_did_not_reach() -> None:
    told = words(render(bare()))
    for said in (
        "none registered",
        "No gate was reached",
        "No transactions were counted",
        "No model was measured",
        "No thresholds were chosen",
        "Validation did not run",
        "Expectations did not run",
        "Drift was not measured",
    ):
        assert said in told
    assert "No baseline" in words(render(bare(drift=DriftReport())))


def test_a_split_without_frauds_is_told_without_numbers() -> None:
    nothing = measure("test", [0, 0], [0.1, 0.2], [1, 1], [1, 2], [0, 0], AT)
    told = words(render(bare(found=found(nothing))))
    assert "average precision - " in told
    assert "Split test holds no fraud" in told


def test_the_left_out_are_those_of_the_specification_with_the_columns_they_lack() -> None:
    lacking = left_out(REQUIRED)
    assert {one.name for one in lacking} == set(specify(REQUIRED).left_out)
    assert all(one.missing and not set(one.missing) & set(REQUIRED) for one in lacking)


def test_reports_of_the_checks_are_read_back(tmp_path: Path) -> None:
    (tmp_path / "expectations.json").write_text(EXPECTATIONS.to_json())
    (tmp_path / "drift.json").write_text(DRIFT.to_json())
    assert read_expectations(tmp_path / "expectations.json") == EXPECTATIONS
    assert read_drift(tmp_path / "drift.json") == DRIFT


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"results": [{}], "baseline": "none", "measures": [{}], "uncompared": {}}']
)
def test_a_file_of_another_kind_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "odd.json").write_text(text)
    for read in (read_expectations, read_drift):
        with pytest.raises(ArtifactError, match=r"odd\.json"):
            read(tmp_path / "odd.json")


def test_a_picture_that_is_wide_has_a_row_of_its_own() -> None:
    from components import comparison_plots, plots

    wide = Picture("rivals", comparison_plots.rivals({"average_precision": Estimate(0.5)}, ()))
    assert (wide.is_wide, Picture("history", plots.history({})).is_wide) == (True, False)
    assert render(bare(pictures=(wide,))).count('<figure class="wide">') == 1
