"""Parts of the online path as processes of their own, for as long as something is measured."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import orjson

from schemas.errors import BenchmarkError

_END_S = 60.0
_LAST_CHARACTERS = 2_000


@contextmanager
def process(part: str, arguments: Sequence[str], folder: Path) -> Iterator[str]:
    """`fraudops serve PART` on free ports of the loopback, and its address; it ends with the context.

    Args:
        part: what to serve.
        arguments: beside those of the ports.
        folder: where its log goes.

    Raises:
        BenchmarkError: it did not come to serve.
    """
    command = [sys.executable, "-m", "pipelines.cli", "serve", part, *arguments]
    command += ["--port", "0", "--metrics-port", "0", "--json"]
    log = folder / f"{part}.log"
    with log.open("wb") as errors, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors) as running:
        try:
            assert running.stdout is not None
            said = orjson.loads(running.stdout.readline() or b"{}")
            if "address" not in said:
                last = log.read_text(errors="replace")[-_LAST_CHARACTERS:]
                raise BenchmarkError(f"the {part} does not start, so there is nothing to measure: {last.strip()}")
            yield said["address"]
        finally:
            running.send_signal(signal.SIGTERM)
            try:
                running.wait(_END_S)
            except subprocess.TimeoutExpired:
                running.kill()
