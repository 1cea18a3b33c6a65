"""Generated code is that of its definition, and the scoring API says what the rest of the schemas says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from schemas import reasons, scoring_pb2, scoring_pb2_grpc
from schemas.decision import Arm, Outcome
from schemas.transaction import COLUMNS

ROOT = Path(__file__).parents[2]
TYPES = {
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_INT64: "int64",
    FieldDescriptor.TYPE_DOUBLE: "float64",
    FieldDescriptor.TYPE_BOOL: "bool",
}
TRANSACTION, REPORT = (scoring_pb2.DESCRIPTOR.message_types_by_name[name] for name in ("Transaction", "OutcomeReport"))


def test_the_generated_code_is_that_of_the_definition(tmp_path: Path) -> None:
    for line in (ROOT / "Makefile").read_text().splitlines():
        if "grpc_tools.protoc " in line:
            arguments = [
                argument.replace("_out=.", f"_out={tmp_path}") if "_out=" in argument else argument
                for argument in line.split("grpc_tools.protoc ")[1].split()
            ]
            subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *arguments], cwd=ROOT, check=True)
    made = {file.name: file.read_text() for file in (tmp_path / "schemas").iterdir()}
    scoring = {"scoring_pb2.py", "scoring_pb2.pyi", "scoring_pb2_grpc.py"}
    assert made.keys() == scoring | {"tf_serving_pb2.py", "tf_serving_pb2.pyi"}
    for name, text in made.items():
        assert (ROOT / "schemas" / name).read_text() == text, f"schemas/{name} is stale: make proto"


def columns(message: Descriptor) -> dict[str, str]:
    return {field.name: TYPES[field.type] for field in message.fields}


def test_a_transaction_has_every_column_but_the_label_in_its_type() -> None:
    label = {"is_fraud", "label_time"}
    canonical = {column.name: column.type.replace("timestamp_us", "int64") for column in COLUMNS}
    assert columns(TRANSACTION) == {name: type_ for name, type_ in canonical.items() if name not in label}
    reported = columns(REPORT)
    assert {name: reported[name] for name in label} == {name: canonical[name] for name in label}


@pytest.mark.parametrize("message", [TRANSACTION, REPORT], ids=lambda message: message.name)
def test_what_is_missing_is_told_from_zero(message: Descriptor) -> None:
    assert [field.name for field in message.fields if not field.has_presence] == []
    free = scoring_pb2.Transaction(amount_minor=0)
    assert free.HasField("amount_minor") and not free.HasField("amount_base_minor")
    assert scoring_pb2.Transaction.FromString(free.SerializeToString()).HasField("amount_minor")


def values(enum: EnumDescriptor) -> dict[str, int]:
    return {value.name: value.number for value in enum.values if not value.name.endswith("_UNSPECIFIED")}


def test_outcomes_and_arms_are_numbered_alike() -> None:
    enums = scoring_pb2.DESCRIPTOR.enum_types_by_name
    assert values(enums["Outcome"]) == {outcome.name: outcome.value for outcome in Outcome}
    assert values(enums["Arm"]) == {arm.name: arm.value for arm in Arm}


def test_a_decision_without_a_model_says_so_by_leaving_it_out() -> None:
    decision = scoring_pb2.Decision(outcome=scoring_pb2.REVIEW, arm=scoring_pb2.STABLE)
    assert not decision.HasField("model") and not decision.HasField("score") and not decision.HasField("degraded")
    assert scoring_pb2.Decision(score=0.0).HasField("score")


def test_the_service_is_found_under_its_versioned_name() -> None:
    (service,) = scoring_pb2.DESCRIPTOR.services_by_name.values()
    assert service.full_name == "fraudops.scoring.v1.Scoring"
    assert [method.name for method in service.methods] == ["Score", "ScoreStream", "ReportOutcome"]
    assert hasattr(scoring_pb2_grpc, "ScoringStub") and hasattr(scoring_pb2_grpc, "ScoringServicer")


def test_reason_codes_are_short_words_with_a_sentence_each() -> None:
    assert reasons.VERSION >= 1
    for code, text in reasons.REASONS.items():
        assert code.isupper() and code.replace("_", "").isalpha()
        assert text.endswith(".") and "\n" not in text and len(text) <= 100
    assert len(set(reasons.REASONS.values())) == len(reasons.REASONS)
