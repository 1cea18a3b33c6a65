"""The card of a model version: what a risk manager needs in order to judge it, as HTML, JSON and short Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from components.comparison import Rival
from components.evidence import SplitEvidence
from components.gate import Reason, Verdict
from components.gathering import Gathered
from components.measures import Estimate
from components.pages import Picture, page
from schemas.thresholds import Thresholds
from schemas.transaction import DAY_S

# MLflow keeps 5,000 characters of a description.
MAX_LENGTH = 5_000
HTML_FILE, JSON_FILE = "model_card.html", "model_card.json"
_TEMPLATE = "model_card.html.j2"
_REASONS = 12


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What is said about a model version, once, for every form that it takes.

    Attributes:
        source: the mapping that the model was trained with.
        span: the time that its log covers.
        label_delay_s: after which a label counts as known.
        owner: who answers for the model; empty where nobody was named.
        rows: transactions by split.
        features: inputs of the model.
        left_out: declared features that the source could not give.
        found: what was measured.
        verdict: of the gates before registration.
        digests: SHA-256 by what they are of.
        code_version: of the code that trained it.
    """

    source: str
    span: str
    label_delay_s: int
    rows: Mapping[str, int]
    features: Sequence[str]
    found: Gathered
    verdict: Verdict
    left_out: Sequence[str] = ()
    owner: str = ""
    digests: Mapping[str, str] = field(default_factory=dict)
    code_version: str = ""

    @property
    def purpose(self) -> str:
        """What the model is for, in sentences."""
        return (
            "Scores a card transaction with the probability that it is fraud; thresholds turn the score into "
            f"PASS, REVIEW or BLOCK. Meant for transactions like those of source {self.source}."
        )

    @property
    def maturity(self) -> str:
        """How the labels came to be known."""
        return (
            f"Labels count as known {self.label_delay_s / DAY_S:g} days after the transaction; younger transactions "
            "were neither learnt from nor judged by. Splits are by time."
        )

    @property
    def limits(self) -> tuple[str, ...]:
        """What the evidence cannot vouch for."""
        test, small = self.found.test, [one.name for one in self.found.slices if not one.supported]
        said = [
            f"Judged on {test.days} days with {test.frauds:,} frauds; fraud that looks otherwise was not measured.",
            "Only what was reported as fraud counts as fraud.",
        ]
        if small:
            said.append(f"Too few transactions or frauds to be measured alone: {', '.join(small)}.")
        if self.left_out:
            said.append(f"Features that the source has no columns for: {', '.join(self.left_out)}.")
        statements = [statement for one in self.found.splits.values() for statement in one.statements]
        return (*said, *statements, *self.found.thresholds.statements)

    def to_json(self) -> str:
        """One JSON object: the texts, the settings, and every metric with its interval."""
        fields = {
            "purpose": self.purpose,
            "source": self.source,
            "data_span": self.span,
            "label_maturity": self.maturity,
            "owner": self.owner or None,
            "rows": dict(self.rows),
            "features": list(self.features),
            "left_out": list(self.left_out),
            "metrics": {
                split: {name: asdict(one) for name in evidence.metrics() if (one := evidence.estimate(name))}
                for split, evidence in self.found.splits.items()
            },
            "thresholds": asdict(self.found.thresholds),
            "other_models": [rival.fields() for rival in self.found.rivals],
            "slices": [one.fields() for one in self.found.slices],
            "footprint": asdict(self.found.footprint),
            "gate": json.loads(self.verdict.to_json()),
            "limits": list(self.limits),
            "digests": dict(self.digests),
            "code_version": self.code_version,
        }
        return json.dumps(fields, indent=2, ensure_ascii=False, allow_nan=False)

    def to_html(self, pictures: Sequence[Picture] = ()) -> str:
        """One page that needs nothing else."""
        return page(_TEMPLATE, card=self, found=self.found, shown=pictures)

    def to_markdown(self) -> str:
        """At most `MAX_LENGTH` characters."""
        evidence, thresholds = list(self.found.splits.values()), self.found.thresholds
        counts = ", ".join(f"{split} {count:,}" for split, count in self.rows.items())
        parts = [
            f"**Purpose.** {self.purpose}",
            f"**Data.** {self.span}. Transactions: {counts}. {self.maturity}",
            f"**Owner.** {self.owner}" if self.owner else "",
            _metrics_table(evidence),
            _rivals(self.found.rivals),
            _thresholds_table(evidence, thresholds),
            _slices(self.found),
            _gate(self.verdict),
            "\n".join(["**Limits.**", "", *(f"- {limit}" for limit in self.limits)]),
        ]
        text = "\n\n".join(part for part in parts if part)
        return text if len(text) <= MAX_LENGTH else text[: MAX_LENGTH - 1] + "…"


def _metrics_table(evidence: Sequence[SplitEvidence]) -> str:
    if not evidence:
        return ""
    lines = [
        "| split | transactions | frauds | average precision | ROC AUC | recall at 1 % false positives "
        "| calibration error | card precision@100 | saved share of fraud amount |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for one in evidence:
        at_one_percent = next((entry.recall for entry in one.recall_at_fpr if entry.false_positive_rate == 0.01), None)
        prevalence = "" if one.prevalence is None else f" ({one.prevalence:.2%})"
        cells = (
            one.split,
            f"{one.rows:,}",
            f"{one.frauds:,}{prevalence}",
            _estimate(one.estimate("average_precision")),
            _estimate(one.estimate("roc_auc")),
            _percent(at_one_percent),
            _number(one.expected_calibration_error, 4),
            _number(one.card_precision_100),
            _percent(one.saved_share),
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


def _rivals(rivals: Sequence[Rival]) -> str:
    if not rivals:
        return ""
    lines = ["| on test | average precision | this model's less it | cost of this model / its |", "|---|---|---|---|"]
    for rival in rivals:
        cells = (
            rival.name,
            _estimate(rival.measures.get("average_precision")),
            _estimate(rival.differences.get("average_precision")),
            _estimate(rival.cost_ratio, 2),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _slices(found: Gathered) -> str:
    """The slice in which fewest frauds are caught."""
    caught = {one.name: one.measures["review_recall"] for one in found.slices if "review_recall" in one.measures}
    if not caught:
        return ""
    name = min(caught, key=lambda one: caught[one].value)
    return f"**Slices.** {len(caught)} measured; fewest frauds are caught in {name}: {_share(caught[name])} at REVIEW."


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


def _estimate(one: Estimate | None, decimals: int = 3) -> str:
    if one is None or one.low is None:
        return _number(one.value if one else None, decimals)
    return f"{one.value:.{decimals}f} ({one.low:.{decimals}f} to {one.high:.{decimals}f})"


def _share(one: Estimate) -> str:
    return _percent(one.value) if one.low is None else f"{one.value:.1%} ({one.low:.1%} to {one.high:.1%})"


def _number(value: float | None, decimals: int = 3) -> str:
    return "-" if value is None else f"{value:.{decimals}f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
