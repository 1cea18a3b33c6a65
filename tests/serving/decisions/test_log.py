import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

import serving.sqlite
from schemas.decision import Arm, Outcome
from schemas.errors import ArtifactError
from serving.decisions.log import DecisionLog
from serving.features import Features
from serving.features.sqlite import SqliteTable
from tests.serving.decisions.entries import entry, shadow, transaction

ROOT = Path(__file__).parents[3]


def start(*arguments: object) -> subprocess.Popen[str]:
    """A process that appends, once it is told to; see `entries`."""
    command = [sys.executable, "-m", "tests.serving.decisions.entries", *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def stood(line: str) -> dict[str, str]:
    """Transactions to decisions, of a line that such a process printed."""
    return dict(pair.split("=") for pair in line.split())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.sqlite"


def test_what_was_appended_is_found_whole(path: Path) -> None:
    log = DecisionLog(path)
    appended = entry("t0", features=Features((1.5, 2.0), ("chip",)), city="Köln", latitude=50.9375)
    assert log.append([appended]) == [appended.decision]
    log.close()

    log = DecisionLog(path)
    found = log.find("t0")
    assert found is not None
    assert found.decision == appended.decision
    assert found.transaction == transaction("t0", city="Köln", latitude=50.9375)
    assert found.features == Features((1.5, 2.0), ("chip",))
    assert log.find("t1") is None
    assert log.count() == 1
    log.close()


def test_many_are_asked_at_once_whether_they_were_decided(path: Path) -> None:
    with closing(DecisionLog(path)) as log:
        log.append([entry("t0"), entry('"t1", é'), entry("t2")])
        asked = ["t0", '"t1", é', "absent", "", *(f"no{number}" for number in range(70_000))]
        assert log.decided(asked) == {"t0", '"t1", é'}
        assert log.decided([]) == set()


def test_features_that_could_not_be_read_stay_absent(path: Path) -> None:
    log = DecisionLog(path)
    log.append([entry("t0", features=None)])
    found = log.find("t0")
    assert found is not None
    assert found.features is None
    log.close()


def test_people_ask_by_columns(path: Path) -> None:
    log = DecisionLog(path)
    passed = entry("t0", arm=Arm.CONTROL, intended=Outcome.BLOCK, version=3, generation=7, city="Köln")
    fallen_back = entry("t1", routed=Arm.CANARY, arm=Arm.STABLE, version=None, cause="MODEL_LATE", model_us=None)
    log.append([passed, fallen_back], [shadow("d-t0", version=4, generation=7, decided=Outcome.BLOCK)])
    log.close()

    db = sqlite3.connect(path)
    db.row_factory = sqlite3.Row
    first, second = map(dict, db.execute("SELECT * FROM decisions ORDER BY number"))
    assert first | {"number": 0, "decision": b"", "transaction_json": ""} == {
        "number": 0,
        "decision_id": "d-t0",
        "transaction_id": "t0",
        "decided_us": 11_000_000,
        "event_time": 10_000_000,
        "card_id": "k1_card",
        "merchant_id": "m",
        "amount_base_minor": 1_250,
        "routed": "STABLE",
        "arm": "CONTROL",
        "version": 3,
        "generation": 7,
        "outcome": "PASS",
        "intended": "BLOCK",
        "score": 0.25,
        "cause": None,
        "fallback": None,
        "model_us": 2_000,
        "total_us": 5_000,
        "rules_digest": "f" * 64,
        "decision": b"",
        "transaction_json": "",
        "features": None,
    }
    assert [second[name] for name in ("routed", "arm", "version", "score", "cause", "fallback", "model_us")] == [
        "CANARY", "STABLE", None, None, "MODEL_LATE", "RULES_ALONE", None,
    ]  # fmt: skip
    asked = "SELECT transaction_json ->> '$.city', shadows.outcome FROM decisions JOIN shadows USING (decision_id)"
    assert list(map(tuple, db.execute(asked))) == [("Köln", "PASS")]
    db.close()


def test_of_two_decisions_on_a_transaction_the_first_stands(path: Path) -> None:
    one, other = DecisionLog(path), DecisionLog(path)
    first = entry("t0", decision_id="first", outcome=Outcome.BLOCK)
    second = entry("t0", decision_id="second")
    assert one.append([first]) == [first.decision]
    new = entry("t1")
    assert other.append([second, new]) == [first.decision, new.decision]
    assert other.tally(Arm.STABLE, 0).outcomes == {Outcome.BLOCK: 1, Outcome.PASS: 1}
    # Also within one batch, and where the very same entry comes again.
    twice = [entry("t2", decision_id=f"d{number}") for number in range(2)]
    assert one.append([*twice, first]) == [twice[0].decision, twice[0].decision, first.decision]
    assert one.count() == 3
    one.close()
    other.close()


def test_a_candidate_is_heard_once_on_each_decision(path: Path) -> None:
    log = DecisionLog(path)
    assert (
        log.append([], [shadow("d0"), shadow("d0", outcome=Outcome.BLOCK), shadow("d1"), shadow("d1", version=3)]) == []
    )
    assert log.shadow_tally(2, 0).outcomes == {(Outcome.PASS, Outcome.PASS): 2}
    log.close()


def test_a_killed_process_leaves_all_that_it_acknowledged_and_no_half_batch(path: Path) -> None:
    acknowledged: dict[str, str] = {}
    batch = 7
    for life, batches in enumerate((1, 4, 12)):
        process = start(path, f"w{life}", 1_000_000, batch)
        try:
            go(process)
            assert process.stdout is not None
            # It begins with what its predecessors decided, and gets their decisions.
            for line in process.stdout:
                stands = stood(line)
                assert acknowledged.items() & stands.items() == {
                    pair for pair in acknowledged.items() if pair[0] in stands
                }
                acknowledged |= stands
                if len(acknowledged) >= batches * batch:
                    process.kill()
                    break
            # What it said before it died counts as well.
            for line in process.stdout:
                if line.endswith("\n"):
                    acknowledged |= stood(line)
        finally:
            process.kill()
            process.communicate()

    log = DecisionLog(path)
    for transaction_id, decision_id in acknowledged.items():
        found = log.find(transaction_id)
        assert found is not None
        assert found.decision.decision_id == decision_id
    assert log.count() % batch == 0
    # A batch may have been written and not acknowledged any more.
    assert len(acknowledged) <= log.count() <= len(acknowledged) + 3 * batch
    log.close()


def test_two_processes_that_decide_on_the_same_transactions_give_the_same_answers(path: Path) -> None:
    count = 280
    processes = [start(path, "a", count, 7), start(path, "b", count, 5)]
    try:
        for process in processes:
            go(process)
        answers = []
        for process in processes:
            printed, _ = process.communicate()
            assert process.returncode == 0
            answers.append(stood(printed))
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert answers[0] == answers[1]
    assert len(answers[0]) == count
    log = DecisionLog(path)
    assert log.count() == count
    log.close()


def test_a_full_disk_is_said_and_leaves_no_half_batch(path: Path) -> None:
    process = start(path, "w", 1_000_000, 7, 600_000)
    try:
        printed, _ = process.communicate("\n")
    finally:
        process.kill()
        process.communicate()
    *lines, error = printed.splitlines()
    assert f"decision log {path}" in error
    assert "disk" in error
    assert lines
    log = DecisionLog(path)
    assert log.count() == 7 * len(lines)
    assert all(log.find(transaction_id) for line in lines for transaction_id in stood(line))
    log.close()


def test_a_file_that_is_held_too_long_is_an_error_and_afterwards_none(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving.sqlite, "BUSY_S", 0.01)
    log = DecisionLog(path)
    log.append([entry("t0")])
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(ArtifactError, match=r"log\.sqlite: database is locked; see who holds"):
        log.append([entry("t1")])
    with pytest.raises(ArtifactError, match="locked"):
        log.report("t0", True, 11_000_000, None, 12_000_000)
    # Who only reads is not held up.
    assert log.find("t0") is not None
    assert log.count() == 1
    holder.execute("ROLLBACK")
    holder.close()
    assert len(log.append([entry("t1")])) == 1
    log.close()


def test_an_entry_that_cannot_be_written_takes_its_batch_with_it(path: Path) -> None:
    log = DecisionLog(path)
    with pytest.raises(ArtifactError, match="NOT NULL"):
        log.append([entry("t0"), entry("t1", merchant_id=None)], [shadow("d-t0")])
    assert log.count() == 0
    assert log.shadow_tally(2, 0).asked == 0
    log.append([entry("t0")])
    assert log.count() == 1
    log.close()


def test_threads_take_turns(path: Path) -> None:
    log = DecisionLog(path)
    failures: list[BaseException] = []

    def work(name: str) -> None:
        try:
            for number in range(40):
                log.append([entry(f"{name}{number}")])
                assert log.find(f"{name}{number}") is not None
                assert log.tally(Arm.STABLE, 0).decisions > number
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert log.count() == 120
    log.close()


def test_what_is_no_decision_log_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "text.sqlite"
    text.write_text("not a database, but a text that is long enough to be taken for the head of one " * 20)
    with pytest.raises(ArtifactError, match=r"text\.sqlite cannot be opened as a decision log.*name a file"):
        DecisionLog(text)
    with pytest.raises(ArtifactError, match=r"absent.*cannot be opened"):
        DecisionLog(tmp_path / "absent" / "log.sqlite")


def test_another_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "features.sqlite"
    SqliteTable(path).close()
    with pytest.raises(ArtifactError, match=r"features\.sqlite is a database, but no decision log"):
        DecisionLog(path)
    db = sqlite3.connect(path)
    assert db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall() == [("state",)]
    db.close()


def test_a_log_of_another_format_is_refused(path: Path) -> None:
    DecisionLog(path).close()
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(ArtifactError, match="format 99, and this version reads 1"):
        DecisionLog(path)


def test_a_log_that_was_closed_says_so(path: Path) -> None:
    log = DecisionLog(path)
    log.close()
    with pytest.raises(ArtifactError, match="closed"):
        log.count()
