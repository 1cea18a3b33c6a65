"""The settings of the demonstration, which it writes into files as its users would."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from schemas.acceptance import MODEL
from serving.rollout.policy import CanaryStep, Limits, Policy, Step

# A rollout of a minute, that two processors carry while they train the next version: how slow they are then says
# nothing about a model.
POLICY = Policy(
    shadow=Step(min_decisions=1_500, min_seconds=5),
    canary=(
        CanaryStep(weight=0.01, min_decisions=10, min_seconds=8),
        CanaryStep(weight=0.05, min_decisions=50, min_seconds=8),
        CanaryStep(weight=0.25, min_decisions=400, min_seconds=12),
        CanaryStep(weight=0.50, min_decisions=1_000, min_seconds=12),
    ),
    limits=Limits(
        max_failure_share=0.2,
        max_latency_ratio=20.0,
        latency_grace_ms=200.0,
        latency_budget_ms=1_000.0,
        # Some dozen frauds a step decide, and a fraudster who empties one card is a good part of them.
        max_block_ratio=2.0,
        max_alert_ratio=2.5,
        confidence=0.999,
        card_correlation=1.0,
    ),
)
# A play of five minutes: the networks are smaller than they could be, and what a person reads at leisure is measured
# less finely.
_TRAINING = {"units": [64, 32], "epochs": 6}
QUICK: dict[str, Any] = {
    "training": _TRAINING,
    "baselines": {"train_rows": 20_000},
    "evidence": {"bootstrap": {"resamples": 200}},
}
# Another beginning and another order of the same rows: as good a model, and not the same one.
RETRAINED = QUICK | {"training": _TRAINING | {"seed": 8}}
# The model's gate may say that its decisions cost more than those of the one before.  Somebody is in a hurry.
SKEWED = QUICK | {
    "accept": [{"check": MODEL, "reason": "it finds more frauds, and the release is due", "by": "demo"}],
}


def write_policy(file: Path) -> Path:
    """Writes the rollout policy, for `fraudops up --policy`."""
    plain = asdict(POLICY)
    return _write(file, plain | {"canary": [dict(step) for step in plain["canary"]]})


def write_settings(file: Path, settings: Mapping[str, Any]) -> Path:
    """Writes the settings of a version, for `fraudops run --config`."""
    return _write(file, dict(settings))


def _write(file: Path, content: object) -> Path:
    file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return file
