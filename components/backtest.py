"""Backtests: which rows of a log a model may learn from at a moment of the past, and which it is then asked about."""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from components.examples import to_examples, write_split
from components.features import to_float32
from components.transform_graph import write_transform_graph
from schemas.errors import ConfigurationError, LogError
from schemas.features import FeatureSpec
from schemas.transaction import DAY_S, LABEL, SECOND_US

if TYPE_CHECKING:
    from components.model import Shape
    from components.training.config import TrainingConfig
    from components.training.fit import Rows

# Prequential validation as the Fraud Detection Handbook (Le Borgne et al., 2022, chapter 5) does it on its own log:
# four folds a week apart, counted back; a week without labels between training and test.
_HANDBOOK_FOLDS, _HANDBOOK_LAST_TRAINING_DAY = 4, 136
_WEEK_DAYS = 7


@dataclass(frozen=True)
class Fold:
    """One moment at which a model is trained; instants in UTC microseconds.

    Attributes:
        number: from 0.
        train_before_us: transactions before it may be learnt from, as their labels are known at `score_from_us`.
        score_from_us: transactions from then on are scored ...
        score_before_us: ... up to there.
    """

    number: int
    train_before_us: int
    score_from_us: int
    score_before_us: int


def handbook_folds(first_us: int) -> tuple[Fold, ...]:
    """The Handbook's folds, by whole days from that of the log's first transaction.

    With d = 136 - 7 k, fold k trains on days before d + 7 and scores the days d + 14 to d + 20.

    Args:
        first_us: event time of the log's first transaction.
    """
    day_us = DAY_S * SECOND_US
    begin_us = first_us // day_us * day_us
    starts = (_HANDBOOK_LAST_TRAINING_DAY - _WEEK_DAYS * number for number in range(_HANDBOOK_FOLDS))
    return tuple(
        Fold(number, *(begin_us + (start + weeks * _WEEK_DAYS) * day_us for weeks in (1, 2, 3)))
        for number, start in enumerate(starts)
    )


def split_fold(at_us: int, last_us: int, label_delay_s: int) -> Fold:
    """One fold: what happens from a moment on is scored by a model that has the labels known by then.

    Args:
        at_us: the moment.
        last_us: event time of the log's last transaction.
        label_delay_s: the longest time after which a label is known.
    """
    # A label that is due at the very moment is known.
    return Fold(0, at_us - label_delay_s * SECOND_US + 1, at_us, last_us + 1)


@dataclass(frozen=True)
class BacktestConfig:
    """How each fold's rows are used.

    Attributes:
        warm_up_s: seconds at the head of the log that only fill windows.  Fewer than the longest window has: rows whose
            windows are filled in part teach more than they mislead.
        validation_s: the last seconds before `train_before_us`, on which training is stopped.
        refit: train again on all rows, those of validation and the gap before it too, for as many epochs.
    """

    warm_up_s: int = 10 * DAY_S
    validation_s: int = 7 * DAY_S
    refit: bool = True

    def __post_init__(self) -> None:
        if self.warm_up_s < 0 or self.validation_s < 1:
            raise ConfigurationError(
                f"backtest warm_up_s {self.warm_up_s} and validation_s {self.validation_s} must be 0 or more, and 1 or "
                "more"
            )


def spans(first_us: int, fold: Fold, label_delay_s: int, config: BacktestConfig) -> dict[str, tuple[int, int]]:
    """When the rows of a fold happen: from the first instant of each span to before the second, in UTC microseconds.

    `train` and `validation` are one label delay apart, as training and what is scored are; `gap` lies between them.
    `test` is what is scored.

    Args:
        first_us: event time of the log's first transaction.
        fold: the moment.
        label_delay_s: the longest time after which a label is known.
        config: how.

    Raises:
        LogError: nothing is left to train on.
    """
    begin = first_us + config.warm_up_s * SECOND_US
    validation = fold.train_before_us - config.validation_s * SECOND_US
    gap = validation - label_delay_s * SECOND_US
    if gap <= begin:
        raise LogError(
            f"fold {fold.number} has nothing to train on: {config.warm_up_s / DAY_S:g} days of warm-up, "
            f"{label_delay_s / DAY_S:g} of label delay and {config.validation_s / DAY_S:g} of validation take all that "
            f"comes before {np.datetime64(fold.train_before_us, 'us')}; give a longer log or a later moment"
        )
    return {
        "train": (begin, gap),
        "gap": (gap, validation),
        "validation": (validation, fold.train_before_us),
        "test": (fold.score_from_us, fold.score_before_us),
    }


def known_at(transactions: pa.Table, at_us: int) -> pa.Table:
    """What is known of transactions at a moment: those before it, without labels that came behind it.

    Args:
        transactions: canonical.
        at_us: UTC microseconds.
    """
    at = pa.scalar(at_us, pa.timestamp("us", "UTC"))
    before = transactions.filter(pc.field("event_time") < at)
    # A label without a time is none; one that is due at the very moment is known.
    known = pc.less_equal(before["label_time"], at).fill_null(False)
    for name in (LABEL, "label_time"):
        values = pc.if_else(known, before[name], pa.scalar(None, before[name].type))
        before = before.set_column(before.column_names.index(name), before.schema.field(name), values)
    return before


@dataclass(frozen=True)
class Prepared:
    """The rows of some spans, by the spans' names.

    Attributes:
        tables: `transaction_id`, `event_time`, the label and the features of each row.
        arrays: what a network reads of them, inputs by name, and labels float32 `[rows]`; spans without rows are
            missing.
        shape: of that network.
    """

    tables: Mapping[str, pa.Table]
    arrays: Mapping[str, Rows]
    shape: Shape


def prepare(features: Path, spec: FeatureSpec, of_spans: Mapping[str, tuple[int, int]], scratch: Path) -> Prepared:
    """Reads the rows of spans, and applies to all the transform graph that is learnt from `train`.

    Args:
        features: file of `build_feature_table` with the label carried.
        spec: of these features.
        of_spans: see `spans`.  Of all but `test`, rows without a label are left out.
        scratch: an empty folder for examples and the transform graph; whoever made it removes it.

    Raises:
        LogError: a span other than `gap` has no rows.
    """
    import tensorflow_transform as tft

    from components.trainer import network_shape, transform_split

    tables = {}
    for name, span in of_spans.items():
        rows = tables[name] = _read(features, span, labelled=name != "test")
        if not rows.num_rows and name != "gap":
            raise LogError(f"no row {'with a label ' if name != 'test' else ''}lies in the {name} span {_text(span)}")
        labels = rows[LABEL].fill_null(False)
        computed = to_float32(rows).set_column(rows.column_names.index(LABEL), LABEL, labels)
        write_split(scratch / "examples", name, to_examples(computed, spec), rows.select(_KEYS))
    write_transform_graph(scratch / "examples", "train", spec, scratch / "graph")
    graph = tft.TFTransformOutput(str(scratch / "graph"))
    arrays = {
        name: transform_split(scratch / "examples", name, spec, graph) for name in tables if tables[name].num_rows
    }
    return Prepared(tables, arrays, network_shape(arrays["train"][0], spec, graph))


def run_fold(
    features: Path,
    spec: FeatureSpec,
    of_fold: Mapping[str, tuple[int, int]],
    config: BacktestConfig,
    training: TrainingConfig,
    scratch: Path,
) -> pa.Table:
    """Trains on a fold's rows, and scores those of its test span.

    Args:
        features: file of `build_feature_table` with the label carried.
        spec: of these features.
        of_fold: see `spans`.
        config, training: how.
        scratch: an empty folder for examples and the transform graph; whoever made it removes it.

    Returns:
        `transaction_id`, `event_time`, `is_fraud` and `score`, in order.

    Raises:
        LogError: a span has no rows with a label, or training has no frauds.
    """
    from components.devices import strategy_for_this_machine
    from components.model import network_inputs
    from components.training.fit import fit, refit

    rows = prepare(features, spec, of_fold, scratch)
    arrays, strategy = rows.arrays, strategy_for_this_machine()
    trained = fit(arrays["train"], arrays["validation"], rows.shape, training, strategy)
    if config.refit:
        # A training leaves cycles behind that hold a copy of its rows, a gigabyte of a million.
        gc.collect()
        every = _together([arrays[name] for name in ("train", "gap", "validation") if name in arrays])
        trained = refit(every, rows.shape, training, strategy, trained)
    gc.collect()
    scores = trained.probabilities(network_inputs(arrays["test"][0], rows.shape))
    return rows.tables["test"].select([*_KEYS, LABEL]).append_column("score", pa.array(scores, pa.float64()))


_KEYS = ["transaction_id", "event_time"]


def _read(features: Path, span: tuple[int, int], labelled: bool) -> pa.Table:
    begin, end = (pa.scalar(us, pa.timestamp("us", "UTC")) for us in span)
    within = (pc.field("event_time") >= begin) & (pc.field("event_time") < end)
    return pq.read_table(features, filters=within & pc.field(LABEL).is_valid() if labelled else within)


def _together(
    parts: Sequence[tuple[Mapping[str, np.ndarray], np.ndarray]],
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Arrays of several spans, `(inputs by name, labels)` each, one behind the other."""
    inputs = {name: np.concatenate([arrays[name] for arrays, _ in parts]) for name in parts[0][0]}
    return inputs, np.concatenate([labels for _, labels in parts])


def _text(span: tuple[int, int]) -> str:
    return " to ".join(str(np.datetime64(us, "s")) for us in (span[0] // SECOND_US, span[1] // SECOND_US))
