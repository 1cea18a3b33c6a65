"""The files that the demonstration writes are read back by those they are meant for."""

from pathlib import Path

from pipelines.config import load
from pipelines.demo.settings import POLICY, QUICK, RETRAINED, SKEWED, write_policy, write_settings
from schemas.acceptance import MODEL
from serving.rollout import policy


def test_the_policy_is_read_back_as_it_is(tmp_path: Path) -> None:
    assert policy.load(write_policy(tmp_path / "policy.yaml")) == POLICY


def test_versions_differ_in_how_they_begin_and_in_what_somebody_accepts(tmp_path: Path) -> None:
    first, retrained, skewed = (
        load(write_settings(tmp_path / "settings.yaml", settings)) for settings in (QUICK, RETRAINED, SKEWED)
    )
    assert retrained.training != first.training == skewed.training
    assert (retrained.evidence, retrained.accept) == (first.evidence, ())
    assert [(one.check, one.subject) for one in skewed.accept] == [(MODEL, None)]
