"""Great Expectations: one validation per table, and its own pages about the results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from string import Template
from typing import Any

from components.expectations.suites import Expectation
from components.expectations.table import Table


@dataclass(frozen=True)
class Judged:
    """A table and what is expected of it.

    Attributes:
        name: of suite and table; pages go by it.
    """

    name: str
    table: Table
    expectations: tuple[Expectation, ...]


@dataclass(frozen=True)
class Run:
    """What the results are filed under: a name and a time with its zone."""

    name: str
    time: datetime


@dataclass(frozen=True)
class Outcome:
    """How one expectation came out.

    Attributes:
        failures: rows of the table that fail; there may be some where the expectation asks for most rows only.
        example: the value of one of them, of a pair both; none where nothing fails.
        segments: the names of those rows, where rows have names.
        error: why it could not be evaluated.
    """

    success: bool
    failures: int
    example: Any
    segments: tuple[str, ...]
    error: str | None


def judge(asked: Sequence[Judged], run: Run, data_docs: Path | None) -> list[tuple[Outcome, ...]]:
    """Validates each table once; outcomes come in the order of its expectations.

    Args:
        asked: tables and expectations.
        run: what the pages show as the run.
        data_docs: folder that the pages are written to; none for no pages.
    """
    # Slow to import, and only the check itself needs it.
    import great_expectations as gx
    from great_expectations.data_context.types import base

    context = gx.get_context(
        mode="ephemeral",
        project_config=base.DataContextConfig(
            store_backend_defaults=base.InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
            data_docs_sites=None if data_docs is None else {"data_docs": _site(data_docs)},
            analytics_enabled=False,
            progress_bars=base.ProgressBarsConfig(globally=False),
        ),
    )
    source = context.data_sources.add_pandas("tables")
    outcomes = []
    for one in asked:
        configured = [_configured(expectation, at) for at, expectation in enumerate(one.expectations)]
        suite = context.suites.add(gx.ExpectationSuite(name=one.name, expectations=configured))
        whole = source.add_dataframe_asset(one.name).add_batch_definition_whole_dataframe("all")
        definition = context.validation_definitions.add(gx.ValidationDefinition(name=one.name, data=whole, suite=suite))
        validated = definition.run(
            batch_parameters={"dataframe": one.table.frame},
            result_format=_result_format(one.table),
            run_id=gx.RunIdentifier(run.name, run.time),
        )
        # Its results come in an order of their own.
        outcomes.append(
            tuple(_outcome(result, one.table.segment) for result in sorted(validated.results, key=_position))
        )
    if data_docs is not None:
        context.build_data_docs()
    return outcomes


def _site(folder: Path) -> dict[str, Any]:
    return {
        "class_name": "SiteBuilder",
        "show_how_to_buttons": False,
        "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(folder)},
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
    }


def _configured(expectation: Expectation, position: int) -> Any:
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration
    from great_expectations.expectations.metadata_types import FailureSeverity

    template = Template(expectation.message)
    return ExpectationConfiguration(
        type=expectation.type,
        kwargs=dict(expectation.arguments),
        meta={"position": position},
        notes="If not: " + template.safe_substitute(dict.fromkeys(template.get_identifiers(), "…")),
        severity=FailureSeverity.CRITICAL if expectation.severity == "stop" else FailureSeverity.WARNING,
    )


def _position(result: Any) -> int:
    return int(result.expectation_config.meta["position"])


def _result_format(table: Table) -> dict[str, Any]:
    if table.segment is None:
        return {"result_format": "BASIC"}
    return {
        "result_format": "COMPLETE",
        "unexpected_index_column_names": [table.segment],
        "return_unexpected_index_query": False,
    }


def _outcome(result: Any, segment: str | None) -> Outcome:
    # An expectation that could not be evaluated has an empty result and the exception instead.
    found = result.result
    named = found.get("unexpected_index_list") or ()
    examples = found.get("partial_unexpected_list") or (None,)
    return Outcome(
        success=bool(result.success),
        failures=found.get("unexpected_count") or 0,
        example=examples[0],
        segments=tuple(str(row[segment]) for row in named) if segment else (),
        error=None if found else _exception(result.exception_info),
    )


def _exception(info: dict[str, Any]) -> str:
    """The message in an `exception_info`, which is flat or keyed by metric."""
    details = info if "exception_message" in info else next(iter(info.values()), {})
    return str(details.get("exception_message"))
