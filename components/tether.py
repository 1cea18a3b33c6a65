"""Lets a program end with the process that starts it: `python -m components.tether PARENT PROGRAM ARGUMENT...`.

The program takes this process's place.  What Linux was told to do when the parent ends stays with the process, and so a
program needs to know nothing of it, and the parent's memory is not forked with threads in it to say it there.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of linux/prctl.h


def main(arguments: Sequence[str]) -> int:
    """Becomes the program, which gets SIGKILL when the parent's thread that started it is no more.

    Args:
        arguments: the parent's process id, the program's path and its arguments.
    """
    parent, *command = arguments
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL) != 0:
        raise OSError(ctypes.get_errno(), "the kernel does not tell when a parent ends")
    # It may have ended before it could be asked about.
    if os.getppid() != int(parent):
        return 1
    os.execv(command[0], command)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
