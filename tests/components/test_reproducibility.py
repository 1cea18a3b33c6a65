"""The same log gives the same examples, byte for byte, wherever they are made and however the log lies on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.examples import write_examples
from components.features import build_feature_table
from components.ingest import ingest
from components.simulator import simulate, write
from components.volumes import COLUMNS, count
from schemas import sources
from schemas.digests import directory_digest, file_digest
from schemas.features import specify
from tests.components.tiny import SPLITS

MAPPING = sources.load("simulated")
SPEC = specify(MAPPING.provided)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("log") / "log.parquet"
    write(simulate(cards=60, days=45, seed=3), path)
    return path


@pytest.fixture(scope="module")
def first(log: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return made(log, tmp_path_factory.mktemp("first"), batch_rows=1_000)


def made(log: Path, folder: Path, batch_rows: int) -> dict[str, str]:
    """Takes a log as far as examples below a folder, as the steps do; gives a digest of each thing that came of it."""
    read = ingest(log, MAPPING, None)
    pq.write_table(read.transactions, folder / "transactions.parquet", compression="zstd")
    build_feature_table(folder / "transactions.parquet", folder / "features.parquet", SPEC)
    batches = pq.ParquetFile(folder / "features.parquet").iter_batches(batch_rows)
    write_examples(folder / "examples", read.transactions, batches, SPEC, SPLITS, MAPPING.label_delay_s)
    counted = count(read.transactions.select(COLUMNS).to_batches(batch_rows), MAPPING.label_delay_s)
    (folder / "volumes.json").write_text(counted.to_json())
    return {name: file_digest(folder / name) for name in ("transactions.parquet", "volumes.json")} | {
        "examples": directory_digest(folder / "examples")
    }


def test_another_workspace_gives_the_same_bytes(log: Path, first: dict[str, str], tmp_path: Path) -> None:
    assert made(log, tmp_path, batch_rows=1_000) == first


def test_neither_the_files_of_a_log_nor_the_order_of_its_rows_nor_batches_change_a_byte(
    log: Path, first: dict[str, str], tmp_path: Path
) -> None:
    table = pq.read_table(log)
    mixed = table.take(pa.array(np.random.default_rng(7).permutation(table.num_rows)))
    (tmp_path / "days").mkdir()
    for number, start in enumerate(range(0, table.num_rows, 1_501)):
        pq.write_table(mixed.slice(start, 1_501), tmp_path / "days" / f"{number:03}.parquet")
    assert made(tmp_path / "days", tmp_path, batch_rows=777) == first


def test_another_log_gives_other_examples(log: Path, first: dict[str, str], tmp_path: Path) -> None:
    table = pq.read_table(log)
    pq.write_table(table.slice(0, table.num_rows - 1), tmp_path / "log.parquet")
    shorter = made(tmp_path / "log.parquet", tmp_path, batch_rows=1_000)
    assert all(shorter[name] != digest for name, digest in first.items())
