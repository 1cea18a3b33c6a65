"""Faults planted into the newest week of a log, on their way through the pipeline to its gate, beside a champion."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from tfx.dsl.components.common.resolver import ResolverStrategy

from components import simulator
from components.gate import Verdict
from components.ingest import log_digest
from components.profiles.findings import Finding
from components.report import read_drift
from components.splits import SplitConfig
from components.steps.artifacts import DriftResult
from pipelines import training
from pipelines.config import RunConfig
from pipelines.quiet import quiet
from pipelines.run import verdict_of
from pipelines.runner import CompiledRun, run_all
from pipelines.services import Services
from pipelines.training import TrainingRun, build_pipeline
from pipelines.workspace import Workspace
from schemas import sources
from schemas.transaction import LABEL
from tests.planted import (
    DAY_US,
    Plant,
    a_day_twice,
    a_fifth_more_cards,
    a_new_country,
    a_stuck_device,
    another_time_zone,
    no_cash_machines,
    nulls_in_one_column,
    put,
    three_times_the_frauds,
    times_us,
)

pytestmark = pytest.mark.slow

SOURCE = "simulated"
MAPPING = sources.load(SOURCE)
# The champion has learnt from nine weeks.  Four weeks later the newest of which labels are due is compared with them.
SPLITS = SplitConfig(warm_up_s=30 * 86_400, validation_share=0.05, test_share=0.05)
CHAMPION_DAYS, DAYS = 110, 138
FAULTY_FROM_DAY = DAYS - MAPPING.label_delay_s // 86_400 - 7


class FirstRun(ResolverStrategy):
    """Of all that the pipeline has made so far the first: that of the run which stands for the champion's."""

    def __init__(self, **_: object) -> None:
        pass

    def resolve_artifacts(self, store, input_dict):
        return {name: sorted(ones, key=lambda one: one.id)[:1] for name, ones in input_dict.items()}


class Judged(NamedTuple):
    """What the last gate said that was reached, and what drift found."""

    verdict: Verdict
    findings: tuple[Finding, ...]


class Gate:
    """The pipeline up to its gate, in one workspace."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._workspace = Workspace.at(folder / "workspace")
        self._log = simulator.simulate(cards=2_000, days=DAYS, seed=5)
        self._begin_us = int(times_us(self._log)[0]) // DAY_US * DAY_US

    def learn(self) -> Judged:
        """The run of the champion, on what came before the last four weeks."""
        return self._run("champion", self._log.filter(pa.array(self._day() < CHAMPION_DAYS)))

    def judge(self, plant: Plant) -> Judged:
        return self._run(plant.__name__, plant(self._log, self._day() >= FAULTY_FROM_DAY))

    def _day(self) -> np.ndarray:
        return (times_us(self._log) - self._begin_us) // DAY_US

    def _run(self, name: str, log: pa.Table) -> Judged:
        file = self._folder / f"{name}.parquet"
        pq.write_table(log, file)
        services = Services.embedded(self._workspace)
        config = RunConfig(splits=SPLITS)
        run = TrainingRun(SOURCE, MAPPING, file, log_digest(file), self._workspace, services, config)
        with quiet():
            compiled = CompiledRun.of(build_pipeline(run, "gate"), name)
            steps = run_all(compiled, services.metadata.connection(), lambda _: None)
        verdict = verdict_of("gate", steps) or verdict_of("ingest", steps)
        assert verdict is not None
        drift = steps["drift"].outputs.get("result")
        return Judged(verdict, read_drift(drift / DriftResult.FILE).findings if drift else ())


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory):
    made = Gate(tmp_path_factory.mktemp("planted"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "ChampionStrategy", FirstRun)
        first = made.learn().verdict
        assert first.passed and "baseline" in {reason.subject for reason in first.reasons}
        yield made


def amounts_times_100(log: pa.Table, late: np.ndarray) -> pa.Table:
    return put(log, amount_minor=pa.array(log["amount_minor"].to_numpy() * np.where(late, 100, 1)))


def a_column_that_equals_the_label(log: pa.Table, late: np.ndarray) -> pa.Table:
    answer = pc.if_else(log[LABEL].combine_chunks().fill_null(False), "disputed", "fine")
    return put(log, merchant_category=pc.if_else(pa.array(late), answer, log["merchant_category"].combine_chunks()))


def three_times_the_frauds_online(log: pa.Table, late: np.ndarray) -> pa.Table:
    return three_times_the_frauds(log, late, "online")


def a_renamed_column(log: pa.Table, _late: np.ndarray) -> pa.Table:
    return log.rename_columns(["merchant" if name == "merchant_id" else name for name in log.column_names])


def reordered_columns(log: pa.Table, _late: np.ndarray) -> pa.Table:
    return log.select(log.column_names[::-1])


def nothing(log: pa.Table, _late: np.ndarray) -> pa.Table:
    return log


class Expected(NamedTuple):
    check: str
    subject: str
    severity: str
    words: tuple[str, ...]
    segment: str = ""


PLANTED: dict[Plant, Expected] = {
    a_renamed_column: Expected("ingest", "columns", "stop", ("merchant_id",)),
    amounts_times_100: Expected("drift", "amount_base_minor", "stop", ("another unit?", "median")),
    another_time_zone: Expected("drift", "event_time", "stop", ("+5 h", "time zone")),
    a_day_twice: Expected("drift", "event_time", "stop", ("day in the log twice?",)),
    a_column_that_equals_the_label: Expected("drift", "merchant_category", "stop", ("label follows",)),
    a_new_country: Expected("drift", "country", "warn", ("new value 'BR'",)),
    no_cash_machines: Expected("drift", "channel", "warn", ("'atm'", "vanished")),
    a_stuck_device: Expected("drift", "device_id", "warn", ("'0000'", "stuck")),
    three_times_the_frauds_online: Expected("drift", LABEL, "warn", ("share of frauds",), "channel=online"),
    nulls_in_one_column: Expected("drift", "merchant_category", "warn", ("missing share",)),
}


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_a_planted_fault_is_named_by_its_check_with_the_right_verdict(gate: Gate, plant: Plant) -> None:
    expected = PLANTED[plant]
    verdict, findings = gate.judge(plant)
    named = [
        reason
        for reason in verdict.reasons
        if (reason.check, reason.subject) == expected[:2] and all(word in reason.message for word in expected.words)
    ]
    assert [reason.severity for reason in named] == [expected.severity], verdict.reasons
    assert verdict.passed == (expected.severity == "warn"), [r for r in verdict.reasons if r.severity == "stop"]
    if expected.segment:
        assert (expected.subject, expected.segment) in {(found.feature, found.segment) for found in findings}


@pytest.mark.parametrize("plant", [nothing, reordered_columns, a_fifth_more_cards], ids=lambda plant: plant.__name__)
def test_what_is_no_fault_passes(gate: Gate, plant: Callable[..., pa.Table]) -> None:
    verdict, _ = gate.judge(plant)
    assert verdict.passed
    assert {reason.subject for reason in verdict.reasons}.isdisjoint({"rows", LABEL, "event_time"})
