"""A search from end to end: what it leaves, what it never looks at, and what it refuses."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from components import simulator
from components.tuning.config import TuningConfig
from pipelines.config import RunConfig, load
from pipelines.tuning import Tuning, tune
from pipelines.workspace import Workspace
from schemas import sources
from schemas.errors import ConfigurationError, LogError
from tests.pipelines import dying_search
from tests.pipelines.dying_search import AT, CONFIG, EPOCHS

ROOT = Path(__file__).parents[2]


def searched(
    log: Path, folder: Path, trials: int = 2, at: datetime = AT, config: RunConfig = CONFIG, **other
) -> Tuning:
    arguments = {"timeout_s": None, "keep": {}, "out": folder / "training.yaml", "say": lambda line: None, **other}
    workspace = Workspace.at(folder / "workspace")
    mapping = sources.load("simulated")
    return tune(mapping, log, at, config, trials, workspace=workspace, now_s=lambda: 0.0, **arguments)


def outcome(found: Tuning) -> list[dict[str, object]]:
    """The trials, but for the time that they took."""
    return [asdict(replace(trial, seconds=0.0)) for trial in found.trials]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("tuning") / "log.parquet"
    simulator.write(simulator.simulate(cards=300, days=50, seed=2), file)
    return file


@pytest.fixture(scope="module")
def found(log: Path) -> Tuning:
    """A search of two trials, whose workspace lies beside the log."""
    return searched(log, log.parent, keep={"owner": "m.keller", "training": {"epochs": 9}})


def test_the_best_settings_are_a_configuration_with_all_else_that_was_configured(found):
    assert [trial.number for trial in found.trials] == [1, 2]
    assert found.trials[0].settings == CONFIG.training
    written = load(found.out)
    assert written.training == found.best.settings
    assert written.owner == "m.keller"
    assert found.best.average_precision == max(trial.average_precision or 0 for trial in found.trials)
    assert [path.name for path in found.out.parent.glob(".*")] == []
    assert not list((found.out.parent / "workspace").glob("tune.*")), "scratch files stay"


def test_what_is_told_names_each_trial_and_the_rows_that_it_was_judged_by(found):
    told = found.fields()
    assert told["training"]["units"] == list(found.best.settings.units)
    assert [len(trial["course"]) for trial in told["trials"]] == [EPOCHS, EPOCHS]
    assert all(0 < told["frauds"][split] < told["rows"][split] for split in ("train", "validation"))


@pytest.mark.parametrize(
    "wrong, error, said",
    [
        ({"out": Path("no/such/folder/training.yaml")}, ConfigurationError, "there is no folder no/such/folder"),
        ({"at": datetime(2023, 1, 1, tzinfo=UTC)}, LogError, "no transaction before 2023-01-01"),
        ({"at": AT - timedelta(days=20)}, LogError, "has nothing to train on: 10 days of warm-up"),
    ],
)
def test_what_cannot_be_searched_is_refused(log, tmp_path, wrong, error, said):
    with pytest.raises(error, match=said):
        searched(log, tmp_path, **wrong)


def test_logs_without_labels_are_refused(log, tmp_path):
    mapping = sources.load("simulated")
    blind = replace(mapping, columns={name: column for name, column in mapping.columns.items() if name != "is_fraud"})
    with pytest.raises(LogError, match="logs of source simulated have no labels"):
        tune(blind, log, AT, CONFIG, 1, None, Workspace.at(tmp_path), {}, tmp_path / "o.yaml", lambda: 0.0, print)


def test_one_search_holds_a_workspace_but_lets_runs_go_on(log, tmp_path):
    workspace = Workspace.at(tmp_path / "workspace")
    with (
        workspace.exclusive(),
        workspace.exclusive(work="search"),
        pytest.raises(ConfigurationError, match="another search is using workspace"),
    ):
        searched(log, tmp_path)


@pytest.mark.slow
def test_nothing_that_came_behind_the_moment_is_looked_at(log, found, tmp_path):
    table = pq.read_table(log)
    at = pa.scalar(AT, pa.timestamp("us", "UTC"))
    rng = np.random.default_rng(1)
    later = pc.greater(table["label_time"], at)
    turned = pc.if_else(later, pa.array(rng.random(table.num_rows) < 0.5), table["is_fraud"])
    changed = table.set_column(table.column_names.index("is_fraud"), "is_fraud", turned)
    pq.write_table(changed.slice(0, table.num_rows - 1_000), tmp_path / "log.parquet")
    lines: list[str] = []
    again = searched(tmp_path / "log.parquet", log.parent, out=tmp_path / "again.yaml", say=lines.append)
    assert again.study == found.study
    assert outcome(again) == outcome(found)
    assert any("going on behind 2 trials" in line for line in lines)


@pytest.mark.slow
def test_other_choices_or_another_moment_are_another_study(log, found, tmp_path):
    for other in ({"config": replace(CONFIG, tuning=TuningConfig(seed=8))}, {"at": AT - timedelta(hours=1)}):
        another = searched(log, log.parent, 1, out=tmp_path / "other.yaml", **other)
        assert another.study != found.study
        assert len(another.trials) == 1


@pytest.mark.slow
def test_days_without_frauds_to_judge_by_are_refused(log, tmp_path):
    table = pq.read_table(log)
    none = pa.array(np.zeros(table.num_rows, bool))
    early = pc.less(table["event_time"], pa.scalar(AT - timedelta(days=20), pa.timestamp("us", "UTC")))
    labels = pc.if_else(early, table["is_fraud"], none)
    pq.write_table(table.set_column(table.column_names.index("is_fraud"), "is_fraud", labels), tmp_path / "log.parquet")
    with pytest.raises(LogError, match="rows of the validation span is a fraud"):
        searched(tmp_path / "log.parquet", tmp_path)


@pytest.mark.slow
def test_a_search_that_is_killed_amid_a_trial_goes_on_with_those_before(log, tmp_path):
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    whole, folder = searched(log, tmp_path / "whole", 3), tmp_path / "killed"
    # When it begins, before the first trial, behind its epochs, before the second, behind its first epoch.
    dies_at = 1 + (1 + EPOCHS) + 1 + 1
    arguments = [log, folder / "workspace", folder / "training.yaml", 3, dies_at]
    program = [sys.executable, "-m", dying_search.__name__, *map(str, arguments)]
    ran = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=500, check=False)
    assert ran.returncode == -signal.SIGKILL, ran.stderr
    assert "trial 1 of 3" in ran.stdout and "trial 2 of 3" not in ran.stdout
    lines: list[str] = []
    found = searched(log, folder, 3, say=lines.append)
    assert [line.partition(" of")[0] for line in lines if line.startswith("trial")] == ["trial 2", "trial 3"]
    assert outcome(found) == outcome(whole)
    assert found.out.read_text() == whole.out.read_text()
