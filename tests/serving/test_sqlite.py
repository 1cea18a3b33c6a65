"""Opening a SQLite file, by many at once and where there is none, and the copying of its log."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from serving.sqlite import checkpoints, connect

TABLE = "CREATE TABLE IF NOT EXISTS seen (who INTEGER PRIMARY KEY)"
OPEN = f"""
import sys
import time
from contextlib import closing
from pathlib import Path
from serving.sqlite import checkpoints, connect
print("ready", flush=True)
sys.stdin.readline()
with connect(Path(sys.argv[1]), {TABLE!r}) as db:
    db.execute("INSERT INTO seen VALUES (?)", [int(sys.argv[2])])
"""
EVERYONE = 8
BOUND_S = 120


def test_a_new_file_is_opened_by_many_processes_at_once(tmp_path: Path) -> None:
    for attempt in range(3):
        file = tmp_path / f"{attempt}.sqlite"
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", OPEN, str(file), str(number)],
                cwd=Path(__file__).parents[2],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for number in range(EVERYONE)
        ]
        try:
            for process in processes:
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n"
            for process in processes:
                assert process.stdin is not None
                process.stdin.write("go\n")
                process.stdin.flush()
            said = [process.communicate(timeout=BOUND_S)[1] for process in processes]
        finally:
            for process in processes:
                process.kill()
                process.communicate()
        assert [process.returncode for process in processes] == [0] * EVERYONE, said
        db = connect(file, TABLE)
        assert db.execute("SELECT who FROM seen ORDER BY who").fetchall() == [(who,) for who in range(EVERYONE)]
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        db.close()


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "text"
    file.write_text("neither a header nor a page " * 40, encoding="utf-8")
    with pytest.raises(sqlite3.DatabaseError):
        connect(file, TABLE)


def test_a_log_is_copied_aside_while_somebody_writes(tmp_path: Path) -> None:
    file = tmp_path / "file.sqlite"
    with closing(connect(file, "CREATE TABLE IF NOT EXISTS texts (text TEXT)")) as db:
        db.execute("INSERT INTO texts VALUES ('committed')")
        db.execute("BEGIN IMMEDIATE")
        db.execute("INSERT INTO texts VALUES ('under way')")
        assert b"committed" not in file.read_bytes()
        with checkpoints(file):
            deadline = time.monotonic() + BOUND_S
            while b"committed" not in file.read_bytes():
                assert time.monotonic() < deadline
            assert b"under way" not in file.read_bytes()
        db.execute("COMMIT")
        assert db.execute("SELECT count(*) FROM texts").fetchone() == (2,)


def test_a_commit_copies_a_long_log_itself_and_the_next_begins_a_new_one(tmp_path: Path) -> None:
    file = tmp_path / "file.sqlite"
    with closing(connect(file, "CREATE TABLE IF NOT EXISTS blobs (bytes BLOB)")) as db:
        for _ in range(12):
            db.execute("INSERT INTO blobs VALUES (zeroblob(4000000))")
        assert file.stat().st_size > 40_000_000
        assert file.with_name("file.sqlite-wal").stat().st_size < 40_000_000
