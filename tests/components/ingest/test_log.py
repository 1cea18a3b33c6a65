import hashlib
import shutil
from pathlib import Path

import pytest

from components.ingest import LogFile, log_digest, log_files, write_list
from schemas.errors import LogError


def names(path: Path) -> list[str]:
    files = log_files(path)
    assert [file.path for file in files] == [path / file.name for file in files]
    return [file.name for file in files]


def test_a_folder_is_searched_below_and_sorted_by_relative_name(tmp_path: Path) -> None:
    for name in ("b.csv", "a/z.parquet", "a.jsonl", "c/d/e.ndjson.gz", "B.CSV"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert names(tmp_path) == ["B.CSV", "a.jsonl", "a/z.parquet", "b.csv", "c/d/e.ndjson.gz"]


def test_hidden_and_underscore_names_are_skipped_below_a_folder_but_not_when_asked_for(tmp_path: Path) -> None:
    for name in ("a.csv", "_SUCCESS", ".a.csv.crc", "_temporary/b.csv", ".git/c.csv", "_d.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert names(tmp_path) == ["a.csv"]
    assert log_files(tmp_path / "_d.csv") == (LogFile("_d.csv", tmp_path / "_d.csv"),)


def test_every_file_of_no_known_format_is_named(tmp_path: Path) -> None:
    for name in ("a.csv", "notes.txt", "more/a.xlsx"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(LogError, match=r"more/a\.xlsx, notes\.txt;.*\.parquet"):
        log_files(tmp_path)


def test_an_absent_path_and_an_empty_folder_are_errors(tmp_path: Path) -> None:
    with pytest.raises(LogError, match=r"absent\.csv does not exist"):
        log_files(tmp_path / "absent.csv")
    with pytest.raises(LogError, match="folder without files"):
        log_files(tmp_path)


def test_the_digest_is_the_one_its_description_says(tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_bytes(b"two")
    (tmp_path / "a.csv").write_bytes(b"")
    assert log_digest(tmp_path) == hashlib.sha256(b"a.csv\x000\x00b.csv\x003\x00two").hexdigest()
    assert log_digest(tmp_path / "b.csv") == hashlib.sha256(b"b.csv\x003\x00two").hexdigest()


def test_the_digest_changes_with_a_name_a_byte_or_the_border_between_files(tmp_path: Path) -> None:
    def digest(**files: bytes) -> str:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        for name, content in files.items():
            (folder / f"{name}.csv").write_bytes(content)
        return log_digest(folder)

    same = digest(a=b"12", b=b"3")
    assert digest(b=b"3", a=b"12") == same
    assert len({same, digest(a=b"1", b=b"23"), digest(a=b"12", c=b"3"), digest(a=b"12", b=b"4"), digest(a=b"123")}) == 5


def test_a_list_holds_some_files_of_a_folder_and_is_read_as_they_would_be(tmp_path: Path) -> None:
    folder, some = tmp_path / "logs", tmp_path / "some"
    for name in ("2026-01-01.csv", "2026-01-02/b.csv", "2026-01-02/a.csv", "2026-01-03.csv"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    listed = tmp_path / "days.log.json"
    write_list(listed, folder, [folder / "2026-01-02/b.csv", folder / "2026-01-02/a.csv", folder / "2026-01-01.csv"])
    assert [file.name for file in log_files(listed)] == ["2026-01-01.csv", "2026-01-02/a.csv", "2026-01-02/b.csv"]
    shutil.copytree(folder, some)
    (some / "2026-01-03.csv").unlink()
    assert log_digest(listed) == log_digest(some)
    assert not list(tmp_path.glob(".*"))


def test_a_list_that_is_none_and_one_whose_files_are_gone_are_errors(tmp_path: Path) -> None:
    listed = tmp_path / "days.log.json"
    write_list(listed, tmp_path, [tmp_path / "2026-01-01.csv"])
    with pytest.raises(LogError, match=r"lists files that are not there: .*2026-01-01\.csv"):
        log_files(listed)
    for text in ("", "[]", '{"folder": "x"}', '{"folder": 1, "files": []}'):
        listed.write_text(text)
        with pytest.raises(LogError, match=r"days\.log\.json is no list of files"):
            log_files(listed)
