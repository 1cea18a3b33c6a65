"""Keeps the chatter of TensorFlow, TFX and their friends off the terminal while a pipeline runs."""

from __future__ import annotations

import importlib
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LOGGERS = ("tensorflow", "apache_beam", "great_expectations", "mlflow", "alembic", "root")


@contextmanager
def quiet() -> Iterator[None]:
    """Shows errors only; read by TensorFlow's C++ when it is loaded, so enter before importing it."""
    # Without NVIDIA's driver TensorFlow logs its absence as an error, each time.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2" if Path("/proc/driver/nvidia").exists() else "3")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    _import_tensorflow()
    # By absl's own setting: TensorFlow turns it down and back up while it saves, and restores absl's.
    from absl import logging as absl_logging

    verbosity = absl_logging.get_verbosity()
    absl_logging.set_verbosity(absl_logging.ERROR)
    levels = {name: logging.getLogger(name).level for name in _LOGGERS}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in _LOGGERS:
            logging.getLogger(name).setLevel(logging.ERROR)
        try:
            yield
        finally:
            absl_logging.set_verbosity(verbosity)
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)


def _import_tensorflow() -> None:
    """Keeps back what its C++ remarks on standard error before it reads any setting; a failed import shows it."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as remarks, os.fdopen(os.dup(2), "wb") as terminal:
        os.dup2(remarks.fileno(), 2)
        try:
            importlib.import_module("tensorflow")
        except BaseException:
            remarks.seek(0)
            terminal.write(remarks.read())
            raise
        finally:
            os.dup2(terminal.fileno(), 2)
