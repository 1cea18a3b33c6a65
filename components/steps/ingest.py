"""Step `ingest_log`: a log becomes canonical transactions, dead letters and a verdict on the log as a whole."""

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
from tfx.v1.dsl.components import OutputArtifact, Parameter, component

from components.gate import Reason
from components.ingest import excess, ingest, log_digest
from components.rows import ingest_flow
from components.steps.artifacts import DeadLetters, GateVerdict, Transactions, path_of
from components.steps.parameters import from_parameter
from components.steps.rows import write_rows
from components.steps.verdicts import write_verdict
from schemas import sources
from schemas.acceptance import INGEST, Acceptance
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
    acceptances: Parameter[str],
    code: Parameter[str],
) -> None:
    """Reads the log; the digests among the parameters only tell TFX when an earlier result may stand in.

    A person may accept a share of bad rows.  Without the columns there are no transactions to go on with.

    Raises:
        LogError: the log cannot be read, or changed since the run began.
    """
    mapping, accepted = sources.load(source), from_parameter(tuple[Acceptance, ...], acceptances)
    key = read_card_key(Path(card_key_file), card_key_version) if card_key_file else None
    try:
        result = ingest(Path(log), mapping, key)
    except LogColumnsError as error:
        columns = Reason(INGEST, "stop", "columns", str(error), acceptable=False)
        write_verdict(verdict, [columns], accepted, datetime.now(UTC))
        return
    if log_digest(Path(log)) != digest:
        raise LogError(f"log {log} changed while it was read; run again when nothing writes to it any more")
    pq.write_table(result.transactions, path_of(transactions) / Transactions.TABLE, compression="zstd")
    (path_of(transactions) / Transactions.REPORT).write_text(result.report.to_json(), encoding="utf-8")
    write_rows(transactions, ingest_flow(asdict(result.report)))
    if result.report.first_event and result.report.last_event:
        transactions.set_string_custom_property("first_event", result.report.first_event.isoformat())
        transactions.set_string_custom_property("last_event", result.report.last_event.isoformat())
    pq.write_table(result.dead_letters, path_of(dead_letters) / DeadLetters.TABLE, compression="zstd")
    too_many = excess(result.report, mapping)
    reasons = [Reason(INGEST, "stop", "rows", too_many)] if too_many else []
    write_verdict(verdict, reasons, accepted, datetime.now(UTC))
