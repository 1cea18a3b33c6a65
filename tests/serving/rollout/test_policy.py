"""The rollout policy: defaults, what a file overrides, and everything that it must not say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from schemas.errors import ConfigurationError
from serving.rollout.policy import BootstrapLimits, CanaryStep, Limits, Policy, Step, load


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str], Policy]:
    """Loads a policy from its text."""

    def load_text(text: str) -> Policy:
        file = tmp_path / "policy.yaml"
        file.write_text(text, encoding="utf-8")
        return load(file)

    return load_text


def test_without_a_file_or_with_an_empty_one_the_defaults_hold(written: Callable[[str], Policy]) -> None:
    assert load(None) == Policy() == written("") == written("# nothing yet")
    assert [step.weight for step in Policy().canary] == [0.01, 0.05, 0.25, 0.5]


def test_a_file_overrides_what_it_names_down_to_seconds_and_dozens(written: Callable[[str], Policy]) -> None:
    policy = written(
        """
        shadow: {min_decisions: 24, min_seconds: 0.5}
        canary:
          - {weight: 0.2, min_decisions: 12, min_seconds: 0}
          - {weight: 0.6, min_decisions: 36, min_seconds: 1}
        limits: {max_block_ratio: 2, confidence: 0.95}
        bootstrap: {max_block_share: 0.1}
        """
    )
    assert policy == Policy(
        shadow=Step(24, 0.5),
        canary=(CanaryStep(12, 0, 0.2), CanaryStep(36, 1, 0.6)),
        limits=Limits(max_block_ratio=2, confidence=0.95),
        bootstrap=BootstrapLimits(max_block_share=0.1),
    )


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("shadows: 1", "shadows", "1"),
        ("limits: {max_blocks: 7}", "limits.max_blocks", "7"),
        ("canary: [{weight: 0.1, min_decisions: 5, min_seconds: 1, share: 9}]", "canary.0.share", "9"),
        ("shadow: {min_decisions: many, min_seconds: 1}", "shadow.min_decisions", "'many'"),
        ("shadow: {min_decisions: 0, min_seconds: 1}", "min_decisions", "0"),
        ("shadow: {min_decisions: 5, min_seconds: -2}", "min_seconds", "-2"),
        ("shadow: {min_decisions: 5}", "shadow.min_seconds", "required"),
        ("limits: {max_block_ratio: 0.5}", "max_block_ratio", "0.5"),
        ("limits: {max_failure_share: 1}", "max_failure_share", "1"),
        ("limits: {latency_budget_ms: 0}", "latency_budget_ms", "0"),
        ("limits: {confidence: .nan}", "confidence", "nan"),
        ("limits: {confidence: 1}", "confidence", "1"),
        ("limits: {card_correlation: 1.5}", "card_correlation", "1.5"),
        ("bootstrap: {max_alert_share: 0}", "max_alert_share", "0"),
        ("canary: []", "canary", "[]"),
        ("canary: [{weight: 1, min_decisions: 5, min_seconds: 1}]", "weight", "1"),
        (
            """
            canary:
              - {weight: 0.2, min_decisions: 5, min_seconds: 1}
              - {weight: 0.1, min_decisions: 5, min_seconds: 1}
            """,
            "canary",
            "[0.2, 0.1]",
        ),
    ],
)
def test_what_is_wrong_is_refused_by_key_and_value(
    written: Callable[[str], Policy], text: str, key: str, value: str
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        written(text)
    message = str(refused.value)
    assert "policy.yaml" in message
    assert key in message
    assert value in message


@pytest.mark.parametrize("text", ["[1, 2]", "a: [", "3"])
def test_a_file_without_keys_is_refused(written: Callable[[str], Policy], text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"policy\.yaml"):
        written(text)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="absent"):
        load(tmp_path / "absent.yaml")
