from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components.simulator import simulate, write
from pipelines.cli import main
from schemas import scoring_pb2
from tests.serving.gateways import TRANSACTION, Gateway, serving
from tests.serving.test_client import nobody


class Deciding(Gateway):
    """Blocks every tenth transaction."""

    def Score(self, request: scoring_pb2.Transaction, context: Any) -> scoring_pb2.Decision:
        decision = super().Score(request, context)
        if len(self.seen) % 10 == 0:
            decision.outcome = scoring_pb2.BLOCK
            decision.reason_codes.append("SCORE_BLOCK")
        decision.score = 0.5
        decision.model.name, decision.model.version, decision.arm = "fraud", 3, scoring_pb2.STABLE
        return decision


@pytest.fixture
def gateway() -> Iterator[tuple[Deciding, str]]:
    deciding = Deciding()
    with serving(deciding) as target:
        yield deciding, target


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("log") / "log.parquet"
    write(simulate(cards=30, days=10, seed=1), path)
    return path


def score(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, dict[str, Any]]:
    code = main(["score", *map(str, arguments), "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_one_transaction_is_decided(capsys: pytest.CaptureFixture[str], gateway: tuple[Deciding, str]) -> None:
    seen, target = gateway[0].seen, gateway[1]
    written = json.dumps(TRANSACTION | {"event_time": "2024-03-01T13:00:00+01:00"})
    code, fields = score(capsys, "--target", target, "--transaction", written)
    assert (code, fields["outcome"], fields["model"]) == (0, "PASS", {"name": "fraud", "version": 3})
    assert seen[0].event_time == 1_709_294_400_000_000


def test_a_transaction_may_come_by_standard_input(
    capsys: pytest.CaptureFixture[str], gateway: tuple[Deciding, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(TRANSACTION)))
    code, _ = score(capsys, "--target", gateway[1], "--transaction", "-")
    assert code == 0
    assert gateway[0].seen == [scoring_pb2.Transaction(**TRANSACTION)]


def test_people_read_reasons_in_sentences(capsys: pytest.CaptureFixture[str], gateway: tuple[Deciding, str]) -> None:
    gateway[0].seen += [None] * 9
    assert main(["score", "--target", gateway[1], "--transaction", json.dumps(TRANSACTION)]) == 0
    shown = capsys.readouterr().err
    for words in ("BLOCK", "0.5000", "The model's score reaches the threshold for blocking.", "fraud version 3"):
        assert words in shown


def test_a_refusal_exits_with_1_and_names_the_field(
    capsys: pytest.CaptureFixture[str], gateway: tuple[Deciding, str]
) -> None:
    code, fields = score(
        capsys, "--target", gateway[1], "--transaction", json.dumps(TRANSACTION | {"amount_minor": -1})
    )
    assert (code, fields["error"]["code"], fields["error"]["field"]) == (1, "INVALID_ARGUMENT", "amount_minor")


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("{", "not JSON"),
        ("[]", "JSON list"),
        ('{"colour": "red"}', "'colour'"),
        ('{"event_time": "soon"}', "ISO 8601"),
        ('{"event_time": "2024-03-01"}', "has no zone"),
    ],
)
def test_what_is_no_transaction_is_bad_input(
    written: str, said: str, capsys: pytest.CaptureFixture[str], gateway: tuple[Deciding, str]
) -> None:
    code, fields = score(capsys, "--target", gateway[1], "--transaction", written)
    assert code == 2
    assert said in fields["error"]["message"]
    assert not gateway[0].seen


def test_a_log_is_decided_in_order_and_counted(
    capsys: pytest.CaptureFixture[str], gateway: tuple[Deciding, str], log: Path, tmp_path: Path
) -> None:
    out = tmp_path / "decisions.jsonl"
    where = ("--target", gateway[1], "--log", log, "--source", "simulated")
    code, fields = score(capsys, *where, "--limit", 100, "--concurrency", 1, "--out", out)
    assert (code, fields["transactions"], fields["decided"]) == (0, 100, 100)
    assert fields["outcomes"] == {"PASS": 90, "BLOCK": 10}
    assert (fields["arms"], fields["versions"]) == ({"STABLE": 100}, {"3": 100})
    assert (fields["degraded"], fields["errors"]) == ({}, {})
    assert 0 < fields["latency_ms"]["p50"] <= fields["latency_ms"]["p99"] <= fields["latency_ms"]["max"]
    assert "reports" not in fields
    times = [transaction.event_time for transaction in gateway[0].seen]
    assert times == sorted(times)
    sent = [transaction.transaction_id for transaction in gateway[0].seen]
    assert [json.loads(line)["transaction_id"] for line in out.read_text().splitlines()] == sent


def test_outcomes_of_a_log_follow_their_decisions(
    capsys: pytest.CaptureFixture[str], gateway: tuple[Deciding, str], log: Path
) -> None:
    where = ("--target", gateway[1], "--log", log, "--source", "simulated")
    code, fields = score(capsys, *where, "--labels", "--rate", 100_000)
    assert (code, fields["reports"]["undecided"], fields["reports"]["errors"]) == (0, 0, {})
    reports = [message for message in gateway[0].seen if isinstance(message, scoring_pb2.OutcomeReport)]
    assert len(reports) == fields["reports"]["recorded"] + fields["reports"]["known"] > 0
    decided = {message.transaction_id for message in gateway[0].seen if isinstance(message, scoring_pb2.Transaction)}
    assert {report.transaction_id for report in reports} < decided
    assert len(decided) == fields["transactions"]


def test_calls_that_fail_are_counted_by_code_and_exit_with_1(
    capsys: pytest.CaptureFixture[str], gateway: tuple[Deciding, str], log: Path
) -> None:
    import grpc

    gateway[0].failures += [grpc.StatusCode.RESOURCE_EXHAUSTED] * 3
    arguments = ["--target", gateway[1], "--log", str(log), "--source", "simulated", "--limit", "50"]
    assert main(["score", *arguments]) == 1
    shown = capsys.readouterr().err
    assert "47 of 50 transactions decided" in shown
    assert "RESOURCE_EXHAUSTED" in shown


def test_without_a_gateway_nothing_is_tried(capsys: pytest.CaptureFixture[str], log: Path) -> None:
    with nobody() as target:
        code, fields = score(capsys, "--target", target, "--log", log, "--source", "simulated", "--timeout", 0.2)
    assert code == 2
    assert f"no gateway can be reached at {target}" in fields["error"]["message"]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--log", "x"],
        ["--source", "simulated"],
        ["--transaction", "{}", "--log", "x", "--source", "simulated"],
        ["--transaction", "{}", "--labels"],
        ["--log", "x", "--source", "simulated", "--rate", "0"],
    ],
)
def test_what_does_not_go_together_is_bad_usage(arguments: list[str]) -> None:
    assert main(["score", *arguments]) == 2
