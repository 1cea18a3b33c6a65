"""Faults planted into a week of a simulated log, each with the check that must catch it and what it must name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from components.features import compute_features
from components.gate import decide
from components.ingest import ingest
from components.profiles import (
    ALL,
    Layout,
    LayoutConfig,
    Profile,
    Thresholds,
    calibrate,
    compare,
    lay_out,
    profile,
    reasons,
    weeks,
)
from components.simulator import simulate, write
from schemas import sources
from schemas.features import FEATURES, FeatureSpec, specify
from schemas.transaction import LABEL
from tests.planted import (
    DAY_US,
    HOUR_US,
    Plant,
    a_day_twice,
    a_fifth_more_cards,
    a_new_country,
    a_stuck_device,
    another_time_zone,
    in_segment,
    moved,
    no_cash_machines,
    nulls_in_one_column,
    put,
    three_times_the_frauds,
    times_us,
    where,
)

WARM_UP_DAYS, HISTORY_WEEKS = 30, 9
# A feature of every kind of state; the full declaration is for the slow tests.
SOME = (
    "card_id_count_24h",
    "card_id_amount_base_minor_mean_7d",
    "card_id_seconds_since_last",
    "merchant_id_fraud_rate_30d",
    "device_id_card_id_distinct_7d",
)
WATCHED = ("card_id", "merchant_id", "device_id", LABEL)


@dataclass(frozen=True)
class Setting:
    """Eight pairs of ordinary weeks, and the log from which the next week and its features come."""

    spec: FeatureSpec
    layout: Layout
    thresholds: Thresholds
    baseline: Profile
    # 30 days for state, then the week after the baseline's.
    log: pa.Table
    begins_us: int
    later: tuple[pa.Table, ...]


def read(path: Path, source: str) -> tuple[pa.Table, frozenset[str]]:
    mapping = sources.load(source)
    return ingest(path, mapping, None).transactions, frozenset(mapping.provided)


def watched(log: pa.Table, spec: FeatureSpec) -> pa.Table:
    """The features, and the transaction's own columns that have no feature of their name."""
    features = compute_features(log, spec)
    for name in WATCHED:
        if name in log.column_names:
            features = features.append_column(name, log[name])
    return features


def settle(log: pa.Table, spec: FeatureSpec) -> Setting:
    first_us = int(times_us(log)[0]) // DAY_US * DAY_US + WARM_UP_DAYS * DAY_US
    begun = watched(log, spec).filter(pa.array(times_us(log) >= first_us))
    # The last one is not whole.
    ordinary = [week for _, week in weeks([begun])][:-1]
    layout = lay_out(ordinary[0], LayoutConfig())
    history = [profile(week, layout) for week in ordinary[:HISTORY_WEEKS]]
    begins_us = int(times_us(ordinary[HISTORY_WEEKS])[0])
    kept = (times_us(log) >= begins_us - WARM_UP_DAYS * DAY_US) & (times_us(log) < begins_us + 7 * DAY_US)
    later = tuple(ordinary[HISTORY_WEEKS:])
    return Setting(spec, layout, calibrate(history), history[-1], log.filter(pa.array(kept)), begins_us, later)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> tuple[pa.Table, frozenset[str]]:
    path = tmp_path_factory.mktemp("log") / "log.parquet"
    write(simulate(cards=4_000, days=WARM_UP_DAYS + 7 * (HISTORY_WEEKS + 2) + 1, seed=7), path)
    return read(path, "simulated")


@pytest.fixture(scope="module")
def setting(simulated: tuple[pa.Table, frozenset[str]]) -> Setting:
    log, provided = simulated
    return settle(log, specify(provided, tuple(f for f in FEATURES if f.name in SOME)))


def times_100(log: pa.Table, late: np.ndarray) -> pa.Table:
    factor = np.where(late, 100, 1)
    return put(log, amount_base_minor=pa.array(log["amount_base_minor"].to_numpy() * factor))


def pounds_in_major_units(log: pa.Table, late: np.ndarray) -> pa.Table:
    amounts = log["amount_base_minor"].to_numpy()
    pounds = late & in_segment(log, "currency", "GBP")
    return put(log, amount_base_minor=pa.array(np.where(pounds, np.maximum(amounts // 100, 1), amounts)))


def another_time_zone_in_germany(log: pa.Table, late: np.ndarray) -> pa.Table:
    return moved(log, late & in_segment(log, "country", "DE"), -2 * HOUR_US)


def three_times_the_frauds_at_chip_terminals(log: pa.Table, late: np.ndarray) -> pa.Table:
    return three_times_the_frauds(log, late, "chip")


class Expected(NamedTuple):
    feature: str
    segment: str
    statistic: str
    severity: str
    detail: str = ""


PLANTED: dict[Plant, Expected] = {
    times_100: Expected("amount_base_minor", "currency=EUR", "unit_factor", "stop"),
    pounds_in_major_units: Expected("amount_base_minor", "currency=GBP", "unit_factor", "stop"),
    a_new_country: Expected("country", ALL, "new_value_share", "warn", "BR"),
    no_cash_machines: Expected("channel", ALL, "vanished_value_share", "warn", "atm"),
    another_time_zone: Expected("event_time", ALL, "time_zone_gain", "stop", "+5 h"),
    another_time_zone_in_germany: Expected("event_time", "country=DE", "time_zone_gain", "stop", "-2 h"),
    a_day_twice: Expected("event_time", ALL, "repeated_day_share", "stop"),
    a_stuck_device: Expected("device_id", ALL, "top_share_rise", "warn", "0000"),
    three_times_the_frauds_at_chip_terminals: Expected(LABEL, "channel=chip", "label_share_factor", "warn"),
    nulls_in_one_column: Expected("merchant_category", ALL, "missing_share_change", "warn"),
}


def planted_week(setting: Setting, plant: Plant) -> pa.Table:
    log = plant(setting.log, times_us(setting.log) >= setting.begins_us)
    features = watched(log, setting.spec)
    return features.filter(pa.array(times_us(log) >= setting.begins_us))


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_a_planted_fault_is_caught_by_its_check_and_named(setting: Setting, plant: Plant) -> None:
    expected = PLANTED[plant]
    found = compare(profile(planted_week(setting, plant), setting.layout), setting.baseline, setting.thresholds)
    named = [f for f in found.findings if (f.feature, f.segment, f.statistic) == expected[:3]]
    assert [f.severity for f in named] == [expected.severity], found.findings
    assert expected.detail in named[0].detail
    assert named[0].value > named[0].threshold
    verdict = decide(reasons(found.findings))
    assert verdict.passed == (expected.severity == "warn"), verdict
    assert any(reason.subject == expected.feature for reason in verdict.reasons)


def findings(week: pa.Table, setting: Setting) -> list[tuple[str, str, str]]:
    found = compare(profile(week, setting.layout), setting.baseline, setting.thresholds).findings
    return [(f.feature, f.segment, f.statistic) for f in found]


def test_a_fault_of_one_segment_is_named_in_no_other_of_its_column(setting: Setting) -> None:
    for plant, column in (
        (pounds_in_major_units, "currency="),
        (another_time_zone_in_germany, "country="),
        (three_times_the_frauds_at_chip_terminals, "channel="),
    ):
        expected = PLANTED[plant]
        found = findings(planted_week(setting, plant), setting)
        segments = {s for feature, s, statistic in found if (feature, statistic) == (expected[0], expected[2])}
        assert {s for s in segments if s.startswith(column)} == {expected.segment}
        assert ALL not in segments


@pytest.mark.parametrize("name", ["case_status", "card_id_count_24h"])
@pytest.mark.parametrize("as_text", [False, True])
def test_a_column_that_equals_the_label_is_a_leak(setting: Setting, name: str, as_text: bool) -> None:
    week = setting.later[0]
    leak = week[LABEL].cast(pa.int8()).cast(pa.string() if as_text else pa.float64())
    if name in week.column_names:
        week = week.drop_columns(name)
    found = compare(profile(week.append_column(name, leak), setting.layout), setting.baseline, setting.thresholds)
    assert [f.feature for f in found.findings if f.statistic == "label_auc"] == [name]
    assert not decide(reasons(found.findings)).passed


def test_a_column_that_is_filled_for_frauds_only_is_a_leak(setting: Setting) -> None:
    week = setting.later[0]
    chargeback = pc.if_else(week[LABEL], pa.scalar(1.0), pa.scalar(float("nan")))
    assert ("chargeback", ALL, "label_auc") in findings(week.append_column("chargeback", chargeback), setting)


def test_a_renamed_column_is_said_to_be_on_one_side_only(setting: Setting) -> None:
    week = setting.later[0]
    week = week.rename_columns(["device" if name == "device_id" else name for name in week.column_names])
    uncompared = compare(profile(week, setting.layout), setting.baseline, setting.thresholds).uncompared
    assert dict(uncompared) == {"device": "only this run has it", "device_id": "only the baseline has it"}


def test_reordered_columns_and_rows_pass(setting: Setting) -> None:
    week = setting.later[0]
    order = np.random.default_rng(0).permutation(week.num_rows)
    assert findings(week.select(week.column_names[::-1]).take(pa.array(order)), setting) == []


def test_a_fifth_more_volume_passes(setting: Setting) -> None:
    week = planted_week(setting, a_fifth_more_cards)
    assert week.num_rows > 1.15 * setting.later[0].num_rows
    assert findings(week, setting) == []


def assert_later_weeks_pass(setting: Setting) -> None:
    before = setting.baseline
    for week in setting.later:
        now = profile(week, setting.layout)
        assert compare(now, before, setting.thresholds).findings == ()
        before = now


def test_the_weeks_that_follow_pass_unchanged(setting: Setting) -> None:
    assert_later_weeks_pass(setting)


def test_what_stops_is_configured_per_statistic(setting: Setting) -> None:
    week = profile(planted_week(setting, a_new_country), setting.layout)
    assert decide(reasons(compare(week, setting.baseline, setting.thresholds).findings)).passed
    strict = compare(week, setting.baseline, setting.thresholds, {"new_value_share": "stop"})
    assert not decide(reasons(strict.findings)).passed


@pytest.mark.slow
def test_the_weeks_that_follow_pass_unchanged_in_every_declared_feature(
    simulated: tuple[pa.Table, frozenset[str]],
) -> None:
    log, provided = simulated
    assert_later_weeks_pass(settle(log, specify(provided)))


@pytest.mark.slow
def test_the_later_weeks_of_the_handbook_log_pass_and_faults_planted_there_do_not(handbook_log: Path) -> None:
    log, provided = read(handbook_log, "handbook")
    setting = settle(log, specify(provided))
    assert len(setting.later) == 12
    assert_later_weeks_pass(setting)
    # The same thresholds catch what can be planted there: it has neither channels nor countries nor devices.
    for plant in (times_100, another_time_zone, a_day_twice):
        expected = PLANTED[plant]
        assert expected[:3] in findings(planted_week(setting, plant), setting)
    week, generator = setting.later[0], np.random.default_rng(0)
    leaking = week.append_column("case_status", week[LABEL].cast(pa.int8()))
    assert ("case_status", ALL, "label_auc") in findings(leaking, setting)
    name = "merchant_id_amount_base_minor_mean_7d"
    nulls = where(generator.random(week.num_rows) < 0.05, None, week[name])
    assert (name, ALL, "missing_share_change") in findings(put(week, **{name: nulls}), setting)
    band = next(s for s in setting.layout.splits if s.column == "amount_base_minor")
    small = week["amount_base_minor"].to_numpy() <= band.edges[0]
    share = setting.baseline.rows[setting.layout.segments.index(band.names[0])]
    tripled = small & (generator.random(week.num_rows) < 2.2 * share[2] / share[1])
    found = findings(put(week, is_fraud=where(tripled, True, week[LABEL])), setting)
    assert {(s, statistic) for feature, s, statistic in found if feature == LABEL} == {
        (band.names[0], "label_share_factor")
    }
