"""Opening a SQLite file: by many at once, and where there is none."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from serving.sqlite import connect

TABLE = "CREATE TABLE IF NOT EXISTS seen (who INTEGER PRIMARY KEY)"
OPEN = f"""
import sys
from pathlib import Path
from serving.sqlite import connect
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
