"""What a log's rows become on the way to a gateway, and what decisions become on the way to a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipelines.scoring import DecisionFile, answer_row, decision_fields, read_as_sent, rows
from schemas import scoring_pb2
from schemas.errors import ConfigurationError, LogError, ScoringError
from serving.client import transaction_message
from serving.load import Answer

CARD = "4111 1111-11111111"
SPARKOV = f"""tx_id,cc_num,trans_date_trans_time,category,amt,is_fraud,merchant,merch_lat,merch_long
b,{CARD},2019-01-01 10:00:00,travel,20.00,0,m1,40.0,
a,5500000000000004,2019-01-01 09:30:00,,30.00,1,m2,41.0,-74.0
"""
DECISION = scoring_pb2.Decision(
    decision_id="d1",
    transaction_id="t1",
    outcome=scoring_pb2.BLOCK,
    score=0.5,
    reason_codes=["SCORE_BLOCK", "PROBING"],
    reason_vocabulary=1,
    model=scoring_pb2.ModelVersion(name="fraud", version=3),
    arm=scoring_pb2.CANARY,
    rule_hits=[scoring_pb2.RuleHit(rule="probing", action=scoring_pb2.REVIEW, reason_code="PROBING")],
    generation=9,
    missing_features=["speed"],
)
BARE = scoring_pb2.Decision(
    transaction_id="t2",
    outcome=scoring_pb2.REVIEW,
    degraded=scoring_pb2.Degraded(
        cause=scoring_pb2.Degraded.FEATURES_UNAVAILABLE, fallback=scoring_pb2.Degraded.REVIEW_ALL, detail="locked"
    ),
)


@pytest.fixture
def sparkov(tmp_path: Path) -> Path:
    log = tmp_path / "sparkov.csv"
    log.write_text(SPARKOV)
    return log


def test_a_log_is_sent_in_order_with_card_numbers_and_without_base_amounts(sparkov: Path) -> None:
    first, second = rows(read_as_sent(sparkov, "sparkov"))
    assert (first["transaction_id"], second["transaction_id"]) == ("a", "b")
    assert second["card_id"] == CARD
    assert second["event_time"] == 1_546_336_800_000_000
    assert second["label_time"] == second["event_time"] + 7 * 86_400_000_000
    assert (first["is_fraud"], first["merchant_category"], second["longitude"]) == (True, None, None)
    assert "amount_base_minor" not in first
    labels = {"is_fraud", "label_time"}
    message = transaction_message({name: value for name, value in second.items() if name not in labels})
    assert (message.amount_minor, message.currency, message.HasField("longitude")) == (2_000, "USD", False)


def test_messages_about_a_log_show_no_card_number(sparkov: Path) -> None:
    sparkov.write_text(SPARKOV.split("\n", 1)[1])
    with pytest.raises(LogError) as raised:
        read_as_sent(sparkov, "sparkov")
    assert "1111" not in str(raised.value) and "0004" not in str(raised.value)


def test_a_log_of_bad_rows_is_not_sent(sparkov: Path) -> None:
    sparkov.write_text(SPARKOV.replace("20.00", "-20.00"))
    with pytest.raises(LogError, match="negative_amount 1"):
        read_as_sent(sparkov, "sparkov")


def test_a_decision_is_shown_by_names_and_null_where_nothing_is_set() -> None:
    assert decision_fields(DECISION) == {
        "decision_id": "d1",
        "transaction_id": "t1",
        "outcome": "BLOCK",
        "score": 0.5,
        "reason_codes": ["SCORE_BLOCK", "PROBING"],
        "reason_vocabulary": 1,
        "model": {"name": "fraud", "version": 3},
        "arm": "CANARY",
        "rule_hits": [{"rule": "probing", "action": "REVIEW", "reason_code": "PROBING"}],
        "degraded": None,
        "generation": 9,
        "missing_features": ["speed"],
        "control_propensity": None,
        "unexplained": None,
    }
    late = scoring_pb2.Decision(outcome=scoring_pb2.REVIEW, unexplained="the explanation came too late")
    assert decision_fields(late)["unexplained"] == "the explanation came too late"
    bare = decision_fields(BARE)
    assert (bare["score"], bare["model"], bare["arm"]) == (None, None, "ARM_UNSPECIFIED")
    assert bare["degraded"] == {"cause": "FEATURES_UNAVAILABLE", "fallback": "REVIEW_ALL", "detail": "locked"}


def test_every_field_of_a_decision_is_shown() -> None:
    assert set(decision_fields(DECISION)) == set(scoring_pb2.Decision.DESCRIPTOR.fields_by_name)


@pytest.mark.parametrize("ending", [".parquet", ".jsonl"])
def test_decisions_and_failures_are_kept_in_a_file(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"decisions{ending}"
    with DecisionFile(path) as file:
        for result in (DECISION, BARE, ScoringError("late", "DEADLINE_EXCEEDED")):
            file.add(Answer({"transaction_id": "t1", "card_id": CARD}, result, 0.25))
    content = path.read_bytes()
    assert CARD.encode() not in content
    kept: list[dict[str, Any]]
    kept = (
        pq.read_table(path).to_pylist() if ending == ".parquet" else [json.loads(line) for line in content.splitlines()]
    )
    assert len(kept) == 3 and len({tuple(row) for row in kept}) == 1
    full, bare, failed = kept
    assert (full["outcome"], full["model_version"], full["rules"], full["error"]) == ("BLOCK", 3, ["probing"], None)
    assert (bare["degraded_cause"], bare["model_version"]) == ("FEATURES_UNAVAILABLE", None)
    assert (failed["outcome"], failed["error"], failed["latency_ms"]) == (None, "DEADLINE_EXCEEDED", 250)


def test_a_long_file_has_every_row_in_order(tmp_path: Path) -> None:
    path = tmp_path / "decisions.parquet"
    with DecisionFile(path) as file:
        for number in range(10_000):
            file.add(Answer({"transaction_id": str(number)}, ScoringError("late", "DEADLINE_EXCEEDED"), number))
    assert pq.read_table(path)["latency_ms"].to_pylist() == [1_000.0 * number for number in range(10_000)]


def test_another_ending_or_folder_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"decisions\.txt ends in neither"):
        DecisionFile(tmp_path / "decisions.txt")
    with pytest.raises(ConfigurationError, match="cannot be written"):
        DecisionFile(tmp_path / "absent" / "decisions.jsonl")
    assert answer_row(Answer({"transaction_id": "t"}, BARE, 1.0))["latency_ms"] == 1_000
