"""`fraudops report` finds the last page."""

import json
from pathlib import Path

import pytest

from pipelines.cli import main


def test_the_latest_page_is_named_whatever_its_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reports = tmp_path / "reports"
    reports.mkdir()
    for name in (
        "fraud-sparkov-20260101T000000Z",
        "fraud-handbook-20260102T000000Z",
        "fraud-simulated-20251231T235959Z",
    ):
        (reports / f"{name}.html").write_text("page", encoding="utf-8")
    assert main(["report", "--workspace", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"path": str(reports / "fraud-handbook-20260102T000000Z.html")}


def test_a_workspace_without_a_run_is_bad_input_that_says_what_to_do(tmp_path: Path) -> None:
    assert main(["report", "--workspace", str(tmp_path)]) == 2
