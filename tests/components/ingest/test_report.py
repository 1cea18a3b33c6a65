from datetime import UTC, datetime
from pathlib import Path

import orjson

from components.ingest import IngestReport, excess, ingest
from tests.components.ingest.logs import mapping, row, write


def report(read: int, dead: int, duplicate: int) -> IngestReport:
    return IngestReport(
        files=("a.csv",),
        read=read,
        good=read - dead - duplicate,
        dead=dead,
        duplicate=duplicate,
        reasons={"bad_time": dead, "duplicate": duplicate},
        unread_columns=(),
        first_event=None,
        last_event=None,
    )


def test_a_share_of_bad_rows_at_the_limit_passes_and_above_it_does_not() -> None:
    settings = mapping(bad_rows_limit=0.01)
    assert excess(report(1_000, 6, 4), settings) is None
    reason = excess(report(1_000, 6, 5), settings)
    assert reason is not None
    assert "11 of 1,000 rows are bad (1.10%)" in reason
    assert "bad_rows_limit 1.00% of source shop: bad_time 6, duplicate 5" in reason


def test_a_limit_of_zero_passes_a_clean_log_alone() -> None:
    assert excess(report(10, 0, 0), mapping(bad_rows_limit=0)) is None
    assert excess(report(10, 0, 1), mapping(bad_rows_limit=0)) is not None


def test_the_report_is_one_json_object(tmp_path: Path) -> None:
    rows = [row(id="t1", extra=1, note=""), row(id="t2", at="2024-04-01", known=None), row(id="t1"), row(paid="x")]
    write(tmp_path / "log.jsonl", rows)
    result = ingest(tmp_path, mapping(), None)
    assert result.report.first_event == datetime(2024, 3, 1, 12, tzinfo=UTC)
    assert orjson.loads(result.report.to_json()) == {
        "files": ["log.jsonl"],
        "read": 4,
        "good": 2,
        "dead": 1,
        "duplicate": 1,
        "reasons": {"bad_type_amount": 1, "duplicate": 1},
        "unread_columns": ["extra"],
        "first_event": "2024-03-01T12:00:00+00:00",
        "last_event": "2024-04-01T00:00:00+00:00",
    }
