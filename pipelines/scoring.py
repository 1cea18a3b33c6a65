"""What `fraudops score` sends and keeps: a log's rows as calls, and decisions as objects, rows and tables."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from components.ingest import excess, ingest
from schemas import scoring_pb2, sources
from schemas.errors import ConfigurationError, LogError, ScoringError
from schemas.keys import MIN_KEY_BYTES
from schemas.tokens import CardKey
from serving.load import Answer

JSON_LINES, PARQUET = ".jsonl", ".parquet"

_BATCH_ROWS = 8_192
# Not sent: the gateway converts by the rates of its own mapping.
_NOT_SENT = "amount_base_minor"
_DECISIONS = pa.schema(
    [
        ("transaction_id", pa.string()),
        ("decision_id", pa.string()),
        ("outcome", pa.string()),
        ("score", pa.float32()),
        ("reason_codes", pa.list_(pa.string())),
        ("model_version", pa.int64()),
        ("arm", pa.string()),
        ("rules", pa.list_(pa.string())),
        ("degraded_cause", pa.string()),
        ("degraded_fallback", pa.string()),
        ("generation", pa.int64()),
        ("missing_features", pa.list_(pa.string())),
        ("unexplained", pa.string()),
        ("error", pa.string()),
        ("latency_ms", pa.float64()),
    ]
)


def read_as_sent(log: Path, source: str) -> pa.Table:
    """The transactions of a log, labels included, as a payment system has them: card numbers are not tokenised.

    Raises:
        LogError: the log cannot be read, or too many of its rows are bad.
        MappingError: there is no such source.
    """
    mapping = sources.load(source)
    # It makes tokens of bad rows alone, and they are not kept.
    key = CardKey(1, os.urandom(MIN_KEY_BYTES)) if mapping.card_id_is == "number" else None
    result = ingest(log, mapping, key, keep_card_numbers=True)
    if reason := excess(result.report, mapping):
        raise LogError(f"{log}: {reason}")
    return result.transactions.drop_columns([_NOT_SENT])


def rows(transactions: pa.Table) -> Iterator[dict[str, Any]]:
    """A table's rows, times in microseconds."""
    columns = [
        column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column for column in transactions.columns
    ]
    table = pa.table(columns, names=transactions.column_names)
    for begin in range(0, table.num_rows, _BATCH_ROWS):
        yield from table.slice(begin, _BATCH_ROWS).to_pylist()


def decision_fields(decision: scoring_pb2.Decision) -> dict[str, Any]:
    """A decision as `--json` prints it: enumerations by name, null where a field is not set."""
    model, degraded = decision.model, decision.degraded
    return {
        "decision_id": decision.decision_id,
        "transaction_id": decision.transaction_id,
        "outcome": scoring_pb2.Outcome.Name(decision.outcome),
        "score": decision.score if decision.HasField("score") else None,
        "reason_codes": list(decision.reason_codes),
        "reason_vocabulary": decision.reason_vocabulary,
        "model": {"name": model.name, "version": model.version} if decision.HasField("model") else None,
        "arm": scoring_pb2.Arm.Name(decision.arm),
        "rule_hits": [
            {"rule": hit.rule, "action": scoring_pb2.Outcome.Name(hit.action), "reason_code": hit.reason_code}
            for hit in decision.rule_hits
        ],
        "degraded": {
            "cause": scoring_pb2.Degraded.Cause.Name(degraded.cause),
            "fallback": scoring_pb2.Degraded.Fallback.Name(degraded.fallback),
            "detail": degraded.detail,
        }
        if decision.HasField("degraded")
        else None,
        "generation": decision.generation,
        "missing_features": list(decision.missing_features),
        "control_propensity": decision.control_propensity if decision.HasField("control_propensity") else None,
        "unexplained": decision.unexplained or None,
    }


def answer_row(answer: Answer) -> dict[str, Any]:
    """An answer as one row of `--out`; a failed call has its code in `error` and no decision."""
    row: dict[str, Any] = {
        "transaction_id": answer.transaction["transaction_id"],
        "latency_ms": answer.latency_s * 1_000,
    }
    if isinstance(answer.result, ScoringError):
        return row | {"error": answer.result.code}
    fields = decision_fields(answer.result)
    model, degraded = fields["model"], fields["degraded"]
    return row | {
        **{name: fields[name] for name in _DECISIONS.names if name in fields},
        "model_version": model and model["version"],
        "rules": [hit["rule"] for hit in fields["rule_hits"]],
        "degraded_cause": degraded and degraded["cause"],
        "degraded_fallback": degraded and degraded["fallback"],
    }


class DecisionFile:
    """Decisions in a file, Parquet or JSON lines by its ending, in the order in which they came.

    Raises:
        ConfigurationError: the ending is another, or the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._rows: list[dict[str, Any]] = []
        if path.suffix not in (PARQUET, JSON_LINES):
            raise ConfigurationError(f"{path} ends in neither {PARQUET} nor {JSON_LINES}; name one that does")
        try:
            self._stream = path.open("wb")
        except OSError as error:
            raise ConfigurationError(f"{path} cannot be written ({error.strerror}); name another file") from error
        self._parquet = pq.ParquetWriter(self._stream, _DECISIONS) if path.suffix == PARQUET else None

    def add(self, answer: Answer) -> None:
        """Adds one row."""
        self._rows.append(answer_row(answer))
        if len(self._rows) == _BATCH_ROWS:
            self._flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._flush()
            if self._parquet is not None:
                self._parquet.close()
        finally:
            self._stream.close()

    def _flush(self) -> None:
        table = pa.Table.from_pylist(self._rows, _DECISIONS)
        if self._parquet is not None:
            self._parquet.write_table(table)
        else:
            # Through the table, so that every line has every key.
            self._stream.writelines(orjson.dumps(row) + b"\n" for row in table.to_pylist())
        self._rows.clear()
