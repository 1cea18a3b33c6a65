import json
import math

import numpy as np
import pyarrow as pa
import pytest
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from components.distances import population_stability_index
from components.drift import (
    QUANTILE_BUCKETS,
    DriftReport,
    DriftThresholds,
    compare,
    load_statistics,
    reasons,
)
from components.gate import decide
from schemas.errors import ArtifactError, ConfigurationError

ROWS = 4_000
AMOUNT, COUNT, MEAN = "amount_base_minor", "card_id_probe_count_1h", "card_id_amount_base_minor_mean_24h"
THRESHOLDS = DriftThresholds()


def draw(seed, rows=ROWS):
    """Skewed amounts, a count that is mostly 0, a mean missing in a fifth of the rows, text, and one fraud in 100."""
    rng = np.random.default_rng(seed)
    return {
        AMOUNT: rng.lognormal(8, 1, rows),
        "merchant_id_count_24h": rng.poisson(1.5, rows).astype(float),
        COUNT: (rng.random(rows) < 0.05).astype(float),
        MEAN: np.where(rng.random(rows) < 0.2, np.nan, rng.lognormal(8, 0.5, rows)),
        "second_of_week": rng.integers(0, 604_800, rows).astype(float),
        "channel": rng.choice(["online", "chip", "contactless", ""], rows, p=[0.3, 0.4, 0.25, 0.05]),
        "is_fraud": (np.arange(rows) % 100 == 0).astype(float),
    }


def flat(values):
    if values.dtype.kind == "U":
        return pa.array([value.encode() for value in values], pa.large_binary())
    return pa.array(values.astype(np.float32))


def list_datasets(columns):
    """What StatisticsGen computes of these columns."""
    import tensorflow_data_validation as tfdv
    from tensorflow_data_validation.statistics import stats_impl

    rows = len(next(iter(columns.values())))
    offsets = pa.array(np.arange(rows + 1, dtype=np.int64))
    lists = {name: pa.LargeListArray.from_arrays(offsets, flat(values)) for name, values in columns.items()}
    batch = pa.RecordBatch.from_pydict(lists)
    return stats_impl.generate_statistics_in_memory(
        batch, tfdv.StatsOptions(num_quantiles_histogram_buckets=QUANTILE_BUCKETS)
    )


def statistics(columns):
    return list_datasets(columns).datasets[0]


@pytest.fixture(scope="module")
def baseline():
    return statistics(draw(0))


def findings(columns, baseline, thresholds=THRESHOLDS):
    report = compare(statistics(columns), baseline, thresholds)
    return {(finding.feature, finding.statistic): finding for finding in report.findings}


def test_without_a_champion_the_verdict_passes_and_says_so(baseline):
    report = compare(baseline, None, THRESHOLDS)
    assert report == DriftReport("none")
    assert decide(reasons(report)).passed
    assert "no champion" in reasons(report)[0].message


def test_data_do_not_drift_from_themselves(baseline):
    report = compare(baseline, baseline, THRESHOLDS)
    assert {m.value for m in report.measures} <= {0.0, 1.0}
    assert report.findings == () and report.uncompared == ()


@pytest.mark.parametrize("rows", [ROWS, ROWS * 6 // 5])
def test_another_draw_and_a_fifth_more_rows_are_no_drift(rows, baseline):
    report = compare(statistics(draw(1, rows)), baseline, THRESHOLDS)
    assert report.findings == ()
    assert max(m.value for m in report.measures if m.statistic == "psi") < 0.02


def test_a_moved_number_warns_where_tfdvs_own_comparator_is_blind(baseline):
    import tensorflow_data_validation as tfdv

    columns = draw(1)
    columns["second_of_week"] *= 0.3
    assert findings(columns, baseline).keys() == {("second_of_week", "psi"), ("second_of_week", "jensen_shannon")}
    assert decide(reasons(compare(statistics(columns), baseline, THRESHOLDS))).passed

    schema = schema_pb2.Schema()
    for name in columns:
        kind = schema_pb2.BYTES if name == "channel" else schema_pb2.FLOAT
        feature = schema.feature.add(name=name, type=kind)
        feature.drift_comparator.infinity_norm.threshold = 1e-9
    then, now = list_datasets(draw(0)), list_datasets(columns)
    anomalies = tfdv.validate_statistics(now, schema, previous_statistics=then).anomaly_info
    assert "second_of_week" not in anomalies
    assert "channel" in anomalies, "the comparator is on: it does see the other draw of the text"


def test_a_moved_text_warns_and_a_new_one_falls_to_the_rest(baseline):
    columns = draw(1)
    columns["channel"] = np.where(columns["channel"] == "chip", "telephone", columns["channel"])
    finding = findings(columns, baseline)["channel", "psi"]
    assert finding.severity == "warn" and finding.value > 1


def test_a_count_that_is_seldom_above_zero_is_seen_to_rise(baseline):
    columns = draw(1)
    columns[COUNT] = (np.arange(ROWS) % 3 == 0).astype(float)
    assert (COUNT, "psi") in findings(columns, baseline)
    (share_above_zero,) = (f.num_stats.mean for f in baseline.features if f.path.step == [COUNT])
    p, q = np.array([2 / 3, 1 / 3]), np.array([1 - share_above_zero, share_above_zero])
    assert findings(columns, baseline)[COUNT, "psi"].value == pytest.approx(population_stability_index(p, q), rel=0.01)


@pytest.mark.parametrize("factor", [100, 1 / 100])
def test_amounts_in_another_unit_stop_and_ask_about_it(baseline, factor):
    columns = draw(1)
    columns[AMOUNT] *= factor
    columns[MEAN] *= factor
    report = compare(statistics(columns), baseline, THRESHOLDS)
    stops = [reason for reason in reasons(report) if reason.severity == "stop"]
    assert {reason.subject for reason in stops} == {AMOUNT, MEAN}
    assert all("in another unit?" in reason.message for reason in stops)
    assert stops[0].observed == pytest.approx(100, rel=0.1)


def test_only_amounts_have_a_unit_that_can_be_wrong(baseline):
    columns = draw(1)
    columns["second_of_week"] /= 1_000
    assert {finding.severity for finding in findings(columns, baseline).values()} == {"warn"}


def test_a_column_that_is_no_longer_filled_stops(baseline):
    columns = draw(1)
    columns[MEAN][:] = np.nan
    columns["channel"][:] = ""
    found = findings(columns, baseline)
    finding = found[MEAN, "missing_share_change"]
    assert (finding.severity, finding.current) == ("stop", 1.0)
    assert finding.baseline == pytest.approx(0.2, abs=0.03)
    assert found["channel", "missing_share_change"].severity == "stop"


def test_values_that_go_missing_in_a_fifth_of_rows_warn(baseline):
    columns = draw(1)
    columns[AMOUNT][::5] = np.nan
    found = findings(columns, baseline)
    assert {finding.severity for finding in found.values()} == {"warn"}
    assert (AMOUNT, "psi") in found


def test_a_tripled_fraud_share_warns(baseline):
    columns = draw(1)
    columns["is_fraud"] = (np.arange(ROWS) % 33 == 0).astype(float)
    found = findings(columns, baseline)
    assert found.keys() == {("is_fraud", "label_share_factor")}
    assert found["is_fraud", "label_share_factor"].value == pytest.approx(3, rel=0.05)


@pytest.mark.parametrize(("rows", "passes"), [(ROWS // 5, True), (ROWS // 20, False), (0, False)])
def test_fewer_rows_warn_and_a_collapse_stops(baseline, rows, passes):
    # Only counts are compared here: a twentieth of the rows is too few for distributions.
    few = statistics_pb2.DatasetFeatureStatistics(num_examples=rows)
    found = reasons(compare(few, baseline, THRESHOLDS))
    assert {reason.subject for reason in found} == {"rows"}
    assert decide(found).passed == passes


def test_a_distribution_of_too_few_values_is_not_compared_and_the_report_says_so(baseline):
    report = compare(statistics(draw(1, rows=100)), baseline, DriftThresholds(volume_collapse=math.inf))
    assert {measure.feature for measure in report.measures} == {"rows"}
    assert dict(report.uncompared)[AMOUNT] == "100 values on one side, below 500"


def test_features_of_one_side_only_are_listed(baseline):
    columns = draw(1)
    columns["country"] = columns.pop("channel")
    uncompared = dict(compare(statistics(columns), baseline, THRESHOLDS).uncompared)
    assert uncompared == {
        "channel": "not among this run's features",
        "country": "not among the champion's features",
    }


def test_what_stops_is_configured_per_statistic(baseline):
    columns = draw(1)
    columns["second_of_week"] *= 0.3
    report = compare(statistics(columns), baseline, DriftThresholds(stops=("psi",)))
    assert [(r.subject, r.severity) for r in decide(reasons(report)).reasons] == [
        ("second_of_week", "stop"),
        ("second_of_week", "warn"),
    ]


@pytest.mark.parametrize("settings", [{"stops": ("psy",)}, {"bins": 1}, {"categories": 0}, {"min_values": 0}])
def test_a_threshold_that_makes_no_sense_is_refused(settings):
    with pytest.raises(ConfigurationError, match=next(iter(settings)) if "stops" not in settings else "psy"):
        DriftThresholds(**settings)


def test_the_report_is_json_even_where_nothing_is_left(baseline):
    report = compare(statistics_pb2.DatasetFeatureStatistics(), baseline, THRESHOLDS)
    raw = json.loads(report.to_json())
    assert [m["value"] for m in raw["measures"]] == ["inf", "inf"]
    assert all(m["exceeded"] for m in raw["measures"])


def test_statistics_are_read_as_statistics_gen_writes_them(tmp_path, baseline):
    path = tmp_path / "FeatureStats.pb"
    path.write_bytes(statistics_pb2.DatasetFeatureStatisticsList(datasets=[baseline]).SerializeToString())
    assert load_statistics(path) == baseline


@pytest.mark.parametrize("content", [None, b"", b"\xff\xff\xff"])
def test_statistics_that_cannot_be_read_are_an_error_that_names_the_file(tmp_path, content):
    path = tmp_path / "FeatureStats.pb"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"FeatureStats\.pb"):
        load_statistics(path)
