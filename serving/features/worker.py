"""The other side of `serving.features.process`: opens the store it is told of, and works on it until told no more."""

from __future__ import annotations

import gc
import signal
import sys
from contextlib import closing
from multiprocessing.connection import Connection
from typing import Any

from schemas.features import FeatureSpec
from serving.features.store import TableFeatureStore


def serve(connection: Connection) -> None:
    """Answers (True, result) or (False, exception) to each (method, arguments), until the other side is gone.

    The first message is the store's: its address, the JSON of its specification and its lateness; the answer to it says
    whether it is open.
    """
    try:
        address, spec, lateness_s = connection.recv()
        try:
            store = address.open(FeatureSpec.from_json(spec), lateness_s)
        except Exception as error:
            connection.send((False, error))
            return
        connection.send((True, None))
        # What is there by now stays; the collector need not look through it any more.
        gc.freeze()
        with closing(store), address.upkeep():
            while True:
                method, arguments = connection.recv()
                connection.send(_answer(store, method, arguments))
    except (EOFError, OSError):
        return


def _answer(store: TableFeatureStore, method: str, arguments: tuple[Any, ...]) -> tuple[bool, Any]:
    try:
        return True, getattr(store, method)(*arguments)
    except Exception as error:  # whatever it is, it is the caller's to handle
        return False, error


if __name__ == "__main__":
    # Who stops a whole group of processes means the one that answers; this one ends when that does, and not before.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    with Connection(int(sys.argv[1])) as inherited:
        serve(inherited)
