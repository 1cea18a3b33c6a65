"""The typed configuration of a run: defaults in code, overridden by a YAML file, refused where it is wrong."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import yaml
from pydantic import TypeAdapter, ValidationError

from components.backtest import BacktestConfig
from components.baselines import BaselineConfig
from components.evaluation import EvaluationConfig
from components.expectations import SAMPLE_ROWS
from components.gathering import EvidenceConfig
from components.infra import InfraConfig
from components.model_gate import ModelGateConfig
from components.profiles.config import DriftConfig
from components.splits import SplitConfig
from components.thresholds import ThresholdConfig
from components.trainer import TrainingConfig
from components.tuning.config import TuningConfig
from schemas.acceptance import Acceptance, refuse_repeated
from schemas.errors import ConfigurationError

Kind = TypeVar("Kind")


@dataclass(frozen=True)
class RunConfig:
    """Everything about a run that is a choice and not a fact of the log.

    Attributes:
        expectation_sample_rows: rows of which the expectations are checked.
        transform_statistics: let Transform write statistics of the training rows before and behind it, too; they take
            longer than the transform graph.
        backtest: how `fraudops backtest` and `fraudops tune` use the rows before a moment.
        tuning: what `fraudops tune` tries of `training`.
        owner: who answers for the model, in one line; for its card.
        rules: the rule set beside which the model is to decide; None stands for the one that ships.
        accept: what stops of the checks people accept, each with who and why.
    """

    splits: SplitConfig = field(default_factory=SplitConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    thresholds: ThresholdConfig = field(default_factory=ThresholdConfig)
    baselines: BaselineConfig = field(default_factory=BaselineConfig)
    evidence: EvidenceConfig = field(default_factory=EvidenceConfig)
    model_gate: ModelGateConfig = field(default_factory=ModelGateConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    infra: InfraConfig = field(default_factory=InfraConfig)
    drift: DriftConfig = field(default_factory=DriftConfig)
    expectation_sample_rows: int = SAMPLE_ROWS
    transform_statistics: bool = False
    backtest: BacktestConfig = field(default_factory=BacktestConfig)
    tuning: TuningConfig = field(default_factory=TuningConfig)
    owner: str = ""
    rules: Path | None = None
    accept: tuple[Acceptance, ...] = ()

    def __post_init__(self) -> None:
        refuse_repeated(self.accept)
        if self.expectation_sample_rows < 1:
            raise ConfigurationError(f"expectation_sample_rows is {self.expectation_sample_rows}; it must be 1 or more")


def load(path: Path | None) -> RunConfig:
    """The configuration in a YAML file, or the defaults.

    Raises:
        ConfigurationError: the file is absent or not YAML, or a key or value in it is wrong.
    """
    return RunConfig() if path is None else read(RunConfig, path, "configuration")


def read(kind: type[Kind], path: Path, what: str) -> Kind:
    """What a YAML file says, as a dataclass; an empty file says nothing, and leaves the defaults.

    Args:
        kind: the dataclass.
        path: of the file.
        what: the file is, for messages.

    Raises:
        ConfigurationError: the file is absent or not YAML, or a key or value in it is wrong or missing.
    """
    raw = sections(path, what)
    _refuse_unknown(kind, raw, f"of {what} {path}")
    needed = [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]  # type: ignore[arg-type]
    if absent := [name for name in needed if name not in raw]:
        raise ConfigurationError(f"{what} {path} lacks {', '.join(absent)}")
    try:
        return TypeAdapter(kind).validate_python(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigurationError(f"{what} {path}: {where} is {first['input']!r}: {first['msg']}") from error
    except ConfigurationError as error:
        raise ConfigurationError(f"{what} {path}: {error}") from error


def sections(path: Path, what: str) -> dict[str, Any]:
    """What a YAML file says, by its outermost keys; see `read`.

    Raises:
        ConfigurationError: the file is absent or not YAML, or holds no keys.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigurationError(f"{what} {path} cannot be read: {error}") from error
    raw = {} if raw is None else raw
    if not isinstance(raw, dict):
        raise ConfigurationError(f"{what} {path} holds {type(raw).__name__}, not keys with values")
    return raw


def _refuse_unknown(kind: Any, raw: dict[str, Any], where: str) -> None:
    """A misspelt key must not silently leave a default in force; pydantic forbids extras on its own classes only.

    Args:
        kind: a dataclass.
        raw: what is to become one.
        where: ends the message's first part, such as `of configuration path/to/file`.

    Raises:
        ConfigurationError: a key is no field of the class, or of one in it.
    """
    known = {f.name for f in fields(kind)}
    for key in raw.keys() - known:
        raise ConfigurationError(f"unknown key {key!r} {where}; known: {', '.join(sorted(known))}")
    hints = get_type_hints(kind)
    for key, value in raw.items():
        inner = [one for one in (hints[key], *get_args(hints[key])) if is_dataclass(one)]
        if not inner or not isinstance(value, dict | list):
            continue
        if isinstance(value, dict) and get_origin(hints[key]) is not dict:
            _refuse_unknown(inner[0], value, f"in {key} {where}")
            continue
        for name, each in value.items() if isinstance(value, dict) else enumerate(value):
            if isinstance(each, dict):
                _refuse_unknown(inner[0], each, f"in {key}.{name} {where}")
