"""A process that waits without an end hears SIGTERM, whichever of its threads receives it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

BOUND_S = 120
WAIT = """
import signal, sys, threading
from pipelines.termination import on_sigterm
stop = on_sigterm()
idle = threading.Event()
other = threading.Thread(target=idle.wait)
other.start()
if sys.argv[1] == "other thread":
    threading.Thread(target=lambda: signal.pthread_kill(other.ident, signal.SIGTERM)).start()
print("waits", flush=True)
stop.wait()
idle.set()
print("stops")
"""


@pytest.mark.parametrize("receiver", ["process", "other thread"])
def test_sigterm_ends_a_wait_without_an_end(receiver: str) -> None:
    command = [sys.executable, "-c", WAIT, receiver]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "waits\n"
            if receiver == "process":
                process.send_signal(signal.SIGTERM)
            # Not by `communicate`, which knows nothing of what the reader of the first line holds already.
            out = process.stdout.read()
            process.wait(BOUND_S)
        finally:
            process.kill()
    assert (process.returncode, out) == (0, "stops\n")
