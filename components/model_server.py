"""A model server as a process of its own, for as long as a block lasts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc

from schemas.errors import StackError
from schemas.versions import MODEL_NAME

_PAUSE_S = 0.1
_LAST_LINES = 20


@contextmanager
def serving(saved_model: Path, program: Path | None, scratch: Path, start_s: float) -> Iterator[grpc.Channel]:
    """Serves one SavedModel as version 1, and gives a channel to where; the process ends with the block.

    It ends with this process, too, however that ends.

    Args:
        saved_model: is linked, not copied.
        program: a `tensorflow_model_server`, which listens on a socket in `scratch` alone; None takes this project's
            own, on a free port of the loopback.
        scratch: an empty folder.
        start_s: how long it may take to begin to serve, in seconds.

    Raises:
        StackError: it cannot be started, or does not serve in time.
    """
    versions = scratch / MODEL_NAME
    versions.mkdir()
    (versions / "1").symlink_to(saved_model.resolve())
    socket, reply, words = scratch / "socket", scratch / "reply.json", scratch / "words"
    command = _own(versions) if program is None else _stock(program, versions, socket)
    tether = [sys.executable, "-P", "-m", "components.tether", str(os.getpid())]
    with reply.open("wb") as out, words.open("wb") as error:
        process = subprocess.Popen(
            [*tether, *command], stdin=subprocess.DEVNULL, stdout=out, stderr=error, start_new_session=True
        )
    try:
        with _channel(process, None if program is None else f"unix:{socket}", reply, words, start_s) as channel:
            yield channel
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _own(versions: Path) -> list[str]:
    # -P: a folder's own modules must not come before ours.
    return [
        *(sys.executable, "-P", "-m", "pipelines.cli", "serve", "model-server", "--json"),
        *("--model-name", MODEL_NAME, "--model-base-path", str(versions)),
        *("--port", "0", "--metrics-port", "0", "--file-system-poll-wait-seconds", "0"),
    ]


def _stock(program: Path, versions: Path, socket: Path) -> list[str]:
    return [
        *(str(program), "--port=0", f"--grpc_socket_path={socket}"),
        *(f"--model_name={MODEL_NAME}", f"--model_base_path={versions}"),
    ]


@contextmanager
def _channel(
    process: subprocess.Popen[bytes], address: str | None, reply: Path, words: Path, start_s: float
) -> Iterator[grpc.Channel]:
    """A channel that is ready; without an address, to the one that the server says on its standard output."""
    deadline = time.monotonic() + start_s
    while address is None:
        _demand_running(process, words, deadline, start_s)
        if (said := reply.read_text(encoding="utf-8")).endswith("\n"):
            address = str(json.loads(said)["address"])
    with grpc.insecure_channel(address) as channel:
        ready = grpc.channel_ready_future(channel)
        while True:
            with suppress(grpc.FutureTimeoutError):
                ready.result(_PAUSE_S)
                break
            _demand_running(process, words, deadline, start_s)
        yield channel


def _demand_running(process: subprocess.Popen[bytes], words: Path, deadline: float, start_s: float) -> None:
    """Gives a server that runs a moment.

    Raises:
        StackError: it has ended, or its time is over.
    """
    with suppress(subprocess.TimeoutExpired):
        process.wait(_PAUSE_S)
    if process.returncode is not None:
        trouble = f"ended with code {process.returncode} before it served"
    elif time.monotonic() > deadline:
        trouble = f"did not serve within {start_s:g} s"
    else:
        return
    said = words.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-_LAST_LINES:]
    raise StackError("\n".join([f"the model server {process.args!r} {trouble}; the last that it said:", *said]))
