"""`fraudops score`: asks a gateway to decide, on one transaction or on all of a log."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipelines import console

if TYPE_CHECKING:
    from rich.console import RenderableType

    from schemas import scoring_pb2
    from serving.load import Tally


@click.command(short_help="Ask a gateway to decide, on one transaction or on a log.")
@click.option("--target", default="127.0.0.1:8600", show_default=True, help="The gateway's address, HOST:PORT.")
@click.option(
    "--transaction",
    metavar="JSON",
    help="One transaction as a JSON object, or - to read it from standard input, which no list of processes shows.",
)
@click.option("--log", type=click.Path(path_type=Path), help="A transaction log instead, a file or a folder.")
@click.option("--source", help="Name of the log's mapping, or the path of one (*.yaml).")
@click.option(
    "--rate", type=click.FloatRange(0, min_open=True), help="Transactions per second; as fast as it goes without."
)
@click.option(
    "--concurrency", type=click.IntRange(1), default=64, show_default=True, help="Calls under way at most, of a log."
)
@click.option("--limit", type=click.IntRange(1), help="Only the first transactions of the log, in event-time order.")
@click.option("--labels", is_flag=True, help="Report the log's outcomes as well, each when the log's time reaches it.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the log's decisions, as *.parquet or *.jsonl, in the order in which they come.",
)
@click.option(
    "--timeout", type=click.FloatRange(0, min_open=True), default=5.0, show_default=True, help="Seconds for a call."
)
@console.json_option
def command(
    target: str,
    transaction: str | None,
    log: Path | None,
    source: str | None,
    rate: float | None,
    concurrency: int,
    limit: int | None,
    labels: bool,
    out: Path | None,
    timeout: float,
) -> console.Reply:
    """Ask a gateway to decide, on one transaction or on all transactions of a log in the order of their times.

    A transaction has the columns of the scoring API; its event_time is a number of UTC microseconds since 1970 or ISO
    8601 text with a zone.

    A log is sent as the payment system would send it: where its source holds card numbers, the numbers are sent and the
    gateway makes the tokens.  With --rate the time of a call counts from when it was due, so that a gateway that stalls
    cannot hide it; without, from when it was sent.

    Exit code 1: some call failed.
    """
    if (transaction is None) == (log is None) or (log is None) != (source is None):
        raise click.UsageError("give either --transaction, or --log and --source")
    if transaction is not None:
        if rate or limit or labels or out:
            raise click.UsageError("--rate, --limit, --labels and --out go with --log")
        return _score_one(target, transaction, timeout)
    assert log is not None and source is not None
    return _score_log(target, log, source, rate, concurrency, limit, labels, out, timeout)


def _score_one(target: str, text: str, timeout: float) -> console.Reply:
    from schemas.errors import ScoringError
    from serving.client import Client

    transaction = _parsed(sys.stdin.read() if text == "-" else text)
    with Client(target, timeout) as client:
        client.wait_until_ready()
        try:
            decision = client.score(transaction)
        except ScoringError as error:
            fields = {"code": error.code, "field": error.field, "message": str(error)}
            return console.Reply({"error": fields}, human=str(error), passed=False)
    from pipelines.scoring import decision_fields

    return console.Reply(decision_fields(decision), human=_decision_table(decision))


def _parsed(text: str) -> dict[str, Any]:
    """A transaction out of JSON text."""
    from datetime import datetime

    import orjson

    from schemas.errors import ConfigurationError

    try:
        transaction = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ConfigurationError(f"the transaction is not JSON ({error.msg} at character {error.pos})") from None
    if not isinstance(transaction, dict):
        raise ConfigurationError(f"the transaction is a JSON {type(transaction).__name__}; it must be an object")
    if isinstance(transaction.get("event_time"), str):
        try:
            transaction["event_time"] = datetime.fromisoformat(transaction["event_time"])
        except ValueError:
            raise ConfigurationError(
                "event_time is not ISO 8601; write such as 2024-05-31T12:00:00Z, or UTC microseconds since 1970"
            ) from None
    return transaction


def _score_log(
    target: str,
    log: Path,
    source: str,
    rate: float | None,
    concurrency: int,
    limit: int | None,
    labels: bool,
    out: Path | None,
    timeout: float,
) -> console.Reply:
    import asyncio
    import time

    from rich.progress import track

    from pipelines.scoring import DecisionFile, read_as_sent, rows
    from serving.client import AsyncClient, Client
    from serving.features.replay import Arrival, arrivals
    from serving.load import Answer, Reports, Tally, send_log

    with Client(target, timeout) as client:
        client.wait_until_ready()
    console.say(f"reading {log}")
    table = read_as_sent(log, source).slice(0, limit)
    sent = track(rows(table), "scoring", table.num_rows, console=console.stderr(), transient=True)
    of_log = arrivals(sent) if labels else (Arrival(row["event_time"], row, is_label=False) for row in sent)
    tally = Tally()

    with ExitStack() as stack:
        file = stack.enter_context(DecisionFile(out)) if out is not None else None

        def answered(answer: Answer) -> None:
            tally.add(answer)
            if file is not None:
                file.add(answer)

        async def send() -> Reports:
            async with AsyncClient(target, timeout) as client:
                return await send_log(client, of_log, answered, concurrency, rate)

        began = time.perf_counter()
        reports = asyncio.run(send())
        seconds = time.perf_counter() - began
    fields = _fields(tally, seconds) | ({"reports": asdict(reports)} if labels else {})
    return console.Reply(fields, human=_summary(fields), passed=not (tally.errors or reports.errors))


def _fields(tally: Tally, seconds: float) -> dict[str, Any]:
    calls = len(tally.latencies_s)
    median, ninety_nine, longest = tally.latency_ms(0.5, 0.99, 1)
    return {
        "transactions": calls,
        "decided": sum(tally.outcomes.values()),
        "outcomes": tally.outcomes,
        "arms": tally.arms,
        "versions": tally.versions,
        "degraded": tally.degraded,
        "errors": tally.errors,
        "latency_ms": {"p50": median, "p99": ninety_nine, "max": longest},
        "seconds": seconds,
        "rate_per_s": calls / seconds,
    }


def _summary(fields: dict[str, Any]) -> RenderableType:
    from rich.console import Group
    from rich.table import Table

    counts = Table("", "", "transactions", "share", box=None)
    for what in ("outcomes", "arms", "versions", "degraded", "errors"):
        for at, (name, count) in enumerate(fields[what].most_common()):
            counts.add_row("" if at else what, name, f"{count:,}", f"{count / fields['transactions']:.2%}")
    latency = fields["latency_ms"]
    lines = [
        f"{fields['decided']:,} of {fields['transactions']:,} transactions decided in {fields['seconds']:.1f} s, "
        f"{fields['rate_per_s']:,.0f} a second",
        f"latency {latency['p50']:.1f} ms (median), {latency['p99']:.1f} ms (99 of 100 took no longer), "
        f"{latency['max']:.1f} ms (longest)",
    ]
    if reports := fields.get("reports"):
        lines.append(
            f"outcomes: {reports['recorded']:,} recorded, {reports['known']:,} known before, "
            f"{reports['undecided']:,} of transactions without a decision, {sum(reports['errors'].values()):,} failed"
        )
    return Group(*([counts] if counts.row_count else []), *lines)


def _decision_table(decision: scoring_pb2.Decision) -> RenderableType:
    from rich.table import Table

    from schemas.reasons import REASONS
    from schemas.scoring_pb2 import Arm, Degraded, Outcome

    table = Table(box=None, show_header=False)
    table.add_row("outcome", Outcome.Name(decision.outcome))
    table.add_row("score", f"{decision.score:.4f}" if decision.HasField("score") else "none")
    for code in decision.reason_codes:
        table.add_row("reason", f"{code}: {REASONS.get(code, 'of a later vocabulary')}")
    if decision.unexplained:
        table.add_row("reason", f"the model's own are not known: {decision.unexplained}")
    for hit in decision.rule_hits:
        table.add_row("rule", f"{hit.rule}: {Outcome.Name(hit.action)}, {hit.reason_code}")
    model = f"{decision.model.name} version {decision.model.version}" if decision.HasField("model") else "none"
    table.add_row("model", f"{model}, arm {Arm.Name(decision.arm)}, generation {decision.generation}")
    if decision.HasField("degraded"):
        degraded = decision.degraded
        by, cause = Degraded.Fallback.Name(degraded.fallback), Degraded.Cause.Name(degraded.cause)
        table.add_row("degraded", f"{cause}, decided by {by}: {degraded.detail}")
    if decision.missing_features:
        table.add_row("missing", ", ".join(decision.missing_features))
    table.add_row("decision", f"{decision.decision_id} on transaction {decision.transaction_id}")
    return table
