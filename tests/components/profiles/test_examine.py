"""A whole look for drift: from batches of rows to a report with pictures."""

import io

import numpy as np
import pyarrow as pa
import pytest
from matplotlib.image import imread

from components.comparators import Exceeded
from components.gate import decide
from components.profiles import LayoutConfig, lay_out, learn
from components.profiles.examine import examine
from components.profiles.report import DriftReport
from schemas.errors import ArtifactError
from tests.components.profiles.rows import COUNT, MEAN, draw, put

SEEN = draw(0, rows=20_000, days=30)
BASELINE = learn([SEEN], lay_out(SEEN, LayoutConfig()))
LATER = draw(1, rows=20_000, days=30, first_day=30)


def look(table, severities=None):
    times_us = table["event_time"].cast(pa.int64()).to_numpy()
    return examine(
        (table.slice(at, 6_000) for at in range(0, table.num_rows, 6_000)), times_us, BASELINE, severities or {}
    )


def in_the_newest_week(table, name, change):
    times_us = table["event_time"].cast(pa.int64()).to_numpy()
    newest = times_us > times_us[-1] - 7 * 86_400_000_000
    values = table[name].to_numpy()
    return put(table, name, np.where(newest, change(values), values))


def test_ordinary_rows_pass_and_the_report_says_which_were_compared_with_which():
    report, pictures = look(pa.concat_tables([SEEN, LATER]))
    assert report.findings == report.reasons == ()
    assert (report.baseline.rows, report.periods[0].rows) == (20_000, 20_000)
    assert report.measured > 500 and list(pictures) == ["overview"]


def test_a_fault_of_the_newest_week_is_found_there_where_the_month_before_it_hides_it():
    faulty = in_the_newest_week(LATER, "amount_base_minor", lambda amounts: amounts * 100)
    report, pictures = look(faulty)
    units = [finding for finding in report.findings if finding.statistic == "unit_factor"]
    assert {finding.period for finding in units} == {report.periods[1].name}
    verdict = decide(report.reasons)
    assert not verdict.passed and verdict.reasons[0].subject == "amount_base_minor"
    assert "In the week from" in verdict.reasons[0].message
    assert any(name.endswith("amount_base_minor") for name in pictures)


def test_severities_are_those_of_the_configuration():
    moved = put(LATER, COUNT, LATER[COUNT].to_numpy() + 3)
    assert decide(look(moved)[0].reasons).passed
    assert not decide(look(moved, {"psi": "stop"})[0].reasons).passed


def test_pictures_show_the_strongest_findings_each_feature_and_segment_once_and_are_png():
    moved = put(put(LATER, MEAN, LATER[MEAN].to_numpy() * 4), COUNT, LATER[COUNT].to_numpy() + 3)
    report, pictures = look(moved)
    assert len(report.findings) > 20
    assert next(iter(pictures)) == "overview" and len(pictures) == 7
    for picture in pictures.values():
        assert imread(io.BytesIO(picture), format="png").std() > 0


def test_a_report_is_read_back_infinite_values_included():
    few = LATER.filter(pa.array(np.arange(LATER.num_rows) % 10 == 0))
    report, _ = look(put(few, "channel", ["new"] * few.num_rows))
    whole = DriftReport(
        report.baseline,
        report.periods,
        3,
        9,
        report.findings,
        (("a", "b"),),
        (Exceeded("channel", "L-infinity", 0.3, 0.1),),
    )
    assert report.findings
    assert DriftReport.from_json(whole.to_json()) == whole
    assert DriftReport.from_json(DriftReport().to_json()) == DriftReport()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"baseline": null, "periods": [{}]}'])
def test_what_is_no_report_is_refused(text):
    with pytest.raises(ArtifactError, match="not a drift report"):
        DriftReport.from_json(text)


def test_without_a_baseline_the_verdict_passes_and_says_so():
    report = DriftReport()
    assert decide(report.reasons).passed
    assert [(reason.subject, reason.severity) for reason in report.reasons] == [("baseline", "warn")]
    assert "No baseline" in report.reasons[0].message


def test_what_tfdvs_comparators_find_warns_and_names_them():
    (_, reason) = DriftReport(comparators=(Exceeded("channel", "L-infinity", 0.3, 0.1),)).reasons
    assert (reason.check, reason.severity, reason.subject) == ("drift", "warn", "channel")
    assert "TFDV" in reason.message and (reason.observed, reason.limit) == (0.3, 0.1)
