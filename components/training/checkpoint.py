"""What an epoch leaves in a file, so that a training that is killed goes on behind it."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from absl import logging

from components.model import Shape
from components.training.config import TrainingConfig

_DIGEST, _HISTORY, _COUNT = "digest", "history", "count"
_LISTS = ("network", "optimizer", "best")


@dataclass(frozen=True)
class EpochState:
    """All that the next epoch depends on.

    Attributes:
        history: values of the epochs so far, by name; their number is also the place in the data.
        network: its variables, the states of dropout included.
        optimizer: its variables.
        best: weights of the best epoch so far.
    """

    history: dict[str, list[float]]
    network: list[np.ndarray]
    optimizer: list[np.ndarray]
    best: list[np.ndarray]


def digest(
    train: tuple[Mapping[str, np.ndarray], np.ndarray],
    validation: tuple[Mapping[str, np.ndarray], np.ndarray],
    shape: Shape,
    config: TrainingConfig,
    replicas: int,
) -> str:
    """What a state must have been made of to be gone on from: data, settings, replicas and TensorFlow's version."""
    settings = [asdict(config), asdict(shape), replicas, tf.__version__]
    found = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for inputs, labels in (train, validation):
        for name, values in (*sorted(inputs.items()), ("", labels)):
            found.update(f"{name}\0{values.shape}\0{values.dtype}\0".encode())
            found.update(np.ascontiguousarray(values).data)
    return found.hexdigest()


def write(path: Path, made_of: str, state: EpochState) -> None:
    """Puts a state in the place of the one before, at once: a reader finds the one or the other.

    Args:
        path: of the file; its folder is made where it is missing.
        made_of: see `digest`.
        state: to keep.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, np.ndarray] = {_DIGEST: np.array(made_of), _HISTORY: np.array(json.dumps(state.history))}
    for name in _LISTS:
        values: Sequence[np.ndarray] = getattr(state, name)
        arrays[f"{name}.{_COUNT}"] = np.array(len(values))
        arrays |= {f"{name}.{number}": value for number, value in enumerate(values)}
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    with fresh.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, path)


def read(path: Path, made_of: str) -> EpochState | None:
    """The state in a file; None where there is none, or one that something else was made of, which the log then says.

    Args:
        path: of the file.
        made_of: see `digest`.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            if str(arrays[_DIGEST]) != made_of:
                logging.info("%s is of other data or settings; training starts from the beginning", path)
                return None
            lists = {
                name: [arrays[f"{name}.{number}"] for number in range(int(arrays[f"{name}.{_COUNT}"]))]
                for name in _LISTS
            }
            state = EpochState(json.loads(str(arrays[_HISTORY])), **lists)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        logging.warning("%s cannot be read (%s); training starts from the beginning", path, error)
        return None
    return state


def remove(path: Path) -> None:
    """Removes the file, and its folder where nothing else is in it."""
    path.unlink(missing_ok=True)
    try:
        path.parent.rmdir()
    except OSError:
        return
