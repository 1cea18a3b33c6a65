"""The workspace: one key whatever happens, one run at a time, and every part's place."""

from __future__ import annotations

import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from pipelines.workspace import Workspace
from schemas.errors import ConfigurationError
from schemas.keys import MIN_KEY_BYTES
from schemas.tokens import card_token

ROOT = Path(__file__).parents[2]
PRINT_FINGERPRINT = """
import sys
from pathlib import Path
from pipelines.workspace import Workspace
workspace = Workspace.at(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
print(workspace.card_key().fingerprint)
"""
HOLD = """
import sys
from pathlib import Path
from pipelines.workspace import Workspace
with Workspace.at(Path(sys.argv[1])).exclusive():
    print("held", flush=True)
    sys.stdin.readline()
"""


def program(code: str, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_workspace_is_made_where_there_is_none_and_everything_lies_inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    workspace = Workspace.at(Path("new/workspace"))
    assert workspace.root == tmp_path / "new" / "workspace"
    assert workspace.root.is_dir()
    places = [workspace.metadata, workspace.reports, workspace.pipeline_root("fraud-x"), workspace.card_key_file]
    assert all(workspace.root in place.parents for place in places)
    assert workspace.tracking_uri == f"sqlite:///{workspace.root}/mlflow/mlflow.db"
    assert workspace.artifact_root == f"file://{workspace.root}/mlflow/artifacts"
    assert workspace.pipeline_root("fraud-a") != workspace.pipeline_root("fraud-b")


def test_a_file_in_the_way_is_an_error_that_names_it(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=r"workspace .*file cannot be made"):
        Workspace.at(tmp_path / "file")


def test_the_card_key_is_made_once_and_only_its_owner_can_read_it(tmp_path):
    workspace = Workspace.at(tmp_path)
    key = workspace.card_key()
    assert len(key.secret) == MIN_KEY_BYTES
    assert stat.S_IMODE(workspace.card_key_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(workspace.card_key_file.parent.stat().st_mode) == 0o700
    assert Workspace.at(tmp_path).card_key() == key
    assert card_token("4111 1111", Workspace.at(tmp_path).card_key()) == card_token("4111 1111", key)
    assert [file.name for file in workspace.card_key_file.parent.iterdir()] == [workspace.card_key_file.name]


def test_two_workspaces_have_two_keys(tmp_path):
    assert Workspace.at(tmp_path / "a").card_key() != Workspace.at(tmp_path / "b").card_key()


def test_a_key_that_others_can_read_is_refused(tmp_path):
    workspace = Workspace.at(tmp_path)
    workspace.card_key()
    workspace.card_key_file.chmod(0o644)
    with pytest.raises(ConfigurationError, match="open to others"):
        workspace.card_key()


def test_two_processes_that_start_at_once_end_with_one_key(tmp_path):
    processes = [program(PRINT_FINGERPRINT, tmp_path) for _ in range(2)]
    for process in processes:
        assert line(process) == "ready"
    prints = {process.communicate("go\n")[0].strip() for process in processes}
    assert prints == {Workspace.at(tmp_path).card_key().fingerprint}


def test_many_at_once_end_with_one_key_and_leave_nothing_behind(tmp_path):
    everyone = 8

    def key(start: Barrier, folder: Path) -> bytes:
        start.wait()
        return Workspace.at(folder).card_key().secret

    with ThreadPoolExecutor(everyone) as pool:
        for attempt in range(20):
            folder, start = tmp_path / str(attempt), Barrier(everyone)
            keys = {future.result() for future in [pool.submit(key, start, folder) for _ in range(everyone)]}
            assert len(keys) == 1
            assert len(list((folder / "keys").iterdir())) == 1


def test_a_second_run_is_refused_while_one_holds_the_workspace(tmp_path):
    holder = program(HOLD, tmp_path)
    try:
        assert line(holder) == "held"
        with (
            pytest.raises(ConfigurationError, match="another run is using workspace"),
            Workspace.at(tmp_path).exclusive(),
        ):
            pass
        with Workspace.at(tmp_path / "other").exclusive():
            pass
    finally:
        holder.kill()
        holder.communicate()
    # However the first one ended, nothing has to be cleared away.
    with Workspace.at(tmp_path).exclusive():
        pass


def test_a_run_that_fails_lets_go_of_the_workspace(tmp_path):
    workspace = Workspace.at(tmp_path)
    with pytest.raises(RuntimeError), workspace.exclusive():
        raise RuntimeError
    with workspace.exclusive():
        pass


def test_the_online_files_can_be_written_at_once(tmp_path: Path) -> None:
    workspace = Workspace.at(tmp_path / "here")
    for file in (workspace.rollout, workspace.decisions):
        file.touch()
        assert file.is_relative_to(workspace.root)
    assert workspace.models_config.parent == workspace.served_models
