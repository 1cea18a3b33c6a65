"""How a rollout proceeds: its steps, what each needs before the next, and what a candidate may not exceed."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import yaml
from pydantic import TypeAdapter, ValidationError

from schemas.errors import ConfigurationError

# pydantic reads it from plain dataclasses too: a misspelt key must not silently leave a default in force.
_CLOSED: dict[str, Any] = {"extra": "forbid"}


def _require(name: str, value: object, holds: bool, wanted: str) -> None:
    if not holds:
        raise ConfigurationError(f"{name} is {value!r}; give {wanted}")


@dataclass(frozen=True)
class Step:
    """What has to be seen before a step can be passed; enough evidence to fail it needs neither.

    Attributes:
        min_decisions: of the candidate.
        min_seconds: since the step began.
    """

    __pydantic_config__: ClassVar[Any] = _CLOSED

    min_decisions: int
    min_seconds: float

    def __post_init__(self) -> None:
        _require("min_decisions", self.min_decisions, self.min_decisions >= 1, "1 or more")
        _require("min_seconds", self.min_seconds, 0 <= self.min_seconds < math.inf, "0 or more seconds")


@dataclass(frozen=True)
class CanaryStep(Step):
    """A step in which the candidate decides for some of the cards.

    Attributes:
        weight: their share, in (0, 1).
    """

    weight: float

    def __post_init__(self) -> None:
        super().__post_init__()
        _require("weight", self.weight, 0 < self.weight < 1, "a share between 0 and 1, both excluded")


@dataclass(frozen=True)
class Limits:
    """What a candidate may not exceed, beside the stable model.

    Attributes:
        max_failure_share: of the candidate's decisions, beyond the share that the stable model fails meanwhile.
        max_latency_ratio: the candidate's latency to the stable model's, at the quantile that `judge` chooses.
        latency_grace_ms: a latency up to this is never too slow beside the stable model's.
        latency_budget_ms: a latency beyond this is too slow whatever the stable model's is.
        max_block_ratio: between the shares of transactions that the two would block, the greater to the smaller: a
            model that stops blocking is as wrong as one that blocks everything.
        max_alert_ratio: the same for what is reviewed or blocked.
        confidence: with which a limit must be known to be exceeded before a candidate fails for it.  It holds for all
            looks at a step together, however many there are.
        card_correlation: how alike the decisions on one card are: their intraclass correlation.  0 counts every
            decision in full, 1 counts every card once.  The frauds of a simulated log have 0.26 over spans of 6
            transactions per card, 0.16 over spans of 22.
    """

    __pydantic_config__: ClassVar[Any] = _CLOSED

    max_failure_share: float = 0.01
    max_latency_ratio: float = 2.0
    latency_grace_ms: float = 5.0
    latency_budget_ms: float = 50.0
    max_block_ratio: float = 1.5
    max_alert_ratio: float = 1.5
    confidence: float = 0.99
    card_correlation: float = 0.2

    def __post_init__(self) -> None:
        _require("max_failure_share", self.max_failure_share, 0 < self.max_failure_share < 1, "between 0 and 1")
        for name in ("max_latency_ratio", "max_block_ratio", "max_alert_ratio"):
            value = getattr(self, name)
            _require(name, value, 1 < value < math.inf, "a ratio above 1")
        _require("latency_grace_ms", self.latency_grace_ms, 0 <= self.latency_grace_ms < math.inf, "0 or more ms")
        _require("latency_budget_ms", self.latency_budget_ms, 0 < self.latency_budget_ms < math.inf, "above 0 ms")
        _require("confidence", self.confidence, 0.5 <= self.confidence < 1, "from 0.5 to below 1")
        _require("card_correlation", self.card_correlation, 0 <= self.card_correlation <= 1, "from 0 to 1")


@dataclass(frozen=True)
class BootstrapLimits:
    """What the first model may not exceed, which no stable model stands beside.

    Attributes:
        max_block_share: of all transactions.
        max_alert_share: the share that is reviewed or blocked.
    """

    __pydantic_config__: ClassVar[Any] = _CLOSED

    max_block_share: float = 0.02
    max_alert_share: float = 0.05

    def __post_init__(self) -> None:
        for name in ("max_block_share", "max_alert_share"):
            value = getattr(self, name)
            _require(name, value, 0 < value < 1, "a share between 0 and 1, both excluded")


@dataclass(frozen=True)
class Policy:
    """The whole of it; the defaults are meant for production.

    Attributes:
        shadow: the first step, in which the candidate decides nothing.
        canary: the steps behind it, each with a greater weight than the one before.
    """

    __pydantic_config__: ClassVar[Any] = _CLOSED

    shadow: Step = Step(min_decisions=5_000, min_seconds=600)
    canary: tuple[CanaryStep, ...] = (
        CanaryStep(weight=0.01, min_decisions=1_000, min_seconds=600),
        CanaryStep(weight=0.05, min_decisions=2_000, min_seconds=600),
        CanaryStep(weight=0.25, min_decisions=5_000, min_seconds=900),
        CanaryStep(weight=0.50, min_decisions=10_000, min_seconds=900),
    )
    limits: Limits = field(default_factory=Limits)
    bootstrap: BootstrapLimits = field(default_factory=BootstrapLimits)

    def __post_init__(self) -> None:
        weights = [step.weight for step in self.canary]
        _require("canary", weights, bool(weights), "at least one step")
        _require(
            "canary", weights, weights == sorted(set(weights)), "steps whose weights grow, or cards would change arm"
        )


def load(path: Path | None) -> Policy:
    """The policy in a YAML file, or the defaults; a key that is left out keeps its default.

    Raises:
        ConfigurationError: the file is absent or not YAML, or a key or value in it is wrong.
    """
    if path is None:
        return Policy()
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigurationError(f"rollout policy {path} cannot be read: {error}") from error
    if raw is None:
        return Policy()
    if not isinstance(raw, dict):
        raise ConfigurationError(f"rollout policy {path} holds {type(raw).__name__}, not keys with values")
    try:
        return TypeAdapter(Policy).validate_python(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigurationError(f"rollout policy {path}: {where} is {first['input']!r}: {first['msg']}") from error
    except ConfigurationError as error:
        raise ConfigurationError(f"rollout policy {path}: {error}") from error
