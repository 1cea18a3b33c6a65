"""The check itself: tables of all rows and a sample of single ones, judged by the suites."""

from __future__ import annotations

from pathlib import Path
from string import Template

import numpy as np
import pandas as pd
import pyarrow as pa

from components.expectations.features import FeatureSummary
from components.expectations.log import LogSummary, readable
from components.expectations.pages import settle
from components.expectations.reading import Source
from components.expectations.results import ExpectationReport, ExpectationResult
from components.expectations.suites import ROWS, Expectation, Suite, load_suite
from components.expectations.table import Table
from components.expectations.text import plain, shown
from components.expectations.validation import Judged, Outcome, Run, judge
from components.gate import Reason
from schemas.errors import ConfigurationError
from schemas.features import FeatureSpec
from schemas.sources import SourceMapping

SAMPLE_ROWS = 100_000
_SHOWN_SEGMENTS = 3


def check(
    transactions: Source[pa.RecordBatch],
    features: Source[dict[str, np.ndarray]],
    spec: FeatureSpec,
    mapping: SourceMapping,
    sample_rows: int = SAMPLE_ROWS,
    data_docs: Path | None = None,
) -> ExpectationReport:
    """Evaluates the suites on transactions and features, each of which is read once, batch by batch.

    Args:
        transactions: all canonical transactions (`schemas.transaction.COLUMNS`) as ingest left them, in their order.
        features: the numbers of `spec` by name, float32 `[batch]`, vectors `[batch, k]`, of all rows or some.
        spec: the declaration that the features follow.
        mapping: the source's; decides which columns are asked about, and fills the suites' placeholders.
        sample_rows: how many single rows are looked at, at most: every n-th from the first, n as small as fits.
        data_docs: folder for Great Expectations' own pages about these results, `index.html` first.

    Raises:
        ConfigurationError: `sample_rows` is below 1, or a suite is malformed.
    """
    if sample_rows < 1:
        raise ConfigurationError(f"sample_rows is {sample_rows}; give 1 or more")
    of_log, of_features = load_suite("transactions", mapping), load_suite("features", mapping)
    tables = {of_log.name: _log_tables(transactions, of_log, mapping, sample_rows)}
    summary = FeatureSummary(spec)
    for batch in features.batches:
        summary.add(batch)
    tables[of_features.name] = summary.tables(features.rows)

    asked = [
        Judged(f"{suite.name}.{name}", table, askable)
        for suite in (of_log, of_features)
        for name, expectations in suite.tables.items()
        if (table := tables[suite.name].get(name)) is not None
        and (askable := tuple(e for e in expectations if _has_values(table.frame, e)))
    ]
    outcomes = judge(asked, _run(mapping, tables[of_log.name]["log"]), data_docs)
    report = ExpectationReport(
        tuple(
            _result(judged, expectation, outcome)
            for judged, of_table in zip(asked, outcomes, strict=True)
            for expectation, outcome in zip(judged.expectations, of_table, strict=True)
        )
    )
    if data_docs is not None:
        settle(data_docs, report)
    return report


def reasons(report: ExpectationReport) -> tuple[Reason, ...]:
    """What the gate is told: every expectation that failed, with its own severity."""
    return tuple(
        Reason(
            "expectations",
            result.severity,
            f"{result.column} ({result.segment})" if result.segment else result.column,
            result.message,
            result.observed,
            result.limit,
        )
        for result in report.results
        if not result.success
    )


def _log_tables(
    transactions: Source[pa.RecordBatch], suite: Suite, mapping: SourceMapping, sample_rows: int
) -> dict[str, Table]:
    wanted = {column for expectation in suite.tables.get(ROWS, ()) for column in expectation.columns}
    step = max(1, -(-transactions.rows // sample_rows))
    sampled: list[pa.Table] = []
    summary: LogSummary | None = None
    begin = 0
    for table in map(_table, transactions.batches):
        summary = summary or LogSummary(table.column_names, mapping)
        summary.add(table)
        columns = [name for name in table.column_names if name in wanted]
        sampled.append(table.select(columns).take(pa.array(np.arange(-begin % step, table.num_rows, step))))
        begin += table.num_rows
    tables = (summary or LogSummary(mapping.provided, mapping)).tables()
    sample = readable(pa.concat_tables(sampled).to_pandas(), mapping) if sampled else pd.DataFrame()
    return tables | ({ROWS: Table(sample, len(sample), transactions.rows, sampled=True)} if len(sample) else {})


def _table(batch: pa.RecordBatch) -> pa.Table:
    return pa.Table.from_batches([batch])


def _has_values(frame: pd.DataFrame, expectation: Expectation) -> bool:
    return all(column in frame and frame[column].notna().any() for column in expectation.columns)


def _run(mapping: SourceMapping, log: Table) -> Run:
    """Pages say which log they are about, not when they were made, so that the same log makes the same pages."""
    last = log.frame.iloc[0].get("last_event_time")
    return Run(mapping.source, pd.Timestamp(0, tz="UTC") if last is None else last)


def _result(judged: Judged, expectation: Expectation, outcome: Outcome) -> ExpectationResult:
    table = judged.table
    observed, segment = _observed(table, expectation, outcome)
    message = ""
    if outcome.error is not None:
        columns = ", ".join(expectation.columns)
        message = f"{expectation.type} of {columns} in {judged.name} could not be evaluated: {outcome.error}"
    elif not outcome.success:
        message = _message(table, expectation, outcome, observed)
    return ExpectationResult(
        suite=judged.name,
        expectation=expectation.type,
        column=expectation.columns[0],
        success=outcome.success,
        observed=observed,
        limit=expectation.limit,
        message=message,
        rows_checked=table.rows_checked,
        rows_read=table.rows_read,
        severity=expectation.severity,
        segment=segment,
    )


def _observed(table: Table, expectation: Expectation, outcome: Outcome) -> tuple[float | str | None, str]:
    """What to show as seen, and in which segments."""
    if table.sampled:
        return (_failing(outcome, table.rows_checked) if outcome.failures else None), ""
    values = table.frame[expectation.columns[0]]
    if outcome.success or not outcome.segments:
        ends = [plain(value) for value in (values.dropna().min(), values.dropna().max())]
        return (ends[0] if ends[0] == ends[1] else " to ".join(map(shown, ends))), ""
    return plain(values[_first_failing(table, outcome)]), _listed(outcome.segments, outcome.failures)


def _message(table: Table, expectation: Expectation, outcome: Outcome, observed: float | str | None) -> str:
    known = {"observed": shown(observed), "segment": "".join(outcome.segments[:1])}
    if not table.sampled:
        row = table.frame.loc[_first_failing(table, outcome)]
        known = {str(name): shown(plain(value)) for name, value in row.items()} | known
    message = Template(expectation.message).safe_substitute(known)
    others = outcome.segments[1:]
    return f"{message} (and so in {_listed(others, outcome.failures - 1)})" if others else message


def _first_failing(table: Table, outcome: Outcome) -> int:
    """The number of the first row that fails; a table without segments has one row."""
    return 0 if table.segment is None else int((table.frame[table.segment].astype(str) == outcome.segments[0]).argmax())


def _failing(outcome: Outcome, rows_checked: int) -> str:
    """How many rows fail, and one of them."""
    example = outcome.example
    values = map(shown, map(plain, example if isinstance(example, tuple) else (example,)))
    return f"{outcome.failures} of {rows_checked} rows checked, such as {' against '.join(values)}"


def _listed(segments: tuple[str, ...], of: int) -> str:
    shown_ones = segments[:_SHOWN_SEGMENTS]
    return ", ".join(shown_ones) + (f" and {of - len(shown_ones)} more" if of > len(shown_ones) else "")
