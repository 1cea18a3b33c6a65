"""The short description of a model version: what a risk manager needs in order to judge it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from components.evidence import SplitEvidence
from components.gate import Reason, Verdict
from schemas.thresholds import Thresholds

# MLflow keeps 5,000 characters of a description.
MAX_LENGTH = 5_000
_REASONS = 12


def describe(
    source: str,
    span: str,
    rows: Mapping[str, int],
    evidence: Sequence[SplitEvidence],
    thresholds: Thresholds,
    verdict: Verdict,
    left_out: Sequence[str] = (),
) -> str:
    """Markdown of at most `MAX_LENGTH` characters.

    Args:
        source: the mapping that the model was trained with.
        span: the time that its log covers.
        rows: transactions by split.
        evidence: of the splits it was measured on.
        thresholds: what it travels with.
        verdict: of the gates before registration.
        left_out: declared features that the source could not give.
    """
    counts = ", ".join(f"{split} {count:,}" for split, count in rows.items())
    parts = [
        "**Purpose.** Scores a card transaction with the probability that it is fraud; thresholds turn the score into "
        f"PASS, REVIEW or BLOCK. Meant for transactions like those of source `{source}`.",
        f"**Data.** {span}. Transactions: {counts}. Splits by time; labels only as far as they were known.",
        _metrics_table(evidence),
        *(f"> {statement}" for one in evidence for statement in one.statements),
        _thresholds_table(evidence, thresholds),
        *(f"> {statement}" for statement in thresholds.statements),
        _gate(verdict),
    ]
    if left_out:
        parts.append(f"**Left out.** Features that the source has no columns for: {', '.join(left_out)}.")
    text = "\n\n".join(part for part in parts if part)
    return text if len(text) <= MAX_LENGTH else text[: MAX_LENGTH - 1] + "…"


def _metrics_table(evidence: Sequence[SplitEvidence]) -> str:
    if not evidence:
        return ""
    lines = [
        "| split | transactions | frauds | average precision | ROC AUC | recall at 1 % false positives "
        "| calibration error | card precision@100 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in evidence:
        at_one_percent = next((entry.recall for entry in one.recall_at_fpr if entry.false_positive_rate == 0.01), None)
        prevalence = "" if one.prevalence is None else f" ({one.prevalence:.2%})"
        cells = (
            one.split,
            f"{one.rows:,}",
            f"{one.frauds:,}{prevalence}",
            _number(one.average_precision),
            _number(one.roc_auc),
            _percent(at_one_percent),
            _number(one.expected_calibration_error, 4),
            _number(one.card_precision_100),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _thresholds_table(evidence: Sequence[SplitEvidence], thresholds: Thresholds) -> str:
    lines = [
        f"**Thresholds**, chosen on validation for at most {thresholds.alert_budget:.2%} of transactions alerted and "
        f"{thresholds.block_precision:.0%} frauds among those blocked:",
        "",
        "| outcome | from score | on | alerts | that are frauds | frauds caught | value caught |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in evidence:
        for point in one.operating_points:
            cells = (
                point.name.upper(),
                f"{point.threshold:.4g}",
                one.split,
                f"{point.alerts:,} ({point.alert_share:.2%})",
                _percent(point.precision),
                _percent(point.recall),
                _percent(point.value_recall),
            )
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) if len(lines) > 4 else ""


def _gate(verdict: Verdict) -> str:
    lines = [f"**Gate.** {'Passed' if verdict.passed else 'Failed'}{'.' if not verdict.reasons else ', and it says:'}"]
    if verdict.reasons:
        lines.append("")
        lines += [_line(reason) for reason in verdict.reasons[:_REASONS]]
    if len(verdict.reasons) > _REASONS:
        lines.append(f"- and {len(verdict.reasons) - _REASONS} more; see the report")
    if verdict.acceptances:
        lines += ["", "**Accepted.** Checks would have stopped this run, and people let it go on:", ""]
        lines += [f"- {one.name}, by {one.by} at {one.at}: {one.reason}" for one in verdict.acceptances]
    return "\n".join(lines)


def _line(reason: Reason) -> str:
    accepted = f" (accepted by {reason.accepted.by})" if reason.accepted else ""
    return f"- {reason.severity}, {reason.check}: {reason.message}{accepted}"


def _number(value: float | None, decimals: int = 3) -> str:
    return "-" if value is None else f"{value:.{decimals}f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
