"""The machine that a figure was measured on, and how busy it was."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Machine:
    """What a figure depends on besides the code.

    Attributes:
        cores: that this process may use.
        memory_gib: of the whole machine.
        cpu: model of the processor.
        load_average: processes that ran or wanted to, over the last 1, 5 and 15 minutes.
    """

    cores: int
    memory_gib: float
    cpu: str
    load_average: tuple[float, float, float]


def this_machine() -> Machine:
    """The machine now; to be asked before a benchmark makes load of its own."""
    memory_gib = round(psutil.virtual_memory().total / 1024**3, 1)
    return Machine(len(os.sched_getaffinity(0)), memory_gib, _cpu_model(), os.getloadavg())


def _cpu_model() -> str:
    """As Linux names it, or the architecture where it has no name."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.machine()
