from pathlib import Path

import pytest

from schemas.errors import OutcomeReportError, UnknownTransactionError
from serving.decisions.labels import Label, is_new
from serving.decisions.log import DecisionLog
from tests.serving.decisions.entries import SECOND_US, entry, transaction

# The transaction is of second 10.
EVENT = 10 * SECOND_US


@pytest.fixture
def path(tmp_path: Path) -> Path:
    log = DecisionLog(tmp_path / "log.sqlite")
    log.append([entry("t0"), entry("t1")])
    log.close()
    return tmp_path / "log.sqlite"


@pytest.mark.parametrize(
    ("standing", "is_fraud", "label_time", "new"),
    [
        (None, True, EVENT, True),
        (None, False, EVENT + 1, True),
        ((True, EVENT + 5), True, EVENT + 5, False),
        ((True, EVENT + 5), True, EVENT + 6, False),
        ((True, EVENT + 5), True, EVENT + 4, False),
        ((True, EVENT + 5), False, EVENT + 6, True),
        ((False, EVENT + 5), True, EVENT + 6, True),
    ],
)
def test_a_report_is_new_when_it_is_the_first_or_corrects(
    standing: tuple[bool, int] | None, is_fraud: bool, label_time: int, new: bool
) -> None:
    assert is_new(transaction("t"), standing, is_fraud, label_time) is new


@pytest.mark.parametrize("label_time", [EVENT + 4, EVENT + 5])
def test_a_correction_that_is_not_later_is_refused(label_time: int) -> None:
    with pytest.raises(OutcomeReportError, match=rf"'t'.*is_fraud True since.*{EVENT + 5}.*{label_time}.*later"):
        is_new(transaction("t"), (True, EVENT + 5), False, label_time)


@pytest.mark.parametrize("standing", [None, (True, EVENT)])
def test_a_label_from_before_the_transaction_is_refused(standing: tuple[bool, int] | None) -> None:
    with pytest.raises(OutcomeReportError, match=f"label_time {EVENT - 1}.*'t'.*event_time {EVENT}"):
        is_new(transaction("t"), standing, True, EVENT - 1)


def test_a_report_gives_the_transaction_and_is_pending_until_it_is_applied(path: Path) -> None:
    log = DecisionLog(path)
    reported = log.report("t1", True, EVENT + 1, "ann", EVENT + 2)
    assert reported.recorded
    assert reported.transaction == transaction("t1")
    (label,) = log.pending_labels()
    assert label == Label(1, transaction("t1"), True, EVENT + 1, "ann")
    log.applied([label])
    assert log.pending_labels() == []
    log.close()


def test_a_death_before_the_feature_store_heard_of_a_label_leaves_it_pending(path: Path) -> None:
    first = DecisionLog(path)
    first.report("t1", True, EVENT + 1, None, EVENT + 2)
    first.report("t0", False, EVENT + 1, None, EVENT + 2)
    first.report("t1", False, EVENT + 3, None, EVENT + 4)
    # What another process reads is what the death of the first one leaves.
    second = DecisionLog(path)
    pending = second.pending_labels()
    assert [(label.transaction["transaction_id"], label.is_fraud, label.label_time_us) for label in pending] == [
        ("t1", True, EVENT + 1),
        ("t0", False, EVENT + 1),
        ("t1", False, EVENT + 3),
    ]
    second.applied(pending[:2])
    assert first.pending_labels() == pending[2:]
    first.close()
    second.close()


def test_the_same_report_again_is_not_recorded(path: Path) -> None:
    log = DecisionLog(path)
    assert log.report("t0", True, EVENT + 1, "ann", EVENT + 2).recorded
    again = log.report("t0", True, EVENT + 1, "bob", EVENT + 3)
    assert not again.recorded
    assert again.transaction == transaction("t0")
    assert len(log.pending_labels()) == 1
    log.close()


def test_corrections_follow_one_another(path: Path) -> None:
    log = DecisionLog(path)
    for second, is_fraud in enumerate((True, False, True)):
        assert log.report("t0", is_fraud, EVENT + second, None, EVENT + 9).recorded
    # The latest one stands, so this one is late.
    with pytest.raises(OutcomeReportError):
        log.report("t0", False, EVENT + 1, None, EVENT + 9)
    assert len(log.pending_labels()) == 3
    log.close()


def test_a_report_about_a_transaction_that_nobody_decided_on_is_refused(path: Path) -> None:
    log = DecisionLog(path)
    with pytest.raises(UnknownTransactionError, match="'t7'"):
        log.report("t7", True, EVENT + 1, None, EVENT + 2)
    assert log.pending_labels() == []
    log.close()
