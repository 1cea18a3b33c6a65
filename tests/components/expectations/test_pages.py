import re
import socket
from pathlib import Path

import pytest

from tests.components.expectations.plausible import ROWS, changed_at, checked, log


def pages(folder):
    return {path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8") for path in folder.rglob("*.html")}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Pages about a log with a foreign currency that nobody knows, a wrong place and a card number as card_id."""
    folder = tmp_path_factory.mktemp("site") / "data_docs"
    table = changed_at(log(), "currency", 7, "XXX")
    table = changed_at(changed_at(table, "latitude", 9, 95.5), "card_id", 9, "4111111111111111")
    checked(table, data_docs=folder)
    return folder


def test_the_first_page_leads_to_all_validations_and_says_how_they_came_out(site):
    first = (site / "index.html").read_text(encoding="utf-8")
    rows = re.findall(r'<a href="(validations/[^"]+)">([^<]+)</a></td><td>([^<]+)<', first)
    assert {name: came_out for _, name, came_out in rows}["transactions.rows"] == "3 of 4 hold"
    assert [name for _, name, _ in rows][:2] == ["transactions.log", "transactions.currencies"]
    assert "stop: 1 rows are in currency XXX, for which mapping simulated has no rate" in first
    assert all((site / link).is_file() for link, _, _ in rows) and len(rows) == 8


def test_a_failure_is_shown_with_its_segment_and_value(site):
    (currencies,) = site.glob("validations/transactions/currencies/**/*.html")
    assert "XXX" in currencies.read_text(encoding="utf-8")
    (rows,) = site.glob("validations/transactions/rows/**/*.html")
    assert "95.5" in rows.read_text(encoding="utf-8")


def test_pages_fetch_nothing_and_have_no_place_of_this_machine_and_no_card(site):
    for page in pages(site).values():
        assert not re.search(r"<(script|link|img)\b|url\(", page)
        assert str(site) not in page and str(Path.home()) not in page
        assert "4111111111111111" not in page and "k1_" not in page
    assert {path.suffix for path in site.rglob("*") if path.is_file()} == {".html"}


def test_the_same_log_makes_the_same_pages(tmp_path):
    for name in ("one", "other"):
        checked(log(), data_docs=tmp_path / name)
    assert pages(tmp_path / "one") == pages(tmp_path / "other") != {}


def test_no_connection_is_made_whatever_the_environment_says(tmp_path, monkeypatch):
    def refuse(*_):
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("GX_ANALYTICS_ENABLED", "true")
    report = checked(log(), data_docs=tmp_path / "site")
    assert all(result.success for result in report.results)


def test_great_expectations_leaves_nothing_behind_and_shows_no_progress(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert checked(log()).results[0].observed == ROWS
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")
