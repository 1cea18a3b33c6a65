"""One small log and one whole run of the pipeline, shared by the tests that look at it from different sides."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml

from components import simulator

# The floor is low because so few frauds say little; what the tests need is a run that takes every step.
SETTINGS = {
    "splits": {"warm_up_s": 20 * 86_400},
    "training": {"epochs": 6, "batch_size": 256, "learning_rate": 0.003},
    "evaluation": {"min_average_precision": 0.02},
}


@dataclass(frozen=True)
class Answer:
    """What one `fraudops` call came back with."""

    code: int
    fields: dict


@dataclass(frozen=True)
class Site:
    """A workspace, a log and a configuration, and how to run the pipeline on them."""

    folder: Path

    @property
    def log(self) -> Path:
        return self.folder / "log.parquet"

    @property
    def workspace(self) -> Path:
        return self.folder / "workspace"

    @property
    def settings(self) -> Path:
        return self.folder / "settings.yaml"

    def arguments(self, *more: str, source: str = "simulated", log: Path | None = None) -> list[str]:
        return [
            "run", "--source", source, "--log", str(log or self.log), "--workspace", str(self.workspace),
            "--config", str(self.settings), "--json", *more,
        ]  # fmt: skip


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A log of some 35,000 transactions, not yet run."""
    made = Site(tmp_path_factory.mktemp("site"))
    simulator.write(simulator.simulate(cards=400, days=50, seed=11), made.log)
    made.settings.write_text(yaml.safe_dump(SETTINGS), encoding="utf-8")
    return made


@pytest.fixture
def fraudops(capsys: pytest.CaptureFixture[str]) -> Callable[[list[str]], Answer]:
    """Calls the command line in this process: TensorFlow and TFX are imported once for all tests."""
    from pipelines.cli import main

    def call(arguments: list[str]) -> Answer:
        code = main(arguments)
        return Answer(code, json.loads(capsys.readouterr().out))

    return call


@pytest.fixture(scope="session")
def first_run(site: Site) -> Answer:
    """The whole pipeline on the log, the champion's seat still empty."""
    import contextlib
    import io

    from pipelines.cli import main

    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = main(site.arguments())
    return Answer(code, json.loads(out.getvalue()))


def changed_copy(log: Path, to: Path, change: Callable[[pa.Table], pa.Table]) -> Path:
    """The log with something done to its table."""
    pq.write_table(change(pq.read_table(log)), to)
    return to


def times_hundred(table: pa.Table) -> pa.Table:
    """All amounts a hundredfold, as when a source turns from cents to something else."""
    place = table.column_names.index("amount_minor")
    return table.set_column(place, "amount_minor", pc.multiply(table["amount_minor"], 100))
