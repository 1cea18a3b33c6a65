"""The files that the demonstration writes are read back by those they are meant for."""

from pathlib import Path

from pipelines.config import RunConfig, load
from pipelines.demo.settings import POLICY, write_policy, write_retraining
from serving.rollout import policy


def test_the_policy_is_read_back_as_it_is(tmp_path: Path) -> None:
    assert policy.load(write_policy(tmp_path / "policy.yaml")) == POLICY


def test_retraining_differs_from_the_usual_settings_in_training_alone(tmp_path: Path) -> None:
    config = load(write_retraining(tmp_path / "retraining.yaml"))
    assert config.training != RunConfig().training
    assert RunConfig(training=config.training) == config
