"""Backtests: what a model may learn from at a moment of the past, and that it learns from nothing else."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.backtest import BacktestConfig, Fold, handbook_folds, known_at, run_fold, spans, split_fold
from components.training.config import TrainingConfig
from schemas.errors import ConfigurationError, LogError
from schemas.transaction import DAY_S, LABEL, SECOND_US
from tests.components.tiny import ExampleSet

DAY_US = DAY_S * SECOND_US
BEGIN_US = int(datetime(2018, 4, 1, tzinfo=UTC).timestamp()) * SECOND_US


def days(us: int) -> float:
    return (us - BEGIN_US) / DAY_US


def test_the_handbooks_folds_are_counted_back_from_its_last_weeks() -> None:
    folds = handbook_folds(BEGIN_US + 31 * SECOND_US)
    assert [days(fold.train_before_us) for fold in folds] == [143, 136, 129, 122]
    assert [days(fold.score_from_us) for fold in folds] == [150, 143, 136, 129]
    assert [days(fold.score_before_us) for fold in folds] == [157, 150, 143, 136]


def test_at_a_moment_the_labels_that_are_due_by_then_are_known() -> None:
    fold = split_fold(BEGIN_US, BEGIN_US + DAY_US, label_delay_s=7 * DAY_S)
    assert fold.train_before_us == BEGIN_US - 7 * DAY_US + 1
    assert (fold.score_from_us, fold.score_before_us) == (BEGIN_US, BEGIN_US + DAY_US + 1)


def test_validation_is_as_far_from_training_as_what_is_scored() -> None:
    fold = handbook_folds(BEGIN_US)[3]
    found = spans(BEGIN_US, fold, 7 * DAY_S, BacktestConfig())
    assert {name: tuple(map(days, span)) for name, span in found.items()} == {
        "train": (10, 108),
        "gap": (108, 115),
        "validation": (115, 122),
        "test": (129, 136),
    }
    assert all(before[1] <= after[0] for before, after in pairwise(found.values()))


def test_a_log_that_is_too_short_is_refused_with_what_takes_its_days() -> None:
    with pytest.raises(LogError, match=r"10 days of warm-up, 7 of label delay and 7 of validation"):
        spans(BEGIN_US, Fold(0, BEGIN_US + 24 * DAY_US, BEGIN_US + 31 * DAY_US, BEGIN_US + 38 * DAY_US), 7 * DAY_S,
              BacktestConfig())  # fmt: skip


def test_a_configuration_without_validation_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="validation_s 0"):
        BacktestConfig(validation_s=0)


def test_of_what_a_moment_knows_labels_that_came_behind_it_are_no_part() -> None:
    times = {"event_time": [0, 1, 4, 5, 6], "label_time": [2, 6, 5, 7, 8]}
    log = pa.table({name: pa.array(us, pa.timestamp("us", "UTC")) for name, us in times.items()})
    log = log.append_column(LABEL, pa.array([True, True, False, False, True]))
    known = known_at(log, 5)
    assert known.schema == log.schema
    assert known["event_time"].cast(pa.int64()).to_pylist() == [0, 1, 4]
    assert known[LABEL].to_pylist() == [True, None, False]
    assert known["label_time"].cast(pa.int64()).to_pylist() == [2, None, 5]
    unlabelled = log.set_column(1, "label_time", pa.nulls(5, pa.timestamp("us", "UTC")))
    assert known_at(unlabelled, 5)[LABEL].to_pylist() == [None] * 3


CONFIG = BacktestConfig(warm_up_s=5 * DAY_S, validation_s=7 * DAY_S)
TRAINING = TrainingConfig(units=(16,), batch_size=256, epochs=2)


@pytest.fixture(scope="module")
def features(tiny_examples: ExampleSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Features of a log as `build_feature_table` writes them, with the label."""
    file = tmp_path_factory.mktemp("backtest") / "features.parquet"
    pq.write_table(tiny_examples.features.append_column(LABEL, tiny_examples.log[LABEL]), file)
    return file


@pytest.fixture(scope="module")
def of_fold(tiny_examples: ExampleSet) -> dict[str, tuple[int, int]]:
    first_us, last_us = (tiny_examples.log["event_time"][at].value for at in (0, -1))
    fold = split_fold(last_us - 5 * DAY_US, last_us, tiny_examples.label_delay_s)
    return spans(first_us, fold, tiny_examples.label_delay_s, CONFIG)


def scored(features: Path, examples: ExampleSet, of_fold: dict[str, tuple[int, int]], folder: Path) -> pa.Table:
    return run_fold(features, examples.spec, of_fold, CONFIG, TRAINING, folder)


def test_what_is_scored_is_every_row_of_the_span_and_nothing_later_changes_a_score(
    features: Path, tiny_examples: ExampleSet, of_fold: dict[str, tuple[int, int]], tmp_path: Path
) -> None:
    found = scored(features, tiny_examples, of_fold, tmp_path / "whole")
    time_us = tiny_examples.log["event_time"].cast(pa.int64()).to_numpy()
    within = (time_us >= of_fold["test"][0]) & (time_us < of_fold["test"][1])
    assert found["transaction_id"].to_pylist() == tiny_examples.log["transaction_id"].filter(within).to_pylist()
    assert ((found["score"].to_numpy() > 0) & (found["score"].to_numpy() < 1)).all()

    # Answers that come behind the training span must not have been read.
    table = pq.read_table(features)
    late = table["event_time"].cast(pa.int64()).to_numpy() >= of_fold["validation"][1]
    flipped = np.where(late, ~table[LABEL].to_numpy(zero_copy_only=False).astype(bool), table[LABEL])
    other = tmp_path / "flipped.parquet"
    pq.write_table(table.set_column(table.column_names.index(LABEL), LABEL, pa.array(flipped, pa.bool_())), other)
    again = scored(other, tiny_examples, of_fold, tmp_path / "again")
    np.testing.assert_array_equal(again["score"].to_numpy(), found["score"].to_numpy())


def test_a_span_without_labels_is_named(
    features: Path, tiny_examples: ExampleSet, of_fold: dict[str, tuple[int, int]], tmp_path: Path
) -> None:
    table = pq.read_table(features)
    unlabelled = tmp_path / "unlabelled.parquet"
    empty = pa.nulls(table.num_rows, pa.bool_())
    pq.write_table(table.set_column(table.column_names.index(LABEL), LABEL, empty), unlabelled)
    with pytest.raises(LogError, match="no row with a label lies in the train span"):
        scored(unlabelled, tiny_examples, of_fold, tmp_path / "scratch")
