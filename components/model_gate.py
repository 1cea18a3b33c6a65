"""The gate between a trained model and the registry: floors, the champion, slices, calibration, and what it takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from components.comparison import CHAMPION, Rival
from components.evidence import SplitEvidence
from components.footprint import Footprint
from components.gate import Reason, Severity
from components.gathering import Gathered
from components.slices import COMPARED, SliceEvidence
from schemas.acceptance import MODEL
from schemas.errors import ConfigurationError
from schemas.thresholds import Thresholds

_MIB = 1024 * 1024
_WORDS = {"average_precision": "average precision", "review_recall": "recall at REVIEW"}


@dataclass(frozen=True)
class ModelGateConfig:
    """Bounds that a model must keep on the test split before it may be registered.

    Where there is an interval, a model is stopped only if all of it lies beyond the bound: what a few cards more or
    less would change is no reason.

    Attributes:
        min_roc_auc: the floor of ROC AUC.
        min_saved_share: of the frauds' amount, what has to be left when reviews and declines are paid.
        max_average_precision_loss: against the champion.
        max_cost_rise: expected cost over the champion's, less 1.
        min_slice_part: part of the champion's average precision, and of its recall at REVIEW, in each slice.
        max_calibration_error: of the expected calibration error.
        max_calibration_factor: between mean score and prevalence, either way.
        max_size_mib: of the SavedModel.
        max_latency_ms: of a single row, 99 calls of 100, in the process that judges it.
    """

    min_roc_auc: float = 0.7
    min_saved_share: float = 0.0
    max_average_precision_loss: float = 0.01
    max_cost_rise: float = 0.05
    min_slice_part: float = 0.5
    max_calibration_error: float = 0.02
    max_calibration_factor: float = 2.0
    max_size_mib: float = 256.0
    max_latency_ms: float = 50.0

    def __post_init__(self) -> None:
        for name in ("min_roc_auc", "max_average_precision_loss", "min_slice_part", "max_calibration_error"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigurationError(f"model_gate {name} is {getattr(self, name)}; it must be 0 or more, at most 1")
        if self.min_saved_share > 1 or self.max_cost_rise < 0 or self.max_calibration_factor < 1:
            raise ConfigurationError(
                f"model_gate min_saved_share is {self.min_saved_share}, max_cost_rise {self.max_cost_rise}, "
                f"max_calibration_factor {self.max_calibration_factor}; at most 1, 0 or more, and 1 or more are allowed"
            )
        if self.max_size_mib <= 0 or self.max_latency_ms <= 0:
            raise ConfigurationError(
                f"model_gate max_size_mib is {self.max_size_mib}, max_latency_ms {self.max_latency_ms}; use more than 0"
            )


def judge(found: Gathered, config: ModelGateConfig) -> tuple[Reason, ...]:
    """What speaks against a model; nothing where nothing does."""
    champion = next((rival for rival in found.rivals if rival.name == CHAMPION), None)
    return (
        *_floors(found.test, config),
        *_calibration(found.test, config),
        *(_against(champion, config) if champion else ()),
        *_collapses(found.slices, config),
        *_takes(found.footprint, config),
        *_promises(found.test, found.thresholds),
        *_beaten_by(found.rivals),
    )


def _reason(severity: Severity, subject: str, message: str, observed: float | None, limit: float | None) -> Reason:
    return Reason(MODEL, severity, subject, message, observed, limit)


def _floors(test: SplitEvidence, config: ModelGateConfig) -> Iterator[Reason]:
    if test.average_precision is None:
        message = (
            f"the model cannot be judged: {' '.join(test.statements)}; train on a log with frauds in its last weeks"
        )
        yield Reason(MODEL, "stop", "test", message, acceptable=False)
        return
    auc = test.estimate("roc_auc")
    if auc and auc.value < config.min_roc_auc:
        yield _reason(
            "stop", "roc_auc", f"ROC AUC on test is {auc.value:.3f}, below the floor of {config.min_roc_auc:.3f}",
            auc.value, config.min_roc_auc,
        )  # fmt: skip
    saved = test.estimate("saved_share")
    if saved and _most(saved.high, saved.value) < config.min_saved_share:
        yield _reason(
            "stop", "saved_share",
            f"alerts on test save {saved.value:.1%} of the frauds' amount when reviews and declines are paid, at most "
            f"{_most(saved.high, saved.value):.1%}; {config.min_saved_share:.1%} are asked for",
            saved.value, config.min_saved_share,
        )  # fmt: skip


def _calibration(test: SplitEvidence, config: ModelGateConfig) -> Iterator[Reason]:
    error, factor = test.estimate("expected_calibration_error"), test.estimate("calibration_ratio")
    if error and _least(error.low, error.value) > config.max_calibration_error:
        yield _reason(
            "stop", "calibration_error",
            f"expected calibration error on test is {error.value:.4f}; {config.max_calibration_error:.4f} is allowed",
            error.value, config.max_calibration_error,
        )  # fmt: skip
    bound = config.max_calibration_factor
    if factor and (_least(factor.low, factor.value) > bound or _most(factor.high, factor.value) < 1 / bound):
        yield _reason(
            "stop", "calibration_ratio",
            f"the mean score on test is {factor.value:.2f} times the share of frauds; between {1 / bound:.2f} and "
            f"{bound:.2f} is allowed",
            factor.value, bound,
        )  # fmt: skip


def _against(champion: Rival, config: ModelGateConfig) -> Iterator[Reason]:
    lost, cost = champion.differences.get("average_precision"), champion.cost_ratio
    if lost and _most(lost.high, lost.value) < -config.max_average_precision_loss:
        yield _reason(
            "stop", "champion average_precision",
            f"average precision on test is {-lost.value:.4f} below the champion's, at least "
            f"{-_most(lost.high, lost.value):.4f} by samples of cards; {config.max_average_precision_loss:.4f} may go",
            lost.value, -config.max_average_precision_loss,
        )  # fmt: skip
    if cost and _least(cost.low, cost.value) > 1 + config.max_cost_rise:
        yield _reason(
            "stop", "champion cost",
            f"decisions on test cost {cost.value:.2f} times what the champion's do, at least "
            f"{_least(cost.low, cost.value):.2f} by samples of cards; {1 + config.max_cost_rise:.2f} is allowed",
            cost.value, 1 + config.max_cost_rise,
        )  # fmt: skip


def _collapses(slices: Sequence[SliceEvidence], config: ModelGateConfig) -> Iterator[Reason]:
    for one in slices:
        for name in COMPARED:
            part = one.ratios.get(name)
            if part and part.high is not None and part.high < config.min_slice_part:
                yield _reason(
                    "stop", f"slice {one.name}",
                    f"among the {one.rows:,} transactions of {one.name}, {one.frauds:,} of them frauds, {_WORDS[name]} "
                    f"is {part.value:.2f} of the champion's, at most {part.high:.2f} by samples of cards; "
                    f"{config.min_slice_part:.2f} is allowed",
                    part.value, config.min_slice_part,
                )  # fmt: skip


def _takes(footprint: Footprint, config: ModelGateConfig) -> Iterator[Reason]:
    mib = footprint.size_bytes / _MIB
    if mib > config.max_size_mib:
        yield _reason(
            "stop", "size", f"the SavedModel has {mib:,.1f} MiB; {config.max_size_mib:,.1f} are allowed",
            mib, config.max_size_mib,
        )  # fmt: skip
    if footprint.latency_p99_ms > config.max_latency_ms:
        yield _reason(
            "stop", "latency",
            f"99 of 100 rows take up to {footprint.latency_p99_ms:.2f} ms; {config.max_latency_ms:.2f} is allowed",
            footprint.latency_p99_ms, config.max_latency_ms,
        )  # fmt: skip


def _promises(test: SplitEvidence, thresholds: Thresholds) -> Iterator[Reason]:
    """What the thresholds were chosen for on validation, and do not keep on test."""
    share, precision = test.estimate("review_alert_share"), test.estimate("block_precision")
    if share and _least(share.low, share.value) > thresholds.alert_budget:
        yield _reason(
            "warn", "alert_budget",
            f"{share.value:.2%} of transactions on test are alerted on; the budget is {thresholds.alert_budget:.2%}",
            share.value, thresholds.alert_budget,
        )  # fmt: skip
    if precision and _most(precision.high, precision.value) < thresholds.block_precision:
        yield _reason(
            "warn", "block_precision",
            f"{precision.value:.1%} of what is blocked on test are frauds; {thresholds.block_precision:.1%} is wanted",
            precision.value, thresholds.block_precision,
        )  # fmt: skip


def _beaten_by(rivals: Sequence[Rival]) -> Iterator[Reason]:
    for rival in rivals:
        lost = rival.differences.get("average_precision")
        if rival.name != CHAMPION and lost and lost.high is not None and lost.high < 0:
            theirs = rival.measures["average_precision"].value
            yield _reason(
                "warn", rival.name,
                f"{rival.name} on the same features and rows reach an average precision of {theirs:.4f} on test, "
                f"{-lost.value:.4f} more than the network",
                lost.value, 0.0,
            )  # fmt: skip


def _most(high: float | None, value: float) -> float:
    return value if high is None else high


def _least(low: float | None, value: float) -> float:
    return value if low is None else low
