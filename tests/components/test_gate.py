import json

import pytest
from tensorflow_metadata.proto.v0 import anomalies_pb2

from components.gate import Reason, Verdict, anomaly_reasons, decide
from schemas.errors import ArtifactError

WARN = Reason("drift", "warn", "channel", "channel moved", 0.3, 0.25)
STOP = Reason("schema", "stop", "amount_base_minor", "amounts are negative", "-1", "0")


def test_a_verdict_without_reasons_passes():
    assert decide([]) == Verdict(True, ())


def test_warnings_alone_pass_and_are_kept():
    assert decide([WARN]) == Verdict(True, (WARN,))


def test_one_stop_fails_and_comes_first():
    assert decide([WARN, STOP, WARN]) == Verdict(False, (STOP, WARN, WARN))


def test_a_verdict_survives_its_text():
    verdict = decide([WARN, STOP])
    assert Verdict.from_json(verdict.to_json()) == verdict


def test_an_infinite_value_is_written_as_text_because_json_has_none():
    verdict = decide([Reason("drift", "stop", "rows", "no row is left", float("inf"), float("nan"))])
    assert json.loads(verdict.to_json())["reasons"][0]["observed"] == "inf"
    assert Verdict.from_json(verdict.to_json()) == verdict


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"passed": true}',
        '{"passed": true, "reasons": [{"check": "schema"}]}',
        decide([STOP]).to_json().replace('"passed": false', '"passed": true'),
        decide([STOP]).to_json().replace('"stop"', '"panic"'),
    ],
)
def test_a_text_that_is_no_verdict_or_contradicts_itself_is_refused(text):
    with pytest.raises(ArtifactError, match="not a gate verdict"):
        Verdict.from_json(text)


def test_every_anomaly_names_its_feature_and_both_descriptions():
    anomalies = anomalies_pb2.Anomalies()
    missing = anomalies.anomaly_info["is_fraud"]
    missing.severity = anomalies_pb2.AnomalyInfo.ERROR
    missing.reason.add(short_description="Column dropped", description="Column is completely missing")
    drifted = anomalies.anomaly_info["channel"]
    drifted.severity = anomalies_pb2.AnomalyInfo.WARNING
    drifted.short_description, drifted.description = "High distance", "The distance is 0.4"
    assert anomaly_reasons(anomalies) == (
        Reason("schema", "warn", "channel", "channel: High distance: The distance is 0.4"),
        Reason("schema", "stop", "is_fraud", "is_fraud: Column dropped: Column is completely missing"),
    )


def test_an_anomaly_with_several_reasons_tells_them_all():
    anomalies = anomalies_pb2.Anomalies()
    info = anomalies.anomaly_info["amount_base_minor"]
    info.short_description = "Multiple errors"
    info.reason.add(short_description="Out-of-range values", description="-1 < 0")
    info.reason.add(short_description="Invalid values", description="Float feature has NaN values.")
    (reason,) = anomaly_reasons(anomalies)
    assert reason.severity == "stop"
    assert "-1 < 0" in reason.message and "has NaN values" in reason.message


def test_missing_data_and_anomalies_of_the_whole_dataset_stop():
    anomalies = anomalies_pb2.Anomalies(data_missing=True)
    anomalies.dataset_anomaly_info.description = "The number of examples fell"
    assert {(r.subject, r.severity) for r in anomaly_reasons(anomalies)} == {("dataset", "stop")}
    assert len(anomaly_reasons(anomalies)) == 2
