"""The report of a run: one HTML page with its pictures inside, for people who were not there."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from components import volume_plots
from components.expectations import ExpectationReport, ExpectationResult
from components.gate import Reason, Verdict, merged
from components.gathering import Gathered
from components.pages import Picture, page
from components.profiles.report import DriftReport
from components.rows import RowFlow
from components.volumes import Volumes
from schemas.acceptance import Acceptance
from schemas.errors import ArtifactError
from schemas.features import FEATURES, ROW_INPUTS, Feature, RowInput

_TEMPLATE = "report.html.j2"


@dataclass(frozen=True)
class Link:
    """A page beside this one: its title, its address relative to this page, and what to know before one opens it."""

    title: str
    address: str
    note: str = ""


@dataclass(frozen=True)
class StepLine:
    """What one step did: `ran`, `cached` or `skipped`, and how long it took."""

    name: str
    state: str
    seconds: float


@dataclass(frozen=True)
class LeftOut:
    """A declared feature that the source cannot give, and the columns that it lacks for it."""

    name: str
    missing: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class RunReport:
    """Everything that the page tells; what a run did not get to is None or empty, and the page says so.

    Attributes:
        source: name of the mapping.
        log: the transaction log as it was given.
        span: the time that it covers, for people.
        finished: when the run ended, in UTC.
        passed: whether the run got through its gates.
        model_version: the version that was registered, or None.
        flows: rows in and out, in the order of the steps.
        steps: all steps in the order in which they ran.
        volumes: transactions and labels per day.
        links: to pages beside this one.
        verdicts: of each gate by its name.
        expectations, drift, anomalies: what the checks found; anomalies are None where validation did not run.
        drift_pictures: of the strongest findings of drift, an overview first.
        found: what is known about the model; None where none was measured.
        pictures: of the evidence.
        features: names of the inputs of the model.
        left_out: declared features that are not among them.
        digests: SHA-256 by what they are of.
        lineage: ids and versions by what they name.
    """

    source: str
    log: str
    span: str
    finished: datetime
    passed: bool
    model_version: int | None = None
    flows: tuple[RowFlow, ...] = ()
    volumes: Volumes | None = None
    links: tuple[Link, ...] = ()
    steps: tuple[StepLine, ...] = ()
    verdicts: Mapping[str, Verdict]
    expectations: ExpectationReport | None = None
    drift: DriftReport | None = None
    drift_pictures: tuple[Picture, ...] = ()
    anomalies: tuple[Reason, ...] | None = None
    found: Gathered | None = None
    pictures: tuple[Picture, ...] = ()
    features: tuple[str, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    digests: Mapping[str, str]
    lineage: Mapping[str, str]

    @property
    def acceptances(self) -> tuple[Acceptance, ...]:
        """What people accepted at any gate."""
        return merged(self.verdicts.values()).acceptances


def render(report: RunReport) -> str:
    """The page as HTML: no script, nothing loaded from elsewhere, every value escaped."""
    return page(_TEMPLATE, report=report, log_pictures=_log_pictures(report.volumes))


def _log_pictures(counted: Volumes | None) -> tuple[Picture, ...]:
    if counted is None:
        return ()
    return (
        Picture("transactions and known frauds per day", volume_plots.volumes(counted)),
        Picture("label maturity", volume_plots.maturity(counted.maturity)),
    )


def left_out(provided: Iterable[str]) -> tuple[LeftOut, ...]:
    """Declared inputs that cannot be computed from the canonical columns that a source provides, and why."""
    columns = frozenset(provided)
    declared: tuple[RowInput | Feature, ...] = (*ROW_INPUTS, *FEATURES)
    return tuple(LeftOut(i.name, tuple(sorted(i.inputs - columns))) for i in declared if not i.inputs <= columns)


def read_expectations(path: Path) -> ExpectationReport:
    """Reads a file written from `ExpectationReport.to_json`.

    Raises:
        ArtifactError: it is absent or something else.
    """
    raw = _read(path)
    try:
        return ExpectationReport(tuple(ExpectationResult(**result) for result in raw["results"]))
    except (KeyError, TypeError) as error:
        raise ArtifactError(f"{path} holds no expectation results ({error!r}); run the pipeline again") from error


def read_drift(path: Path) -> DriftReport:
    """Reads a file written from `DriftReport.to_json`.

    Raises:
        ArtifactError: it is absent or something else.
    """
    try:
        return DriftReport.from_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ArtifactError) as error:
        raise ArtifactError(f"{path} cannot be read ({error}); run the pipeline again") from error


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} cannot be read ({error}); run the pipeline again") from error
