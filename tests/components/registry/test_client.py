"""Connecting to MLflow: quietly, and with an error of ours where nothing answers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from components.registry.client import connect
from components.registry.versions import list_versions
from schemas.errors import RegistryError


def test_a_new_database_is_made_quietly(tmp_path: Path) -> None:
    script = (
        "import sys; from components.registry.client import connect; "
        "from components.registry.versions import list_versions; list_versions(connect(sys.argv[1]))"
    )
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    made = subprocess.run([sys.executable, "-c", script, uri], check=True, capture_output=True, text=True)
    assert (made.stdout, made.stderr) == ("", "")


def test_a_server_that_does_not_answer_is_a_registry_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(RegistryError, match="listing the versions"):
        list_versions(connect("http://127.0.0.1:9"))
