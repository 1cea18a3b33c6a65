"""Up to where the labels of logs have come to a store, and when: so that each comes once, and others can tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from schemas.errors import ConfigurationError
from serving.features.encoding import decode, encode

# Labels of logs come in the order of their (label_time, transaction_id).
Place = tuple[int, str]


@dataclass(frozen=True)
class Labelled:
    """The labels that came in one run.

    Attributes:
        last: labels up to this place came by then, and those behind the place of the run before in this one.
        began_us: none of them came before this time, UTC microseconds since the Unix epoch; 0 for a load, which is
            before everything else.
        ended_us: when the last of them came.
    """

    last: Place
    began_us: int
    ended_us: int


def loaded_until(time_us: int) -> Labelled:
    """What a load leaves: all labels up to a time, that time included."""
    # No transaction has an empty id.
    return Labelled((time_us + 1, ""), 0, 0)


def last_place(runs: Sequence[Labelled]) -> Place:
    """The place up to which labels have come.

    Raises:
        ConfigurationError: there was not even a load.
    """
    if not runs:
        raise ConfigurationError(
            "the feature store does not say up to when labels are in: it began without a log, or an earlier version "
            "loaded it; load a new one with `fraudops features load`"
        )
    return runs[-1].last


def extended(runs: Sequence[Labelled], step: Labelled) -> list[Labelled]:
    """The runs with one more step; a step of the last run makes that one longer."""
    is_same = bool(runs) and runs[-1].began_us == step.began_us
    return [*(runs[:-1] if is_same else runs), step]


def pack(runs: Sequence[Labelled]) -> bytes:
    """The bytes that `unpack` reads."""
    return encode([[*run.last, run.began_us, run.ended_us] for run in runs])


def unpack(packed: bytes) -> list[Labelled]:
    """Reads back `pack`."""
    rows: list[Any] = decode(packed)
    return [Labelled((time_us, id_), began_us, ended_us) for time_us, id_, began_us, ended_us in rows]
