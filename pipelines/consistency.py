"""Features as they were logged beside the decisions, compared with a batch recomputation of what the store was told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

from components.features import compute_features
from components.features.consistency import Consistency, consistency
from components.features.engine import needed_columns
from components.features.timeline import ARRIVAL, REPORTS, RUNS, causes, timeline
from components.ingest.canonical import ARROW_TYPES
from pipelines import console
from schemas.errors import ArtifactError, ConfigurationError
from schemas.features import FeatureSpec
from schemas.masking import mask
from schemas.transaction import COLUMNS, LABEL, SECOND_US
from serving.decisions.log import DecisionLog
from serving.decisions.reading import LabelReport, Observation, Span
from serving.features import LATENESS_S, Features
from serving.features.labelled import Labelled

_LABEL_COLUMNS = (LABEL, "label_time")
_IN_SPAN = pa.field("in_span", pa.bool_())


@dataclass(frozen=True)
class Findings:
    """What the job found.

    Attributes:
        decisions: how many there are in the span.
        unanswered: those of them without features, because the store did not answer in time; nothing to compare.
        history: transactions that count and were loaded, not decided.
        labels: reports that count, and labels of the history that came after the load.
        labels_ahead: labels of the history that have not come to the store.
        features: how each compares, by name.
    """

    decisions: int
    unanswered: int
    history: int
    labels: int
    labels_ahead: int
    features: Mapping[str, Consistency]

    @property
    def compared(self) -> int:
        return self.decisions - self.unanswered

    def above(self, rate: float) -> list[str]:
        """The features of which a larger share than this disagrees where it has to agree."""
        return [name for name, found in self.features.items() if found.strict.rate > rate]


def compare_decisions(
    decisions: Path,
    history: Sequence[pa.Table],
    spec: FeatureSpec,
    since_us: int,
    until_us: int,
    labelled: Sequence[Labelled] = (),
) -> Findings:
    """Compares the features of the decisions of a span.

    Args:
        decisions: the decision log.
        history: transactions that the store was loaded from, in canonical columns.
        spec: what the store computes.
        since_us: decided from then on, UTC microseconds since the Unix epoch.
        until_us: decided before.
        labelled: which runs brought labels of the history to the store, the load first; none where only a load did.

    Raises:
        ArtifactError: there is no such log, or its features are of another declaration.
        LogError: the features cannot be computed; see `compute_features`.
    """
    if not decisions.exists():
        raise ArtifactError(f"there is no decision log {decisions}; name the --workspace of a gateway that has decided")
    span = Span(since_us, until_us, spec.reach_s * SECOND_US)
    with closing(DecisionLog(decisions)) as log:
        console.say(f"reading {decisions}")
        decided, logged = _read_decisions(log.observations(span), spec)
        reports = _read_reports(log.label_reports(span))
    if not decided.num_rows:
        return Findings(0, 0, 0, 0, 0, {})
    of_span = decided.filter(decided[_IN_SPAN.name])
    oldest_us = pc.min(of_span["event_time"]).cast(pa.int64()).as_py()
    told = timeline(history, decided, reports, spec, oldest_us - span.reach_us, _runs(labelled))
    console.say(f"computing {len(spec.features)} features of {told.events.num_rows:,} transactions")
    why = causes(told, spec, LATENESS_S * SECOND_US)
    rows = pc.index_in(logged["transaction_id"], value_set=told.events["transaction_id"]).combine_chunks()
    computed = compute_features(told.events, spec).take(rows)
    places = rows.to_numpy()
    found = consistency(logged, computed, spec, {stream: of_all[places] for stream, of_all in why.items()})
    return Findings(
        decisions=of_span.num_rows,
        unanswered=of_span.num_rows - logged.num_rows,
        history=told.events.num_rows - decided.num_rows,
        labels=told.reports.num_rows,
        labels_ahead=told.labels_ahead,
        features=found,
    )


def write_metrics(findings: Findings, source: str, now_s: float, path: Path) -> None:
    """Writes gauges in Prometheus's text format, in one step, for node_exporter's textfile collector.

    Args:
        findings: what to write.
        source: whose features they are.
        now_s: the time of the run, in seconds since the Unix epoch.
        path: of the file; the collector wants the ending .prom.

    Raises:
        ConfigurationError: the file cannot be written.
    """
    registry = CollectorRegistry()

    def gauge(name: str, meaning: str, *labels: str) -> Gauge:
        return Gauge(f"fraudops_feature_{name}", meaning, ["source", *labels], registry=registry)

    gauge("consistency_time_seconds", "When the job ran.").labels(source).set(now_s)
    gauge("consistency_decisions", "Decisions that were looked at.").labels(source).set(findings.decisions)
    gauge("consistency_unanswered", "Of them, those without features.").labels(source).set(findings.unanswered)
    rows = gauge("compared_rows", "Decisions in which the feature has to agree.", "feature")
    mismatch = gauge("mismatch_ratio", "Share of them where batch computes another value.", "feature")
    missing = gauge("missing_ratio", "Share of them where batch alone has a value.", "feature")
    extra = gauge("extra_ratio", "Share of them where batch has no value.", "feature")
    apart = gauge("apart_rows", "Decisions in which the feature need not agree.", "feature", "cause")
    disagreeing = gauge("apart_disagreements", "Of them, those where it does not.", "feature", "cause")
    for name, found in findings.features.items():
        strict = found.strict
        rows.labels(source, name).set(strict.rows)
        for of_kind, count in ((mismatch, strict.mismatched), (missing, strict.missing), (extra, strict.extra)):
            of_kind.labels(source, name).set(count / strict.rows if strict.rows else 0.0)
        for cause, counts in found.apart.items():
            apart.labels(source, name, cause.name.lower()).set(counts.rows)
            disagreeing.labels(source, name, cause.name.lower()).set(counts.disagreements)
    try:
        write_to_textfile(str(path), registry)
    except OSError as error:
        raise ConfigurationError(
            f"--metrics-file {path} cannot be written ({error.strerror}); name a file in a folder that can be"
        ) from error


def _read_decisions(pages: Iterable[list[Observation]], spec: FeatureSpec) -> tuple[pa.Table, pa.Table]:
    """All decided transactions with when they came, and the features of those in the span; both in any order."""
    needed = needed_columns(spec)
    own = [pa.field(c.name, ARROW_TYPES[c.type]) for c in COLUMNS if c.name in needed and c.name not in _LABEL_COLUMNS]
    schema = pa.schema([*own, *ARRIVAL, _IN_SPAN])
    decided, logged = [schema.empty_table()], [_features_table([], spec)]
    for page in pages:
        transactions = pa.Table.from_pylist([one.transaction for one in page], pa.schema(own))
        arrival = [[getattr(one, field.name) for one in page] for field in (*ARRIVAL, _IN_SPAN)]
        decided.append(pa.table([*transactions.columns, *map(pa.array, arrival)], schema=schema))
        answers = [(one.transaction["transaction_id"], one.features) for one in page if one.features is not None]
        logged.append(_features_table(answers, spec))
    return pa.concat_tables(decided), pa.concat_tables(logged)


def _features_table(answers: Sequence[tuple[str, Features]], spec: FeatureSpec) -> pa.Table:
    """Logged features as columns, beside the ids of their transactions."""
    for transaction_id, features in answers:
        widths, expected = (len(features.numbers), len(features.texts)), (spec.numeric_width, spec.categorical_width)
        if widths != expected:
            raise ArtifactError(
                f"the decision on transaction {mask(transaction_id)!r} holds {widths[0]} numbers and {widths[1]} "
                f"texts, and the declaration has {expected[0]} and {expected[1]}: it is of another version or source; "
                "give --since with the time from which on this one decides"
            )
    rows = len(answers)
    numbers = np.array([features.numbers for _, features in answers], np.float64).reshape(rows, spec.numeric_width)
    texts = np.array([features.texts for _, features in answers], object).reshape(rows, spec.categorical_width)
    columns: dict[str, pa.Array] = {"transaction_id": pa.array([one for one, _ in answers], pa.string())}
    for inputs, values, of_one in ((spec.numeric, numbers, pa.float64()), (spec.categorical, texts, pa.string())):
        at = 0
        for declared in inputs:
            flat = pa.array(values[:, at : at + declared.width].ravel(), of_one)
            is_vector = declared.is_vector
            columns[declared.name] = pa.FixedSizeListArray.from_arrays(flat, declared.width) if is_vector else flat
            at += declared.width
    return pa.table(columns)


def _runs(labelled: Sequence[Labelled]) -> pa.Table:
    rows = [(*run.last, run.began_us, run.ended_us) for run in labelled]
    return pa.table([pa.array(c) for c in zip(*rows, strict=True)], schema=RUNS) if rows else RUNS.empty_table()


def _read_reports(pages: Iterable[list[LabelReport]]) -> pa.Table:
    tables = [REPORTS.empty_table()]
    for page in pages:
        columns = {
            "transaction_id": [report.transaction_id for report in page],
            "is_fraud": [report.is_fraud for report in page],
            "label_time": [report.label_time_us for report in page],
            "reported_us": [report.reported_us for report in page],
            "applied": [report.applied for report in page],
        }
        tables.append(pa.table(columns, schema=REPORTS))
    return pa.concat_tables(tables)
