import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from components.features import build_feature_table
from components.features.compare import compare
from components.ingest import ingest
from components.simulator import simulate
from schemas import sources
from schemas.features import specify
from schemas.transaction import COLUMN
from tests.components.features.flink.build import PARTITION_ROWS
from tests.components.features.flink.jobserver import Unavailable, job_server_jar

_ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def job_server(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return job_server_jar(tmp_path_factory.mktemp("flink"))
    except Unavailable as reason:
        pytest.skip(f"Flink cannot be started: {reason}")


def built_on_flink(log: Path, out: Path, job_server: Path, report: Path) -> None:
    """Builds a feature table on a cluster that Beam starts, and sees to it that nothing of it is left."""
    options = ("--runner=FlinkRunner", f"--flink_job_server_jar={job_server}", "--parallelism=2")
    module = "tests.components.features.flink.build"
    # Python, the job server and the cluster within it share a group of processes, and workers are threads of Python.
    command = [sys.executable, "-m", module, str(log), str(out), *options, "--environment_type=LOOPBACK"]
    with report.open("wb") as said:
        process = subprocess.Popen(command, cwd=_ROOT, stdout=said, stderr=said, start_new_session=True)
    try:
        assert process.wait(timeout=300) == 0, report.read_text()[-5_000:]
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_flink_gives_what_one_process_gives_row_by_row(job_server: Path, tmp_path: Path) -> None:
    spec = specify(COLUMN)
    mapping = sources.load("simulated")
    pq.write_table(simulate(cards=450, days=55, seed=5), tmp_path / "simulated.parquet")
    transactions = ingest(tmp_path / "simulated.parquet", mapping, None).transactions
    assert transactions.num_rows > PARTITION_ROWS
    log, on_flink, here = (tmp_path / f"{name}.parquet" for name in ("log", "flink", "here"))
    pq.write_table(transactions, log)

    built_on_flink(log, on_flink, job_server, tmp_path / "said")
    build_feature_table(log, here, spec, ("is_fraud",), partition_rows=PARTITION_ROWS)

    found = compare(pq.read_table(on_flink), pq.read_table(here))
    assert found.agree, found
    assert found.rows == transactions.num_rows
