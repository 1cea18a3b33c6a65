"""What lies beside a report: whole copies, found by links that hold wherever the folder goes."""

from __future__ import annotations

import shutil
from pathlib import Path

from tensorflow_metadata.proto.v0 import statistics_pb2

from components.attachments import data_docs, statistics_view


def statistics(folder: Path) -> Path:
    for split, rows in (("train", 100), ("test", 50)):
        found = statistics_pb2.DatasetFeatureStatisticsList()
        found.datasets.add(num_examples=rows)
        (folder / f"Split-{split}").mkdir(parents=True)
        (folder / f"Split-{split}" / "FeatureStats.pb").write_bytes(found.SerializeToString())
    return folder


def test_data_docs_are_copied_whole_and_the_link_holds_where_the_folder_goes(tmp_path: Path) -> None:
    docs = tmp_path / "artifact" / "data_docs"
    (docs / "static").mkdir(parents=True)
    (docs / "index.html").write_text("docs")
    (docs / "static" / "style.css").write_text("style")
    [link] = data_docs(docs, tmp_path / "reports" / "fraud-1")
    shutil.rmtree(docs)
    moved = (tmp_path / "reports").rename(tmp_path / "elsewhere")
    assert (moved / link.address).read_text() == "docs"
    assert (moved / link.address).parent.joinpath("static", "style.css").read_text() == "style"


def test_a_run_without_data_docs_has_no_link_to_them(tmp_path: Path) -> None:
    assert data_docs(tmp_path / "absent", tmp_path / "reports" / "fraud-1") == ()
    assert not (tmp_path / "reports").exists()


def test_the_view_of_the_statistics_is_a_page_that_says_what_it_loads(tmp_path: Path) -> None:
    link = statistics_view(statistics(tmp_path / "artifact"), tmp_path / "reports" / "fraud-1")
    page = (tmp_path / "reports" / link.address).read_text(encoding="utf-8")
    assert "facets" in page and "<title>Statistics: train and test</title>" in page
    hosts = {part.split("/")[0] for part in page.split("https://")[1:]}
    assert hosts and all(host in link.note for host in hosts)


def test_a_report_that_is_written_again_replaces_what_lay_there(tmp_path: Path) -> None:
    docs = tmp_path / "data_docs"
    docs.mkdir()
    for text in ("old", "new"):
        (docs / "index.html").write_text(text)
        [link] = data_docs(docs, tmp_path / "reports" / "fraud-1")
    assert (tmp_path / "reports" / link.address).read_text() == "new"
