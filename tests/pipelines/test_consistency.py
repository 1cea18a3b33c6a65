"""The consistency job over a real store and a real decision log."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from components.features.timeline import Cause
from pipelines.consistency import Findings, compare_decisions, write_metrics
from schemas.errors import ArtifactError, ConfigurationError
from schemas.features import FEATURES, OVER_LABELS, specify
from serving.features import Features
from tests.pipelines.decided import BEGIN_US, HOUR_US, SPEC, STEP_US, Gateway, Logs, changed, run, simulated

END_US = 2 * 10**15
MERCHANT_COUNT = "merchant_id_count_24h"
HOUR_SUM = "card_id_amount_base_minor_sum_1h"


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Logs:
    return simulated(tmp_path_factory.mktemp("logs"))


@pytest.fixture(scope="module")
def sound(logs: Logs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The decision log of a gateway without a fault; only read."""
    path = tmp_path_factory.mktemp("sound") / "decisions.sqlite"
    run(logs, path)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a decision log may be."""
    return tmp_path / "decisions.sqlite"


def check(logs: Logs, decisions: Path, since_us: int = 0, until_us: int = END_US) -> Findings:
    return compare_decisions(decisions, [logs.history], SPEC, since_us, until_us)


def disagreeing(found: Findings) -> dict[str, int]:
    return {name: one.strict.disagreements for name, one in found.features.items() if one.strict.disagreements}


def test_a_store_that_was_loaded_and_told_everything_in_order_agrees_in_every_value(logs: Logs, sound: Path) -> None:
    found = check(logs, sound)
    assert disagreeing(found) == {}
    assert found.above(0) == []
    assert (found.decisions, found.unanswered) == (len(logs.live), 0)
    assert found.labels > 0
    assert found.labels_ahead > 0
    assert all(one.strict.rows == len(logs.live) and not one.apart for one in found.features.values())
    assert list(found.features) == [declared.name for declared in SPEC.inputs]


def test_without_its_history_a_loaded_store_does_not_agree(logs: Logs, sound: Path) -> None:
    found = compare_decisions(sound, [], SPEC, 0, END_US)
    assert MERCHANT_COUNT in disagreeing(found)


def test_a_transaction_that_is_in_the_history_and_decided_counts_once(logs: Logs, sound: Path) -> None:
    found = compare_decisions(sound, [logs.history, logs.history.slice(100)], SPEC, 0, END_US)
    assert disagreeing(found) == {}
    assert found.history <= logs.history.num_rows


def test_a_span_is_compared_with_all_that_came_before_it(logs: Logs, sound: Path) -> None:
    whole = check(logs, sound)
    middle_us = BEGIN_US + STEP_US * (len(logs.live) + whole.labels) // 2
    first, second = check(logs, sound, until_us=middle_us), check(logs, sound, since_us=middle_us)
    assert first.decisions + second.decisions == len(logs.live)
    assert min(first.decisions, second.decisions) > 0
    assert disagreeing(first) == disagreeing(second) == {}


def test_a_fault_in_one_feature_is_named_with_its_rate_and_an_example(logs: Logs, path: Path) -> None:
    merchant = logs.live[7]["merchant_id"]
    theirs = [row["transaction_id"] for row in logs.live if row["merchant_id"] == merchant]

    def busy(transaction: Mapping[str, Any], features: Features) -> Features:
        if transaction["merchant_id"] != merchant:
            return features
        return changed(features, MERCHANT_COUNT, 1e6)

    run(logs, path, busy)
    found = check(logs, path)
    assert disagreeing(found) == {MERCHANT_COUNT: len(theirs)}
    wrong = found.features[MERCHANT_COUNT]
    assert (wrong.strict.mismatched, wrong.strict.missing, wrong.strict.extra) == (len(theirs), 0, 0)
    assert wrong.strict.rate == len(theirs) / len(logs.live)
    assert wrong.example in theirs
    assert found.above(wrong.strict.rate / 2) == [MERCHANT_COUNT]
    assert found.above(wrong.strict.rate) == []


def test_what_is_missing_and_what_is_there_without_reason_are_told_apart(logs: Logs, path: Path) -> None:
    places = [declared.name for declared in SPEC.numeric for _ in range(declared.width)]
    at = places.index(HOUR_SUM)
    wanted = [math.nan, 7.0]

    def faulty(transaction: Mapping[str, Any], features: Features) -> Features:
        """Of the first sum that is there nothing is left, and the first empty hour gets one."""
        if wanted and math.isnan(features.numbers[at]) == (wanted == [7.0]):
            return changed(features, HOUR_SUM, wanted.pop(0))
        return features

    run(logs, path, faulty)
    wrong = check(logs, path).features[HOUR_SUM].strict
    assert (wrong.mismatched, wrong.missing, wrong.extra) == (0, 1, 1)


def test_a_transaction_beyond_the_lateness_and_those_that_it_belongs_before_are_told_apart(
    logs: Logs, path: Path
) -> None:
    late = logs.live[20]
    rest = [row for row in logs.live if row is not late]
    with closing(Gateway(logs, path)) as gateway:
        gateway.run(rest)
        gateway.decide(late)
    found = check(logs, path)
    assert disagreeing(found) == {}
    count = found.features["card_id_count_30d"]
    assert count.apart[Cause.LATE].rows == 1
    after = [row for row in rest if row["card_id"] == late["card_id"] and row["event_time"] > late["event_time"]]
    assert count.apart[Cause.OVERTAKEN].rows == count.apart[Cause.OVERTAKEN].disagreements == len(after)


def test_a_label_that_was_reported_late_puts_label_features_alone_apart(logs: Logs, path: Path) -> None:
    labelled = logs.live[5]
    label_time_us = labelled["event_time"] + HOUR_US
    silent = [{**row, "label_time": None} for row in logs.live]
    with closing(Gateway(logs, path)) as gateway:
        gateway.run(silent)
        gateway.hear(labelled, True, label_time_us)
    found = check(logs, path)
    assert disagreeing(found) == {}
    apart = {name for name, one in found.features.items() if one.apart}
    assert "merchant_id_fraud_count_30d" in apart
    assert apart <= {feature.name for feature in FEATURES if feature.aggregate in OVER_LABELS}
    assert found.features["merchant_id_fraud_count_30d"].apart[Cause.OVERTAKEN].disagreements > 0


def test_a_corrected_label_is_told_apart_where_it_counts(logs: Logs, path: Path) -> None:
    labelled, rest = logs.live[5], [{**row, "label_time": None} for row in logs.live]
    with closing(Gateway(logs, path)) as gateway:
        gateway.run(rest[:6])
        time_us = labelled["event_time"]
        gateway.hear(labelled, True, time_us + 1)
        gateway.hear(labelled, False, time_us + 2)
        gateway.run(rest[6:])
    found = check(logs, path)
    assert disagreeing(found) == {}
    count = found.features["merchant_id_fraud_count_30d"]
    assert count.apart[Cause.CORRECTED].disagreements > 0
    assert not found.features[MERCHANT_COUNT].apart


def test_what_follows_a_decision_without_features_is_told_apart(logs: Logs, path: Path) -> None:
    unanswered = logs.live[9]["transaction_id"]
    run(logs, path, lambda transaction, features: None if transaction["transaction_id"] == unanswered else features)
    found = check(logs, path)
    assert disagreeing(found) == {}
    assert (found.decisions - found.compared, found.unanswered) == (1, 1)
    assert found.features["card_id_count_30d"].apart[Cause.UNANSWERED].rows > 0


def test_features_of_another_declaration_are_refused(logs: Logs, sound: Path) -> None:
    fewer = specify(SPEC.features[0].inputs, SPEC.features[:3], ())
    with pytest.raises(ArtifactError, match="--since"):
        compare_decisions(sound, [logs.history], fewer, 0, END_US)


def test_a_decision_log_that_is_not_there_is_refused_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="there is no decision log"):
        compare_decisions(tmp_path / "decisions.sqlite", [], SPEC, 0, END_US)
    assert not list(tmp_path.iterdir())


def test_a_span_without_decisions_has_nothing_to_compare(logs: Logs, sound: Path) -> None:
    found = check(logs, sound, since_us=END_US - 1)
    assert (found.decisions, found.compared, found.features) == (0, 0, {})


def test_metrics_are_what_prometheus_reads(logs: Logs, sound: Path, tmp_path: Path) -> None:
    path = tmp_path / "features.prom"
    write_metrics(compare_decisions(sound, [], SPEC, 0, END_US), "simulated", 7.0, path)
    families = {family.name: family for family in text_string_to_metric_families(path.read_text())}
    mismatch = {s.labels["feature"]: s.value for s in families["fraudops_feature_mismatch_ratio"].samples}
    assert set(mismatch) == {declared.name for declared in SPEC.inputs}
    assert mismatch[MERCHANT_COUNT] > 0
    assert mismatch["amount_base_minor"] == 0
    assert {"fraudops_feature_missing_ratio", "fraudops_feature_extra_ratio"} <= set(families)
    [ran] = families["fraudops_feature_consistency_time_seconds"].samples
    assert (ran.value, ran.labels) == (7.0, {"source": "simulated"})
    [decisions] = families["fraudops_feature_consistency_decisions"].samples
    assert decisions.value == len(logs.live)
    assert [file.name for file in tmp_path.iterdir()] == ["features.prom"]


def test_metrics_that_cannot_be_written_are_bad_usage(logs: Logs, sound: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="metrics-file"):
        write_metrics(check(logs, sound), "simulated", 7.0, tmp_path / "absent" / "features.prom")
