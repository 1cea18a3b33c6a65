import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from tensorflow_metadata.proto.v0 import anomalies_pb2

from components.gate import Reason, Verdict, anomaly_reasons, decide, merged
from schemas.acceptance import Acceptance, read
from schemas.errors import ArtifactError

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
AT = "2026-03-01T12:00:00+00:00"
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


def test_an_accepted_stop_stays_what_it_was_and_lets_the_run_pass():
    verdict = decide([WARN, STOP], [read("schema=refunds are new", "m.keller")], NOW)
    accepted = Acceptance("schema", "refunds are new", "m.keller", at=AT)
    assert verdict == Verdict(True, (replace(STOP, accepted=accepted), WARN))
    assert verdict.reasons[0].severity == "stop"
    assert verdict.acceptances == (accepted,)


def test_a_stop_that_nobody_accepted_still_stops():
    other = replace(STOP, subject="country")
    verdict = decide([STOP, other], [read("schema:country=a new market", "m")], NOW)
    assert not verdict.passed
    assert [(reason.subject, reason.stops) for reason in verdict.reasons] == [
        ("amount_base_minor", True),
        ("country", False),
    ]


def test_the_acceptance_that_names_the_subject_counts_before_the_one_for_all():
    every, one = read("schema=all", "m"), read("schema:country=one", "m")
    country = replace(STOP, subject="country")
    verdict = decide([STOP, country], [every, one], NOW)
    assert {reason.subject: reason.accepted for reason in verdict.reasons} == {
        "amount_base_minor": every.applied(NOW),
        "country": one.applied(NOW),
    }


def test_an_acceptance_without_a_stop_is_told_as_a_warning():
    verdict = decide([WARN], [read("drift:channel=new app", "m.keller")], NOW)
    [told] = [reason for reason in verdict.reasons if reason.check == "acceptance"]
    assert verdict.passed and told.severity == "warn"
    assert "drift:channel was accepted by m.keller (new app), but nothing stops there; take" in told.message


def test_an_acceptance_for_all_that_nothing_is_left_for_is_told():
    verdict = decide([STOP], [read("schema=all", "m"), read(f"schema:{STOP.subject}=one", "m")], NOW)
    assert verdict.passed
    assert "all that stops there is accepted by name" in verdict.reasons[1].message


def test_what_may_not_be_accepted_stays_a_stop_and_the_attempt_is_told():
    firm = Reason("ingest", "stop", "columns", "there is no merchant_id", acceptable=False)
    verdict = decide([firm], [read("ingest=we know", "m")], NOW)
    assert not verdict.passed
    assert verdict.reasons[0] == firm
    assert "what stops there cannot be accepted" in verdict.reasons[1].message


def test_verdicts_of_several_gates_are_one_with_what_was_accepted_at_each():
    ingest = decide([replace(STOP, check="ingest", subject="rows")], [read("ingest=a bad day", "m")], NOW)
    whole = merged((ingest, decide([WARN])))
    assert whole.passed and [one.reason for one in whole.acceptances] == ["a bad day"]
    assert not merged((ingest, decide([STOP]))).passed


def test_a_verdict_with_acceptances_survives_its_text():
    verdict = decide([WARN, STOP], [read("schema=refunds are new", "m"), read("drift=nothing", "m")], NOW)
    assert Verdict.from_json(verdict.to_json()) == verdict


def test_a_verdict_of_an_earlier_version_is_read():
    raw = json.loads(decide([STOP, WARN]).to_json())
    for reason in raw["reasons"]:
        del reason["accepted"], reason["acceptable"]
    assert Verdict.from_json(json.dumps(raw)) == decide([STOP, WARN])


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
        decide([STOP]).to_json().replace('"accepted": null', '"accepted": {"check": "schema", "by": "m"}'),
        decide([STOP]).to_json().replace('"accepted": null', '"accepted": "yes"'),
        decide([STOP], [read("schema=why", "m")], NOW).to_json().replace('"acceptable": true', '"acceptable": false'),
        decide([STOP], [read("schema=why", "m")], NOW).to_json().replace('"stop"', '"warn"'),
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
