"""The logs of the demonstration: what the models learn from, and the days after it, which come as live traffic."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from components import simulator
from components.ingest import ingest
from components.simulator.warehouse import archived
from schemas import sources

SOURCE = "simulated"
CARDS, DAYS, SEED = 4_000, 60, 1
# Far more than any demonstration takes: the live log must not end before it does.
LIVE_DAYS = 30


def training_log(folder: Path) -> tuple[Path, pa.Table]:
    """Writes the log of the past, and gives it with its file."""
    log = simulator.simulate(CARDS, DAYS, SEED)
    file = folder / "transactions.parquet"
    simulator.write(log, file)
    return file, log


def warehouse_copy(training: Path, log: pa.Table) -> Path:
    """Writes, beside the training log, what a data warehouse has kept of it.

    Args:
        training: file of the training log.
        log: what is in it.
    """
    transactions = ingest(training, sources.load(SOURCE), None).transactions
    file = training.with_name("warehouse.parquet")
    simulator.write(archived(log, transactions), file)
    return file


def live_log(file: Path, answered: Collection[str]) -> None:
    """Writes the days of the same world that follow, from where an earlier demonstration was stopped.

    Without a gap: cards that had not paid for weeks would look as if they had changed hands.

    Args:
        file: to write.
        answered: ids of the transactions that were decided already.
    """
    log = simulator.simulate(CARDS, LIVE_DAYS, SEED, simulator.START + timedelta(days=DAYS))
    known = pa.array(answered, pa.string())
    simulator.write(log.filter(pc.invert(pc.is_in(log["transaction_id"], known))), file)
