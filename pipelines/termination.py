"""SIGTERM as an event that threads can wait for."""

from __future__ import annotations

import os
import signal
import threading


def on_sigterm() -> threading.Event:
    """An event that SIGTERM sets from now on, until the process ends; to be called in the main thread.

    Python runs a signal's handler in the main thread, between two instructions.  One that comes while that thread is on
    its way into a wait without an end, or that another thread receives, is not handled before the wait is over; and a
    handler that sets an event may find the main thread holding that event's lock.  The byte that the interpreter writes
    for every signal comes at once, and a thread that waits for it can set what it likes.
    """
    received, sent = os.pipe()
    os.set_blocking(sent, False)
    stop = threading.Event()

    def listen() -> None:
        # For ever: the number of a closed pipe may become that of another file, and the interpreter would write there.
        while True:
            if signal.SIGTERM in os.read(received, 1):
                stop.set()

    # Without a handler of Python's, SIGTERM ends the process.
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    signal.set_wakeup_fd(sent)
    threading.Thread(target=listen, name="sigterm", daemon=True).start()
    return stop
