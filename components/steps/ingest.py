"""Step `ingest_log`: a log becomes canonical transactions, dead letters and a verdict on the log as a whole."""

from pathlib import Path

import pyarrow.parquet as pq
from tfx.v1.dsl.components import OutputArtifact, Parameter, component

from components.gate import Reason
from components.ingest import excess, ingest, log_digest
from components.steps.artifacts import DeadLetters, GateVerdict, Transactions, path_of
from components.steps.verdicts import write_verdict
from schemas import sources
from schemas.errors import LogColumnsError, LogError
from schemas.tokens import read_card_key


@component
def ingest_log(
    transactions: OutputArtifact[Transactions],
    dead_letters: OutputArtifact[DeadLetters],
    verdict: OutputArtifact[GateVerdict],
    source: Parameter[str],
    log: Parameter[str],
    digest: Parameter[str],
    mapping_digest: Parameter[str],
    card_key_file: Parameter[str],
    card_key_version: Parameter[int],
    card_key_fingerprint: Parameter[str],
    code: Parameter[str],
) -> None:
    """Reads the log; the digests among the parameters only tell TFX when an earlier result may stand in.

    Raises:
        LogError: the log cannot be read, or changed since the run began.
    """
    mapping = sources.load(source)
    key = read_card_key(Path(card_key_file), card_key_version) if card_key_file else None
    try:
        result = ingest(Path(log), mapping, key)
    except LogColumnsError as error:
        write_verdict(verdict, [Reason("ingest", "stop", "columns", str(error))])
        return
    if log_digest(Path(log)) != digest:
        raise LogError(f"log {log} changed while it was read; run again when nothing writes to it any more")
    pq.write_table(result.transactions, path_of(transactions) / Transactions.TABLE, compression="zstd")
    (path_of(transactions) / Transactions.REPORT).write_text(result.report.to_json(), encoding="utf-8")
    pq.write_table(result.dead_letters, path_of(dead_letters) / DeadLetters.TABLE, compression="zstd")
    too_many = excess(result.report, mapping)
    write_verdict(verdict, [Reason("ingest", "stop", "rows", too_many)] if too_many else [])
