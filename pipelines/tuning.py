"""A search for training settings from end to end: a log as it was known at a moment, trials, and a configuration."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from components.backtest import Prepared, known_at, prepare, spans, split_fold
from components.devices import strategy_for_this_machine, use_logical_cpus
from components.training.checkpoint import digest
from components.training.config import TrainingConfig
from components.training.fit import AVERAGE_PRECISION, fit
from components.tuning.search import AfterEpoch, TriedSettings, as_mapping, best, kept_study, search, tried
from pipelines.backtest import features_of, transactions_of
from pipelines.config import RunConfig
from pipelines.workspace import Workspace
from schemas.errors import ConfigurationError, LogError
from schemas.sources import SourceMapping
from schemas.transaction import LABEL, SECOND_US

_SPLITS = ("train", "validation")


@dataclass(frozen=True)
class Tuning:
    """What a search came to.

    Attributes:
        study: its name in the workspace's database.
        rows, frauds: of each split that it looked at.
        trials: those of earlier calls included.
        best: of them.
        searched: names of the settings that were searched.
        out: the configuration that was written.
    """

    study: str
    rows: dict[str, int]
    frauds: dict[str, int]
    trials: tuple[TriedSettings, ...]
    best: TriedSettings
    searched: tuple[str, ...]
    out: Path

    def fields(self) -> dict[str, Any]:
        """The object that `fraudops tune --json` prints."""
        return {
            "study": self.study,
            "average_precision": self.best.average_precision,
            "best": self.best.number,
            "training": as_mapping(self.best.settings),
            "rows": self.rows,
            "frauds": self.frauds,
            "trials": [{**asdict(trial), "settings": as_mapping(trial.settings)} for trial in self.trials],
            "out": self.out,
        }


def tune(
    mapping: SourceMapping,
    log: Path,
    at: datetime,
    config: RunConfig,
    trials: int,
    timeout_s: float | None,
    workspace: Workspace,
    keep: dict[str, Any],
    out: Path,
    now_s: Callable[[], float],
    say: Callable[[str], None],
) -> Tuning:
    """Searches the settings that rank best what was known last at a moment, and writes them.

    Trials train on the training rows of `components.backtest.spans` before the moment, and are judged by average
    precision on its validation rows.  Features and transform graph are made once for all of them.

    Args:
        mapping: of the log.
        log: the transaction log; what happened or became known behind the moment is not looked at.
        at: the moment.
        config: the choices; `training`, `tuning` and `backtest` count.
        trials: in all, with those that the workspace keeps of the same rows and choices.
        timeout_s: seconds from now behind which no epoch begins; None for none.
        workspace: keeps the trials and the card key, and scratch files while this runs.
        keep: sections of a configuration that go into the written one beside `training`.
        out: YAML for it; replaced in one step.
        now_s: a clock that only goes forward.
        say: is told what is being done.

    Raises:
        LogError: the log has too many bad rows, no labels, too few rows before the moment, or no frauds among them.
        ConfigurationError: the folder of `out` cannot be written, another search holds the workspace, or no trial
            came to its end.
    """
    ends_s = None if timeout_s is None else now_s() + timeout_s
    if not os.access(out.parent, os.W_OK):
        raise ConfigurationError(f"{out} cannot be written: there is no folder {out.parent}, or it cannot be written")
    with workspace.exclusive(work="search"):
        use_logical_cpus(config.training.logical_cpu_devices)
        rows = _prepare(mapping, log, at, config, workspace, say)
        strategy = strategy_for_this_machine()
        train, validation = (rows.arrays[name] for name in _SPLITS)

        def evaluate(settings: TrainingConfig, after_epoch: AfterEpoch) -> float:
            history = fit(
                train, validation, rows.shape, settings, strategy,
                on_epoch=lambda history: after_epoch(history[AVERAGE_PRECISION]),
            ).history  # fmt: skip
            return max(history[AVERAGE_PRECISION])

        made_of = digest(train, validation, rows.shape, config.training, strategy.num_replicas_in_sync)
        made_of = hashlib.sha256(json.dumps([made_of, asdict(config.tuning)], sort_keys=True).encode()).hexdigest()
        name = f"{mapping.source}-{at:%Y%m%dT%H%M%S}-{made_of[:16]}"
        with kept_study(workspace.studies, name, config.tuning) as study:
            if kept := len(tried(study, config.training)):
                say(f"going on behind {kept} trials that the workspace keeps of the same rows and choices")
            search(
                study, config.training, config.tuning, trials, evaluate,
                lambda: ends_s is not None and now_s() >= ends_s, lambda trial: say(_line(trial, trials)),
            )  # fmt: skip
            found = tuple(tried(study, config.training))
    winner = best(found)
    about = (
        f"# `training` is of trial {winner.number} of study {name}, the best of {len(found)} trials:\n"
        f"# average precision {winner.average_precision:.4f} on the last days that are known at {at.isoformat()}.\n"
    )
    _write(about + yaml.safe_dump({**keep, "training": as_mapping(winner.settings)}, sort_keys=False), out)
    counts = {split: len(rows.arrays[split][1]) for split in _SPLITS}
    frauds = {split: int(rows.arrays[split][1].sum()) for split in _SPLITS}
    return Tuning(name, counts, frauds, found, winner, tuple(config.tuning.space.searched()), out)


def _prepare(
    mapping: SourceMapping,
    log: Path,
    at: datetime,
    config: RunConfig,
    workspace: Workspace,
    say: Callable[[str], None],
) -> Prepared:
    """The training and validation rows before the moment, as a network reads them."""
    if LABEL not in mapping.provided:
        raise LogError(f"logs of source {mapping.source} have no labels (`{LABEL}`), and a search goes by them")
    at_us = round(at.timestamp() * SECOND_US)
    say(f"reading {log}")
    known = known_at(transactions_of(log, mapping, workspace), at_us)
    if not known.num_rows:
        raise LogError(f"{log} holds no transaction before {at:%Y-%m-%dT%H:%M:%S}; give a later moment")
    times_us = known["event_time"].cast(pa.int64())
    first_us, last_us = times_us[0].as_py(), times_us[-1].as_py()
    fold = split_fold(at_us, last_us, mapping.label_delay_s)
    of_fold = spans(first_us, fold, mapping.label_delay_s, config.backtest)
    with tempfile.TemporaryDirectory(dir=workspace.root, prefix="tune.") as folder:
        transactions = Path(folder) / "transactions.parquet"
        pq.write_table(known, transactions)
        del known, times_us
        features, spec = features_of(transactions, mapping, say)
        rows = prepare(features, spec, {name: of_fold[name] for name in _SPLITS}, Path(folder) / "scratch")
    for name in _SPLITS:
        labels = rows.arrays[name][1]
        if not labels.any():
            raise LogError(
                f"none of the {len(labels)} rows of the {name} span is a fraud, so that no setting is better than "
                "another; give a longer log, another moment or a longer backtest validation_s"
            )
        say(f"{name}: {len(labels):,} rows, {int(labels.sum()):,} frauds")
    return rows


def _line(trial: TriedSettings, trials: int) -> str:
    if trial.reason:
        return f"trial {trial.number} of {trials} ended early: {trial.reason}"
    ended = "ended early with" if trial.pruned else "came to"
    return f"trial {trial.number} of {trials} {ended} {trial.average_precision:.4f} after {len(trial.course)} epochs"


def _write(text: str, out: Path) -> None:
    unfinished = out.with_name(f".{out.name}.{os.getpid()}")
    unfinished.write_text(text, encoding="utf-8")
    os.replace(unfinished, out)
