"""Transactions to measure with: simulated ones, or the head of a log."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pyarrow as pa

from components import simulator
from components.ingest import excess, ingest
from schemas import sources
from schemas.errors import LogError
from schemas.keys import MIN_KEY_BYTES
from schemas.sources import SourceMapping
from schemas.tokens import CardKey

# As long as the Fraud Detection Handbook's log, so that a card has about as many transactions.
SPAN_DAYS = 183
SEED = 7
_ROWS_PER_CARD_AND_DAY = 1.8


def cards_for(rows: int) -> int:
    """How many cards make about so many transactions in `SPAN_DAYS` days."""
    return max(1, round(rows / (_ROWS_PER_CARD_AND_DAY * SPAN_DAYS)))


def simulated(rows: int) -> tuple[pa.Table, SourceMapping]:
    """About so many simulated transactions of `SPAN_DAYS` days, canonical, and their mapping."""
    with tempfile.TemporaryDirectory(prefix="fraudops-bench.") as folder:
        log = Path(folder) / "log.parquet"
        simulator.write(simulator.simulate(cards_for(rows), SPAN_DAYS, SEED), log)
        return read(log, "simulated", None)


def read(log: Path, source: str, rows: int | None) -> tuple[pa.Table, SourceMapping]:
    """The first rows of a log, or all of them, as canonical transactions, and its mapping.

    Raises:
        LogError: the log cannot be read, too many of its rows are bad, or none is good.
        MappingError: the mapping is malformed.
    """
    mapping = sources.load(source)
    # Tokens are forgotten with the process, and so may their key be.
    key = CardKey(1, os.urandom(MIN_KEY_BYTES)) if mapping.card_id_is == "number" else None
    result = ingest(log, mapping, key)
    if reason := excess(result.report, mapping):
        raise LogError(f"{log}: {reason}")
    if not result.transactions.num_rows:
        raise LogError(f"{log} has no good row; give a log that has some")
    return result.transactions.slice(0, rows), mapping
