"""A real PostgreSQL server on the loopback, for as long as a test needs it."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

# Debian keeps the server's own programs off the path.
_PLACES = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
_BOUND_S = 120


@dataclass(frozen=True)
class Server:
    """Where it is.

    Attributes:
        url: of its database, without the password.
        password_file: holds that.
    """

    url: str
    password_file: Path


@contextmanager
def server(database: str) -> Iterator[Server]:
    """A new server with one database and one user, who has a password; skips the test where there is no PostgreSQL."""
    initdb, postgres, createdb = _program("initdb"), _program("postgres"), _program("createdb")
    # The server refuses to run as root, and must be able to enter the folder.
    user = "postgres" if os.getuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="postgresql-"))
    try:
        password = folder / "password"
        password.write_text("s3cret-of-a-test\n", encoding="utf-8")
        password.chmod(0o600)
        if user:
            account = pwd.getpwnam(user)
            for path in (folder, password):
                os.chown(path, account.pw_uid, account.pw_gid)
        data, port = folder / "data", _free_port()
        command: list[str | Path] = [
            initdb,
            "--pgdata",
            data,
            "--username",
            "mlmd",
            "--auth",
            "scram-sha-256",
            "--no-sync",
        ]
        subprocess.run([*command, "--pwfile", password], check=True, capture_output=True, user=user, cwd=folder)
        settings = ["-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={folder}", "-c", "fsync=off"]
        process = subprocess.Popen(
            [postgres, "-D", data, "-p", str(port), *settings],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            user=user,
            cwd=folder,
        )
        try:
            assert process.stderr is not None
            for line in process.stderr:
                if "ready to accept connections" in line:
                    break
            assert process.poll() is None
            where = ["--host", "127.0.0.1", "--port", str(port), "--username", "mlmd", "--no-password", database]
            secret = {**os.environ, "PGPASSWORD": password.read_text(encoding="utf-8").strip()}
            subprocess.run([createdb, *where], check=True, env=secret, timeout=_BOUND_S)
            yield Server(f"postgresql://mlmd@127.0.0.1:{port}/{database}", password)
        finally:
            # A fast shutdown, which waits for no client.
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=_BOUND_S)
    finally:
        shutil.rmtree(folder)


def _program(name: str) -> str:
    found = shutil.which(name, path=os.pathsep.join([*map(str, _PLACES), os.environ.get("PATH", "")]))
    if found is None:
        pytest.skip(f"{name} is not here: install Debian's package postgresql")
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
