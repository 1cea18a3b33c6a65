"""Expectations: the suites of `schemas/expectations`, evaluated by Great Expectations on transactions and features.

What needs every row (uniqueness, medians, shares) is computed in Arrow over every row and judged as one row of
aggregates; what concerns single rows is judged on a systematic sample.  Each result says how many rows were read and
how many checked.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from importlib import resources
from string import Template
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import yaml

from components.gate import Reason
from schemas.currency import minor_unit_decimals
from schemas.errors import ConfigurationError
from schemas.features import specify
from schemas.sources import SourceMapping
from schemas.transaction import REQUIRED

SAMPLE_ROWS = 100_000
LOG_AGGREGATES = (
    "rows",
    "missing_required_values",
    "duplicate_transaction_ids",
    "first_event_time",
    "last_event_time",
    "median_amount",
    "labelled_rows",
    "fraud_share",
    "labels_without_time",
)


@dataclass(frozen=True)
class Expectation:
    """One entry of a suite, its placeholders for mapping values filled in.

    Attributes:
        type: the name that Great Expectations knows it by.
        arguments: its keyword arguments.
        message: for people when it fails; `$observed` stands for what was seen.
    """

    type: str
    arguments: Mapping[str, Any]
    message: str

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(str(self.arguments[key]) for key in ("column", "column_A", "column_B") if key in self.arguments)


@dataclass(frozen=True)
class Suite:
    """Expectations about the aggregates of a log and about single rows."""

    name: str
    log: tuple[Expectation, ...]
    rows: tuple[Expectation, ...]


@dataclass(frozen=True)
class ExpectationResult:
    """How one expectation came out.

    Attributes:
        column: the column it is about; of a pair, the first.
        observed: the aggregate, or the failing rows and an example; none where nothing failed.
        limit: what was expected, as text.
        message: what to tell people; empty on success.
        rows_checked: rows that the judgement rests on.
        rows_read: rows that there were.
    """

    suite: str
    expectation: str
    column: str
    success: bool
    observed: float | str | None
    limit: str
    message: str
    rows_checked: int
    rows_read: int


@dataclass(frozen=True)
class ExpectationReport:
    """The results of all suites, in the order of their files."""

    results: tuple[ExpectationResult, ...]

    def to_json(self) -> str:
        """One JSON object with the key `results`."""
        return json.dumps(asdict(self), ensure_ascii=False, indent=2, allow_nan=False)


def check(
    transactions: pa.Table, features: pa.Table | None, mapping: SourceMapping, sample_rows: int = SAMPLE_ROWS
) -> ExpectationReport:
    """Evaluates the suite `transactions`, and `features` where there is a feature table.

    Args:
        transactions: canonical transactions (`schemas.transaction.COLUMNS`) as ingest left them.
        features: columns named as the declared features; others are not looked at.
        mapping: the source's; decides which columns are asked about, and fills the suites' placeholders.
        sample_rows: how many rows row-wise expectations see at most: every n-th from the first, n as small as fits.

    Raises:
        ConfigurationError: `sample_rows` is below 1, or a suite is malformed.
    """
    if sample_rows < 1:
        raise ConfigurationError(f"sample_rows is {sample_rows}; give 1 or more")
    suite = load_suite("transactions", mapping)
    results = _check_log(suite, log_aggregates(transactions, mapping))
    results += _check_rows(suite, transactions, mapping.provided, sample_rows)
    if features is not None:
        declared = frozenset(i.name for i in specify(mapping.provided).inputs)
        results += _check_rows(load_suite("features", mapping), features, declared, sample_rows)
    return ExpectationReport(tuple(results))


def reasons(report: ExpectationReport) -> tuple[Reason, ...]:
    """A stop for every expectation that failed."""
    return tuple(
        Reason("expectations", "stop", result.column, result.message, result.observed, result.limit)
        for result in report.results
        if not result.success
    )


def log_aggregates(transactions: pa.Table, mapping: SourceMapping) -> dict[str, Any]:
    """What the `log` part of a suite may speak about, over all rows; none where no row has a value.

    `median_amount` is in major units of the base currency.  The aggregates of labels are absent when the mapping names
    no label.
    """
    median = pc.quantile(transactions["amount_base_minor"], q=0.5)[0].as_py()
    times = pc.min_max(transactions["event_time"]).as_py()
    aggregates: dict[str, Any] = {
        "rows": transactions.num_rows,
        "missing_required_values": sum(transactions[name].null_count for name in REQUIRED),
        "duplicate_transaction_ids": transactions.num_rows
        - pc.count_distinct(transactions["transaction_id"], mode="all").as_py(),
        "first_event_time": times["min"],
        "last_event_time": times["max"],
        "median_amount": None if median is None else median / 10 ** minor_unit_decimals(mapping.base_currency),
    }
    if "is_fraud" in mapping.provided:
        labels = transactions["is_fraud"]
        aggregates["labelled_rows"] = len(labels) - labels.null_count
        aggregates["fraud_share"] = pc.mean(labels).as_py()
        timeless = pc.and_(pc.is_valid(labels), pc.is_null(transactions["label_time"]))
        aggregates["labels_without_time"] = pc.sum(timeless).as_py() or 0
    return aggregates


def load_suite(name: str, mapping: SourceMapping) -> Suite:
    """The suite of `schemas/expectations/<name>.yaml`, its placeholders filled from the mapping."""
    text = (resources.files("schemas") / "expectations" / f"{name}.yaml").read_text(encoding="utf-8")
    return parse_suite(text, mapping, f"schemas/expectations/{name}.yaml")


def parse_suite(text: str, mapping: SourceMapping, where: str) -> Suite:
    """Reads a suite from YAML text; `where` names it in errors.

    Raises:
        ConfigurationError: an entry lacks its type or message, names an unknown placeholder, or an unknown aggregate.
    """
    raw = yaml.safe_load(text)
    known = _placeholders(mapping)
    log, rows = (tuple(_entry(entry, known, where) for entry in raw.get(part, ())) for part in ("log", "rows"))
    for column in (column for expectation in log for column in expectation.columns):
        if column not in LOG_AGGREGATES:
            raise ConfigurationError(
                f"{where}: {column!r} is not an aggregate of the log; known: {', '.join(LOG_AGGREGATES)}"
            )
    return Suite(str(raw["suite"]), log, rows)


def _placeholders(mapping: SourceMapping) -> dict[str, Any]:
    constant = mapping.constants.get("currency")
    return {
        "source": mapping.source,
        "base_currency": mapping.base_currency,
        "currencies": sorted(
            {mapping.base_currency, *(rate.currency for rate in mapping.rates), *filter(None, [constant])}
        ),
        "amount_limit_minor": mapping.amount_limit * 10 ** minor_unit_decimals(mapping.base_currency),
        "expected_median_amount_low": mapping.expected_median_amount[0],
        "expected_median_amount_high": mapping.expected_median_amount[1],
        "expected_fraud_share_low": mapping.expected_fraud_share[0],
        "expected_fraud_share_high": mapping.expected_fraud_share[1],
    }


def _entry(raw: Mapping[str, Any], known: Mapping[str, Any], where: str) -> Expectation:
    try:
        arguments = {key: _filled(value, known) for key, value in raw.items() if key not in ("type", "message")}
        if "column_A" in arguments:
            # Missing values satisfy a relation; Great Expectations by itself lets only a pair of them do so.
            arguments.setdefault("ignore_row_if", "either_value_is_missing")
        message = Template(raw["message"]).substitute(
            {key: _text(value) for key, value in known.items()}, observed="$observed"
        )
        return Expectation(raw["type"], arguments, message)
    except (KeyError, ValueError) as error:
        raise ConfigurationError(f"{where}: {error} is neither given nor known in the entry {dict(raw)}") from error


def _filled(value: Any, known: Mapping[str, Any]) -> Any:
    """The mapping's value where the whole text is one placeholder; elsewhere the text, `$$` standing for `$`."""
    if not isinstance(value, str):
        return value
    return known[value[1:]] if value[:1] == "$" else Template(value).substitute(known)


def _check_log(suite: Suite, aggregates: Mapping[str, Any]) -> list[ExpectationResult]:
    asked = [expectation for expectation in suite.log if aggregates.keys() >= set(expectation.columns)]
    outcomes = _outcomes(suite.name, asked, pd.DataFrame([aggregates]))
    read = aggregates["rows"]
    return [
        _result(suite.name, expectation, outcome, _plain(aggregates[expectation.columns[0]]), read, read)
        for expectation, outcome in zip(asked, outcomes, strict=True)
    ]


def _check_rows(suite: Suite, table: pa.Table, askable: frozenset[str], sample_rows: int) -> list[ExpectationResult]:
    asked = [expectation for expectation in suite.rows if askable.issuperset(expectation.columns)]
    wanted = {column for expectation in asked for column in expectation.columns}
    step = max(1, -(-table.num_rows // sample_rows))
    # Whole columns are the cheap cut of a columnar table; rows are then picked, and only those leave Arrow.
    columns = table.select([name for name in table.column_names if name in wanted])
    sample = columns.take(pa.array(range(0, table.num_rows, step), pa.int64())).to_pandas()
    return [
        _result(suite.name, expectation, outcome, _failing(outcome, len(sample)), len(sample), table.num_rows)
        for expectation, outcome in zip(asked, _outcomes(suite.name, asked, sample), strict=True)
    ]


def _outcomes(suite: str, expectations: Sequence[Expectation], frame: pd.DataFrame) -> list[Any]:
    """Great Expectations' own results (`ExpectationValidationResult`), in the order of the expectations."""
    # Slow to import, and only the check itself needs it.
    import great_expectations as gx
    from great_expectations.data_context.types import base
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    context = gx.get_context(
        mode="ephemeral",
        project_config=base.DataContextConfig(
            store_backend_defaults=base.InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
            analytics_enabled=False,
            progress_bars=base.ProgressBarsConfig(globally=False),
        ),
    )
    configurations = [
        ExpectationConfiguration(type=expectation.type, kwargs=dict(expectation.arguments), meta={"position": position})
        for position, expectation in enumerate(expectations)
    ]
    asset = context.data_sources.add_pandas("memory").add_dataframe_asset(suite)
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": frame})
    outcome = batch.validate(gx.ExpectationSuite(name=suite, expectations=configurations), result_format="BASIC")
    # Its results come in an order of their own.
    return sorted(outcome.results, key=lambda result: result.expectation_config.meta["position"])


def _result(
    suite: str, expectation: Expectation, outcome: Any, observed: float | str | None, rows_checked: int, rows_read: int
) -> ExpectationResult:
    message = ""
    if not outcome.success:
        # An expectation that could not be evaluated has an empty result and the exception instead.
        message = (
            Template(expectation.message).substitute(observed=_text(observed))
            if outcome.result
            else f"{expectation.type} of {', '.join(expectation.columns)} could not be evaluated: "
            f"{_exception(outcome.exception_info)}"
        )
    return ExpectationResult(
        suite=suite,
        expectation=expectation.type,
        column=expectation.columns[0],
        success=bool(outcome.success),
        observed=observed,
        limit=_limit(expectation),
        message=message,
        rows_checked=rows_checked,
        rows_read=rows_read,
    )


def _failing(outcome: Any, rows_checked: int) -> str | None:
    """How many rows fail, and one of them; none when no row does."""
    count = outcome.result.get("unexpected_count")
    if not count:
        return None
    example = outcome.result["partial_unexpected_list"][0]
    shown = " against ".join(map(_text, map(_plain, example))) if isinstance(example, tuple) else _text(_plain(example))
    return f"{count} of {rows_checked} rows checked, such as {shown}"


def _exception(info: Mapping[str, Any]) -> str:
    """The message in an `exception_info`, which is flat or keyed by metric."""
    details = info if "exception_message" in info else next(iter(info.values()), {})
    return str(details.get("exception_message"))


def _limit(expectation: Expectation) -> str:
    """The expectation's arguments without its columns, such as `min_value: 20, max_value: 100`."""
    if len(expectation.columns) == 2:
        return f"at least {expectation.columns[1]}"
    parts = ((key, value) for key, value in expectation.arguments.items() if key != "column")
    return ", ".join(f"{key}: {_text(value)}" for key, value in parts)


def _plain(value: Any) -> float | str | None:
    if value is None or isinstance(value, str):
        return value
    return str(pd.Timestamp(value).isoformat()) if isinstance(value, datetime | np.datetime64) else float(value)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() else f"{value:.6g}"
    return ", ".join(map(_text, value)) if isinstance(value, list) else str(value)
