"""One truth about features at scale: the oracle, the batch engine and a replay through the embedded store agree."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.features import build_feature_table
from components.features.compare import compare
from pipelines.benchmarks.logs import read, simulated
from pipelines.replay import write_replay
from schemas.features import FEATURES, specify
from schemas.sources import SourceMapping
from serving.features import EmbeddedStore
from tests import oracle

pytestmark = pytest.mark.slow

HANDBOOK_ROWS = 200_000


def check(transactions: pa.Table, mapping: SourceMapping, folder: Path) -> None:
    spec = specify(mapping.provided)
    pq.write_table(transactions, folder / "log.parquet")
    assert build_feature_table(folder / "log.parquet", folder / "batch.parquet", spec) == transactions.num_rows
    write_replay(transactions, folder / "online.parquet", spec, EmbeddedStore(folder / "store"))
    truth = oracle.features(transactions, spec)
    for way in ("batch", "online"):
        difference = compare(truth, pq.read_table(folder / f"{way}.parquet"))
        assert difference.rows == transactions.num_rows
        assert difference.agree, (way, difference)


def test_all_three_agree_on_half_a_year_with_every_column(tmp_path: Path) -> None:
    transactions, mapping = simulated(5_000)
    assert specify(mapping.provided).features == FEATURES
    check(transactions, mapping, tmp_path)


# The oracle and the replay take minutes each.
@pytest.mark.timeout(7_200)
def test_all_three_agree_on_the_head_of_the_handbook_log(handbook_log: Path, tmp_path: Path) -> None:
    transactions, mapping = read(handbook_log, "handbook", HANDBOOK_ROWS)
    assert transactions.num_rows == HANDBOOK_ROWS
    check(transactions, mapping, tmp_path)
