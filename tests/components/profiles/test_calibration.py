import json

import numpy as np
import pyarrow as pa
import pytest

from components.distances import kolmogorov_smirnov_distance
from components.profiles import (
    ALL,
    Baseline,
    Calibration,
    LayoutConfig,
    Support,
    Thresholds,
    calibrate,
    compare,
    lay_out,
    learn,
    merge,
    profile,
    weeks,
)
from components.profiles.baseline import read_baseline
from components.profiles.calibration import LAWS
from components.profiles.measures import Measured
from schemas.errors import ArtifactError, ConfigurationError
from schemas.transaction import SECOND_US, WEEK_S
from tests.components.profiles.rows import COUNT, MEAN, START_US, draw, put

LAYOUT = lay_out(draw(0), LayoutConfig())


def restless(seed):
    """A week in which the count is anyone's guess: its mean moves by half from one week to the next."""
    table = draw(seed, first_day=7 * seed)
    rng = np.random.default_rng(seed)
    return put(table, COUNT, rng.poisson(1.5 if seed % 2 else 2.25, table.num_rows).astype(float))


def of(thresholds, feature, statistic, segment=ALL):
    return thresholds.of(Measured(feature, segment, statistic, 0.0, 0.0, 0.0))


HISTORY = [profile(restless(seed), LAYOUT) for seed in range(9)]
CALIBRATED = calibrate(HISTORY)


def test_what_is_restless_by_nature_gets_a_higher_threshold_and_what_is_calm_the_floor():
    assert of(CALIBRATED, COUNT, "psi") > 2 * LAWS["psi"].fixed
    assert of(CALIBRATED, "amount_base_minor", "psi") == LAWS["psi"].floor
    assert CALIBRATED.pairs == 8


def test_a_distance_must_be_twice_the_largest_from_the_week_before_or_all_before():
    def shares(history):
        bins = merge(history).numbers[COUNT].bins[0, :-1]
        return bins / bins.sum()

    before = [(HISTORY[at : at + 1], HISTORY[begin:at]) for at in range(1, 9) for begin in (0, at - 1)]
    largest = max(kolmogorov_smirnov_distance(shares(now), shares(then)) for now, then in before)
    assert of(CALIBRATED, COUNT, "kolmogorov_smirnov") == pytest.approx(2 * largest)


def test_the_next_week_of_the_same_kind_passes_where_fixed_thresholds_would_cry():
    week = profile(restless(9), LAYOUT)
    assert compare(week, HISTORY[-1], CALIBRATED).findings == ()
    cried = compare(week, HISTORY[-1], Thresholds()).findings
    assert {finding.feature for finding in cried} == {COUNT}
    assert not any(finding.calibrated for finding in cried)


def test_segments_of_one_column_share_a_threshold():
    segments = ("channel=online", "channel=chip")
    assert len({of(CALIBRATED, COUNT, "psi", segment) for segment in segments}) == 1


def test_without_enough_history_the_fixed_thresholds_hold():
    few = calibrate(HISTORY[:6])
    assert few.calibrated == {}
    assert of(few, COUNT, "psi") == LAWS["psi"].fixed
    assert calibrate(HISTORY[:6], Calibration(least_pairs=5)).calibrated


def test_what_no_pair_had_the_rows_for_keeps_the_fixed_threshold():
    strict = calibrate(HISTORY, support=Support(rows_per_bin=100_000))
    assert of(strict, COUNT, "psi") == LAWS["psi"].fixed
    assert ("rows", ALL, "volume_factor") in strict.calibrated


def test_faults_are_never_calibrated():
    assert {key[2] for key in CALIBRATED.calibrated}.isdisjoint(
        {"unit_factor", "time_zone_gain", "repeated_day_share", "label_auc"}
    )


def test_weeks_count_from_the_first_row_on_gaps_included_whatever_the_batches():
    starts = np.array([0, 1, WEEK_S - 1, WEEK_S, 3 * WEEK_S, 4 * WEEK_S - 1, 4 * WEEK_S]) * SECOND_US + START_US
    table = pa.table({"event_time": pa.array(starts).cast(pa.timestamp("us", tz="UTC"))})
    whole = [(0, 3), (1, 1), (3, 2), (4, 1)]
    assert [(number, week.num_rows) for number, week in weeks([table])] == whole
    pieces = [(number, week.num_rows) for number, week in weeks(table.slice(at, 2) for at in (0, 2, 4, 6))]
    assert pieces == [(0, 2), (0, 1), (1, 1), (3, 2), (4, 1)]
    assert list(weeks([table.slice(0, 0)])) == []


def test_thresholds_are_read_back_from_json():
    assert Thresholds.from_dict(json.loads(json.dumps(CALIBRATED.to_dict()))) == CALIBRATED


@pytest.mark.parametrize("raw", [{}, {**CALIBRATED.to_dict(), "calibrated": {"x": {"all": {"psy": 1}}}}])
def test_what_are_no_thresholds_is_refused(raw):
    with pytest.raises(ArtifactError, match="calibrate them again"):
        Thresholds.from_dict(raw)


@pytest.mark.parametrize(("kind", "settings"), [(Calibration, {"headroom": 0.5}), (Support, {"frauds": 0})])
def test_settings_that_make_no_sense_are_refused(kind, settings):
    with pytest.raises(ConfigurationError, match=next(iter(settings))):
        kind(**settings)


def test_a_baseline_holds_all_rows_and_the_thresholds_of_its_weeks_and_is_read_back():
    table = draw(0, rows=40_000, days=60)
    baseline = learn([table], LAYOUT)
    assert baseline.profile.total == table.num_rows
    assert baseline.profile.span_us == tuple(table["event_time"].cast(pa.int64())[at].as_py() for at in (0, -1))
    assert baseline.thresholds.pairs == 7
    text = baseline.to_json()
    assert Baseline.from_json(text).to_json() == text
    in_batches = learn((table.slice(at, 9_999) for at in range(0, 40_000, 9_999)), LAYOUT)
    assert in_batches.thresholds == baseline.thresholds
    assert in_batches.profile.rows.tolist() == baseline.profile.rows.tolist()


def test_without_rows_there_is_no_baseline():
    with pytest.raises(ArtifactError, match="at least one"):
        learn([draw(0).slice(0, 0)], LAYOUT)


@pytest.mark.parametrize("content", [None, b"", b"[]", b"{}", b'{"profile": {}, "thresholds": {}}', b"\xff"])
def test_a_file_that_is_no_baseline_is_named(tmp_path, content):
    path = tmp_path / "baseline.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"baseline\.json cannot be read"):
        read_baseline(path)


def test_without_history_distributions_in_segments_must_differ_twice_as_far():
    fixed = Thresholds()
    assert of(fixed, MEAN, "psi", "channel=chip") == 4 * of(fixed, MEAN, "psi") == 4 * LAWS["psi"].fixed
    assert of(fixed, MEAN, "kolmogorov_smirnov", "channel=chip") == 2 * of(fixed, MEAN, "kolmogorov_smirnov")
    assert of(fixed, "is_fraud", "label_share_factor", "channel=chip") == of(fixed, "is_fraud", "label_share_factor")
