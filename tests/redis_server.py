"""A real Redis server of Debian's on a free port of the loopback, for as long as a test needs it."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

_BOUND_S = 120


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RedisServer:
    """A server with its data in a folder.

    Attributes:
        port: where it listens, over restarts too.
        url: of its first database.
    """

    def __init__(self, program: str, folder: Path, options: tuple[str, ...]) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._command = [program, "--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(folder)]
        # Redis knows no empty argument on the command line but this one, and its default would write to the disk.
        self._command += ["--save", "", "--logfile", str(folder / "log"), *options]
        self._log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it and waits until it takes connections."""
        self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, process_group=0)
        deadline = time.monotonic() + _BOUND_S
        while True:
            try:
                with redis.Redis(port=self.port) as client:
                    client.ping()
                return
            except redis.AuthenticationError:
                return
            except redis.ConnectionError:
                assert self._process.poll() is None, self._log.read_text()
                assert time.monotonic() < deadline, self._log.read_text()
                time.sleep(0.02)

    def kill(self) -> None:
        """Ends it as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(_BOUND_S)
            self._process = None

    def client(self, password: str | None = None) -> redis.Redis:
        """A connection to it."""
        return redis.Redis(port=self.port, password=password)


@contextmanager
def redis_server(folder: Path, *options: str) -> Iterator[RedisServer]:
    """A new server; skips the test where Redis is not installed."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not here: install Debian's package redis-server")
    server = RedisServer(program, folder, options)
    try:
        server.start()
        yield server
    finally:
        server.kill()
