"""Real database servers of Debian's on the loopback, for as long as a test needs one."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

# Debian keeps servers off the path.
_PLACES = [*map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), "/usr/sbin"]
_PASSWORD = "s3cret-of-a-test"
_BOUND_S = 120

Kind = Literal["postgresql", "mysql"]


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
def server(kind: Kind, database: str) -> Iterator[Server]:
    """A new server with one database and one user, who has a password; skips the test where it is not installed."""
    begin = {"postgresql": _postgresql, "mysql": _mysql}[kind]
    # Such a server refuses to run as root, and must be able to enter the folder.
    user = {"postgresql": "postgres", "mysql": "mysql"}[kind] if os.getuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix=f"{kind}-"))
    try:
        password = folder / "password"
        password.write_text(_PASSWORD + "\n", encoding="utf-8")
        password.chmod(0o600)
        with begin(folder, database, user) as port:
            yield Server(f"{kind}://mlmd@127.0.0.1:{port}/{database}", password)
    finally:
        shutil.rmtree(folder)


@contextmanager
def _postgresql(folder: Path, database: str, user: str | None) -> Iterator[int]:
    initdb, postgres, createdb = map(_program, ("initdb", "postgres", "createdb"))
    _hand_over(folder, user)
    data, port = folder / "data", _free_port()
    _run(
        [
            initdb,
            "--pgdata",
            data,
            "--username",
            "mlmd",
            "--auth",
            "scram-sha-256",
            "--no-sync",
            "--pwfile",
            "password",
        ],
        folder,
        user,
    )
    settings = ["-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={folder}", "-c", "fsync=off"]
    with _serving([postgres, "-D", data, "-p", str(port), *settings], "ready to accept connections", folder, user):
        where = ["--host", "127.0.0.1", "--port", str(port), "--username", "mlmd", "--no-password", database]
        subprocess.run([createdb, *where], check=True, env={**os.environ, "PGPASSWORD": _PASSWORD}, timeout=_BOUND_S)
        yield port


@contextmanager
def _mysql(folder: Path, database: str, user: str | None) -> Iterator[int]:
    """MariaDB, which is what Debian has of MySQL."""
    install, serve, client = map(_program, ("mariadb-install-db", "mariadbd", "mariadb"))
    _hand_over(folder, user)
    data, port, line = folder / "data", _free_port(), folder / "socket"
    _run([install, f"--datadir={data}", "--auth-root-authentication-method=normal", "--skip-test-db"], folder, user)
    settings = [f"--port={port}", "--bind-address=127.0.0.1", f"--socket={line}", "--skip-log-bin"]
    with _serving([serve, "--no-defaults", f"--datadir={data}", *settings], "ready for connections", folder, user):
        said = (
            f"CREATE DATABASE {database}; CREATE USER mlmd@'127.0.0.1' IDENTIFIED BY '{_PASSWORD}';"
            f"GRANT ALL ON {database}.* TO mlmd@'127.0.0.1';"
        )
        subprocess.run([client, f"--socket={line}", "--user=root"], input=said, text=True, check=True, timeout=_BOUND_S)
        yield port


@contextmanager
def _serving(command: Sequence[str | Path], ready: str, folder: Path, user: str | None) -> Iterator[None]:
    with (folder / "log").open("w+", encoding="utf-8") as log:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, user=user, cwd=folder)
        try:
            assert process.stderr is not None
            for line in process.stderr:
                log.write(line.decode(errors="replace"))
                if ready.encode() in line:
                    break
            log.seek(0)
            assert process.poll() is None, log.read()
            # Nobody reads on, and what it says later must not fill the pipe.
            process.stderr.close()
            yield
        finally:
            # PostgreSQL's fast shutdown, which waits for no client; MariaDB knows the other signal.
            process.send_signal(signal.SIGINT if "postgres" in str(command[0]) else signal.SIGTERM)
            process.wait(_BOUND_S)


def _run(command: Sequence[str | Path], folder: Path, user: str | None) -> None:
    done = subprocess.run(command, capture_output=True, user=user, cwd=folder, timeout=_BOUND_S)
    assert done.returncode == 0, done.stderr.decode(errors="replace")


def _hand_over(folder: Path, user: str | None) -> None:
    if user is not None:
        account = pwd.getpwnam(user)
        for path in (folder, *folder.iterdir()):
            os.chown(path, account.pw_uid, account.pw_gid)


def _program(name: str) -> str:
    found = shutil.which(name, path=os.pathsep.join([*_PLACES, os.environ.get("PATH", "")]))
    if found is None:
        package = "mariadb-server" if name.startswith("mariadb") else "postgresql"
        pytest.skip(f"{name} is not here: install Debian's package {package}")
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
