"""The kernels compute the same without their compiler, as where numba has none for the machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from components.features.compare import compare
from components.features.engine import compute_features
from components.ingest import ingest
from components.simulator import simulate
from schemas import sources
from tests.components.features.test_engine import EVERYTHING, UNUSUAL

_ROOT = Path(__file__).parents[3]
_UNCOMPILED = """
import sys
import numba
import pyarrow.parquet as pq
from components.features.engine import compute_features
from components.features import kernels
from tests.components.features.test_engine import EVERYTHING, UNUSUAL

assert not hasattr(kernels.recent, "signatures"), "compiled after all"
log = pq.read_table(sys.argv[1])
for spec, out in zip((EVERYTHING, UNUSUAL), sys.argv[2:]):
    pq.write_table(compute_features(log, spec), out)
"""


def test_without_compilation_the_features_are_the_same(tmp_path: Path) -> None:
    pq.write_table(simulate(cards=8, days=40, seed=9), tmp_path / "simulated.parquet")
    log = ingest(tmp_path / "simulated.parquet", sources.load("simulated"), None).transactions
    # Amounts whose squares need both halves of the wide sums.
    large = pa.array([amount * 10**7 for amount in log["amount_minor"].to_pylist()], pa.int64())
    log = log.set_column(log.column_names.index("amount_minor"), "amount_minor", large)
    pq.write_table(log, tmp_path / "log.parquet")
    out = [tmp_path / "declared.parquet", tmp_path / "unusual.parquet"]
    subprocess.run(
        [sys.executable, "-c", _UNCOMPILED, tmp_path / "log.parquet", *out],
        cwd=_ROOT,
        env={**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONWARNINGS": "ignore:overflow:RuntimeWarning"},
        check=True,
        timeout=300,
    )
    for spec, path in zip((EVERYTHING, UNUSUAL), out, strict=True):
        found = compare(pq.read_table(path), compute_features(log, spec))
        assert found.agree, found
        assert found.rows == log.num_rows > 500
