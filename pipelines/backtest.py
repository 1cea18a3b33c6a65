"""A backtest from end to end: a log, its features, a model at each moment of a protocol, and a file of scores."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from sklearn.metrics import average_precision_score, roc_auc_score

from components.backtest import Fold, handbook_folds, run_fold, spans, split_fold
from components.devices import use_logical_cpus
from components.features import build_feature_table
from components.ingest import excess, ingest
from pipelines.config import RunConfig
from pipelines.workspace import Workspace
from schemas.errors import LogError
from schemas.features import FeatureSpec, specify
from schemas.sources import SourceMapping
from schemas.transaction import LABEL, SECOND_US


@dataclass(frozen=True)
class FoldResult:
    """What a fold came to; the figures are of the scored rows whose label is known, None where they are of one kind."""

    fold: int
    rows: int
    frauds: int
    average_precision: float | None
    roc_auc: float | None


@dataclass(frozen=True)
class Backtest:
    """What all folds came to."""

    folds: tuple[FoldResult, ...]
    out: Path | None

    def fields(self) -> dict[str, Any]:
        """The object that `fraudops backtest --json` prints: the means over the folds, and each fold."""
        return {
            "average_precision": _mean([fold.average_precision for fold in self.folds]),
            "roc_auc": _mean([fold.roc_auc for fold in self.folds]),
            "folds": [asdict(fold) for fold in self.folds],
            "out": self.out,
        }


def backtest(
    mapping: SourceMapping,
    log: Path,
    at: datetime | None,
    config: RunConfig,
    workspace: Workspace,
    out: Path | None,
    say: Callable[[str], None],
) -> Backtest:
    """Trains and scores every fold.

    Args:
        mapping: of the log.
        log: the transaction log.
        at: the moment at which one model is trained; None for the Handbook's four folds.
        config: the choices; of `splits` only the warm-up counts.
        workspace: keeps the card key, and scratch files while this runs.
        out: Parquet for the scores, with `fold`, the transaction's id under the name that the log gives it, and
            `score`; replaced in one step; None for none.
        say: is told what is being done.

    Raises:
        LogError: the log has too many bad rows, or is too short.
    """
    use_logical_cpus(config.training.logical_cpu_devices)
    say(f"reading {log}")
    read = transactions_of(log, mapping, workspace)
    times_us = read["event_time"].cast(pa.int64())
    first_us, last_us = times_us[0].as_py(), times_us[-1].as_py()
    folds = (
        handbook_folds(first_us)
        if at is None
        else (split_fold(round(at.timestamp() * SECOND_US), last_us, mapping.label_delay_s),)
    )
    of_folds = [spans(first_us, fold, mapping.label_delay_s, config.backtest) for fold in folds]
    workspace.root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=workspace.root, prefix="backtest.") as folder:
        transactions = Path(folder) / "transactions.parquet"
        pq.write_table(read, transactions)
        del read, times_us
        features, spec = features_of(transactions, mapping, say)
        results, scored = [], []
        for fold, of_fold in zip(folds, of_folds, strict=True):
            say(f"fold {fold.number}: training")
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                rows = run_fold(features, spec, of_fold, config.backtest, config.training, Path(scratch))
            results.append(_result(fold, rows))
            say(f"fold {fold.number}: average precision {results[-1].average_precision} on {rows.num_rows:,} rows")
            scored.append(rows.select(["transaction_id", "score"]).add_column(0, "fold", _repeated(fold, rows)))
    if out is not None:
        _write(scored, mapping, out)
    return Backtest(tuple(results), out)


def features_of(transactions: Path, mapping: SourceMapping, say: Callable[[str], None]) -> tuple[Path, FeatureSpec]:
    """Builds the feature table, with labels, of canonical transactions beside their file; and what its columns are."""
    spec = specify(mapping.provided)
    say(f"computing {len(spec.features)} features")
    features = transactions.with_name("features.parquet")
    build_feature_table(transactions, features, spec, carry=(LABEL,))
    return features, spec


def transactions_of(log: Path, mapping: SourceMapping, workspace: Workspace) -> pa.Table:
    """The transactions of a log, canonical, in order.

    Args:
        log: a file or a folder.
        mapping: of the log.
        workspace: keeps the card key.

    Raises:
        LogError: the log cannot be read, or has too many bad rows.
    """
    key = workspace.card_key() if mapping.card_id_is == "number" else None
    read = ingest(log, mapping, key)
    if too_many := excess(read.report, mapping):
        raise LogError(too_many)
    return read.transactions


def _result(fold: Fold, rows: pa.Table) -> FoldResult:
    known = rows.filter(pc.field(LABEL).is_valid())
    labels, scores = known[LABEL].to_numpy(), known["score"].to_numpy()
    both = len(set(labels.tolist())) == 2
    return FoldResult(
        fold.number,
        rows.num_rows,
        int(labels.sum()),
        float(average_precision_score(labels, scores)) if both else None,
        float(roc_auc_score(labels, scores)) if both else None,
    )


def _repeated(fold: Fold, rows: pa.Table) -> pa.Array:
    return pa.repeat(pa.scalar(fold.number, pa.int64()), rows.num_rows)


def _write(scored: Sequence[pa.Table], mapping: SourceMapping, out: Path) -> None:
    table = pa.concat_tables(scored)
    ids = table["transaction_id"]
    # Ids are text here; a log that numbers its transactions is to be joined by numbers again.
    if pc.all(pc.match_substring_regex(ids, "^(0|[1-9][0-9]{0,17})$")).as_py():
        ids = ids.cast(pa.int64())
    name = mapping.columns["transaction_id"]
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = out.with_name(f".{out.name}.{os.getpid()}")
    pq.write_table(pa.table({"fold": table["fold"], name: ids, "score": table["score"]}), unfinished)
    os.replace(unfinished, out)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None
