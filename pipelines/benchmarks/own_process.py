"""Work in a process of its own, so that its memory can be told, and what that process had of it at most."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import ParamSpec, TypeVar

from schemas.errors import BenchmarkError

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def in_own_process(
    what: str, function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> Result:
    """Calls a function of a module in a process that begins with nothing, and gives its result.

    Args:
        what: it is that is done, for the message.
        function: pickled by name, as its arguments are by value.

    Raises:
        BenchmarkError: the process was killed.
        Whatever the function raises.
    """
    try:
        # Spawned, because a fork begins with this process' memory.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            return process.submit(function, *args, **kwargs).result()
    except BrokenProcessPool as error:
        raise BenchmarkError(
            f"the process of {what} was killed, for want of memory perhaps; take fewer rows"
        ) from error


def peak_mib() -> float:
    """The largest resident set that this process had; unlike getrusage's, it begins with the process itself.

    Raises:
        BenchmarkError: the system does not say so.
    """
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise BenchmarkError("this system does not say how much memory a process had at most (VmHWM); measure on Linux")
