import math

import numpy as np
import pyarrow as pa
import pytest

from components.distances import population_stability_index
from components.gate import decide
from components.profiles import ALL, LayoutConfig, Support, Thresholds, compare, lay_out, profile, reasons
from schemas.errors import ArtifactError
from schemas.transaction import SECOND_US
from tests.components.profiles.rows import COUNT, MEAN, draw, put

LAYOUT = lay_out(draw(0), LayoutConfig())
BASELINE = profile(draw(0), LAYOUT)


def findings(table, thresholds=None):
    return compare(profile(table, LAYOUT), BASELINE, thresholds or Thresholds()).findings


def chosen(table, column, value):
    return np.array([row == value for row in table[column].to_pylist()])


def test_a_profile_differs_from_itself_in_nothing():
    assert compare(BASELINE, BASELINE, Thresholds()).findings == ()


def test_another_draw_of_the_same_passes_and_much_is_measured():
    comparison = compare(profile(draw(1), LAYOUT), BASELINE, Thresholds())
    assert comparison.findings == () and comparison.measured > 200


def test_a_finding_names_the_bin_that_moved_and_both_its_shares():
    table = put(draw(1), "country", np.where(np.arange(6_000) % 2 == 0, "US", draw(1)["country"].to_numpy()).tolist())
    found = {f.statistic: f for f in findings(table) if (f.feature, f.segment) == ("country", ALL)}
    psi = found["psi"]
    assert psi.detail == "US"
    assert (psi.baseline, psi.current) == (pytest.approx(0.2, abs=0.02), pytest.approx(0.6, abs=0.02))
    now, then = (profile(t, LAYOUT).texts["country"].bins[0, :-1] for t in (table, draw(0)))
    assert psi.value == pytest.approx(population_stability_index(now / now.sum(), then / then.sum()))


def test_drift_in_one_segment_only_is_found_there_and_nowhere_else_of_its_column():
    table = draw(1)
    french = chosen(table, "country", "FR")
    shifted = put(table, MEAN, np.where(french, table[MEAN].to_numpy() * 1.8, table[MEAN].to_numpy()))
    found = [f for f in findings(shifted) if f.feature == MEAN]
    assert {f.segment for f in found if f.segment.startswith("country=")} == {"country=FR"}
    assert {f.statistic for f in found} >= {"psi", "kolmogorov_smirnov"}


def test_segments_with_too_few_rows_are_not_compared():
    table = draw(1)
    french = chosen(table, "country", "FR")
    few = table.filter(pa.array(~french | (np.cumsum(french) <= 200)))
    now = put(few, MEAN, np.where(chosen(few, "country", "FR"), 1e9, few[MEAN].to_numpy()))
    assert "country=FR" not in {f.segment for f in findings(now) if f.feature == MEAN}


def test_one_reason_for_all_measures_of_a_distribution_is_about_all_rows_and_counts_the_segments():
    table = draw(1)
    moved = put(table, MEAN, table[MEAN].to_numpy() * 3)
    comparison = compare(profile(moved, LAYOUT), BASELINE, Thresholds())
    given = [r for r in reasons(comparison.findings) if r.subject == MEAN]
    found = [f for f in comparison.findings if f.feature == MEAN]
    segments = {f.segment for f in found}
    assert len(given) == 1 and len(segments) > 5
    assert {f.statistic for f in found} == {"psi", "jensen_shannon", "kolmogorov_smirnov"}
    assert given[0].observed == next(f.value for f in found if f.segment == ALL)
    strongest = next(f.segment for f in found if f.segment != ALL)
    assert f"{len(segments) - 1} other segments above theirs, most of all {strongest}" in given[0].message
    assert decide(reasons(comparison.findings)).passed


def test_where_all_rows_do_not_show_it_the_reason_names_the_segment_that_shows_it_most():
    table = draw(1)
    mean = table[MEAN].to_numpy()
    french = chosen(table, "country", "FR")
    comparison = compare(profile(put(table, MEAN, np.where(french, mean * 1.8, mean)), LAYOUT), BASELINE, Thresholds())
    assert ALL not in {f.segment for f in comparison.findings}
    (reason,) = (r for r in reasons(comparison.findings) if r.subject == MEAN and "PSI" in r.message)
    assert "where country=FR" in reason.message


def test_fewer_rows_a_day_are_a_finding_by_their_factor_and_fewer_days_are_none():
    (found,) = (f for f in findings(draw(1, rows=1_500)) if f.feature == "rows")
    assert found.statistic == "volume_factor"
    assert (found.value, found.baseline) == (pytest.approx(4, rel=0.1), pytest.approx(6_000 / 7, rel=0.1))
    assert [f for f in findings(draw(1, rows=1_500, days=2)) if f.feature == "rows"] == []


def test_a_finding_and_its_reason_say_which_rows_they_are_about():
    now = profile(draw(1, rows=1_500), LAYOUT)
    (found,) = compare(now, BASELINE, Thresholds(), period="the week from 2025-03-03").findings
    assert found.period == "the week from 2025-03-03"
    assert reasons([found])[0].message.startswith("In the week from 2025-03-03: There are ")


def test_the_strain_of_a_feature_is_its_largest_part_of_a_threshold_by_column_of_the_segments():
    table = draw(1)
    mean = table[MEAN].to_numpy()
    moved = put(table, MEAN, np.where(chosen(table, "country", "FR"), mean * 1.8, mean))
    comparison = compare(profile(moved, LAYOUT), BASELINE, Thresholds())
    excess = [f.excess for f in comparison.findings if f.feature == MEAN and f.segment.startswith("country=")]
    assert comparison.strain[MEAN, "country"] == max(excess)
    assert comparison.strain[MEAN, ALL] < 1
    assert {feature for feature, _ in comparison.strain} >= {MEAN, COUNT, "channel", "rows", "is_fraud"}


def test_summer_time_is_no_fault_of_the_time_zone_and_three_hours_are():
    def later(hours):
        table = draw(1)
        moved = table["event_time"].cast(pa.int64()).to_numpy() + hours * 3_600 * SECOND_US
        return put(table, "event_time", pa.array(moved).cast(table["event_time"].type))

    assert [f for f in findings(later(1)) if f.statistic == "time_zone_gain"] == []
    shifted = [f for f in findings(later(-3)) if (f.statistic, f.segment) == ("time_zone_gain", ALL)]
    assert [(f.current, f.severity) for f in shifted] == [(-3.0, "stop")]


def test_other_hours_that_no_turn_of_the_clock_explains_are_no_fault_of_the_time_zone():
    table = draw(1)
    hours = np.random.default_rng(0).integers(0, 24 * 3_600, table.num_rows) * SECOND_US
    spread = table["event_time"].cast(pa.int64()).to_numpy() // (86_400 * SECOND_US) * 86_400 * SECOND_US + hours
    table = put(table, "event_time", pa.array(spread).cast(table["event_time"].type))
    assert "time_zone_gain" not in {f.statistic for f in findings(table)}


def test_what_ranked_frauds_before_is_no_leak_that_came_since():
    def leaking(seed):
        table = draw(seed)
        return table.append_column("known", table["is_fraud"].cast(pa.int8()))

    layout = lay_out(leaking(0), LayoutConfig())
    before, now = (profile(leaking(seed), layout) for seed in (0, 1))
    assert compare(now, before, Thresholds()).findings == ()
    blind = compare(now, profile(draw(0), layout), Thresholds()).findings
    assert [(f.feature, f.statistic, f.baseline) for f in blind] == [("known", "label_auc", 0.5)]


def test_labels_that_are_not_known_are_not_compared():
    unknown = put(draw(1), "is_fraud", pa.nulls(6_000, pa.bool_()))
    assert {"label_auc", "label_share_factor"}.isdisjoint({f.statistic for f in findings(unknown)})


def test_no_rows_are_said_to_be_none():
    comparison = compare(profile(draw(1).slice(0, 0), LAYOUT), BASELINE, Thresholds())
    assert [(f.feature, f.value, f.current) for f in comparison.findings] == [("rows", math.inf, 0.0)]


def test_profiles_of_two_layouts_are_not_compared():
    other = profile(draw(1), lay_out(draw(1), LayoutConfig()))
    with pytest.raises(ArtifactError, match="different layouts"):
        compare(other, BASELINE, Thresholds(support=Support()))


def test_of_columns_that_equal_the_frauds_as_text_the_label_follows():
    table = draw(1)
    text = ["yes" if fraud else "" for fraud in table["is_fraud"].to_pylist()]
    found = [
        f.feature for f in findings(put(table, COUNT, table[COUNT].combine_chunks()).append_column("note", [text]))
    ]
    assert found == ["note"]
