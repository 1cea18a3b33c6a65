"""The configuration of a run: defaults, what a file overrides, and everything that it must not say."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from components.profiles import LayoutConfig
from components.profiles.config import DriftConfig
from components.steps.parameters import from_parameter, to_parameter
from components.trainer import TrainingConfig
from components.tuning.config import Range, SearchSpace
from pipelines.config import RunConfig, load
from schemas.acceptance import Acceptance
from schemas.errors import ConfigurationError


@pytest.fixture
def written(tmp_path):
    """Loads a configuration from its text."""

    def load_text(text: str) -> RunConfig:
        file = tmp_path / "run.yaml"
        file.write_text(dedent(text), encoding="utf-8")
        return load(file)

    return load_text


def test_without_a_file_or_with_an_empty_one_the_defaults_hold(written):
    assert load(None) == RunConfig() == written("") == written("# nothing yet")


def test_a_file_overrides_what_it_names_and_nothing_else(written):
    config = written(
        """
        splits: {warm_up_s: 0}
        training:
          units: [64, 32]
          learning_rate: 5e-4
          logical_cpu_devices: 2
        drift: {layout: {bins: 20}, severities: {psi: stop}}
        expectation_sample_rows: 10
        """
    )
    assert config.splits.warm_up_s == 0
    assert config.splits.test_share == RunConfig().splits.test_share
    assert config.training == TrainingConfig(units=(64, 32), learning_rate=5e-4, logical_cpu_devices=2)
    assert config.drift.layout == LayoutConfig(bins=20)
    assert config.drift.severities == {"psi": "stop"}
    assert config.drift.calibration == RunConfig().drift.calibration
    assert config.thresholds == RunConfig().thresholds
    assert config.expectation_sample_rows == 10


def test_what_a_search_tries_is_configured_setting_by_setting(written):
    space = written(
        """
        tuning:
          space: {block: null, units: [[64], [32, 16]], dropout: {low: 0, high: 0.2}, positive_weight: [null, 10]}
        """
    ).tuning.space
    assert space.searched().keys() == SearchSpace().searched().keys() - {"block"}
    assert (space.units, space.dropout, space.positive_weight) == (((64,), (32, 16)), Range(0.0, 0.2), (None, 10.0))
    assert space.learning_rate == SearchSpace().learning_rate


@pytest.mark.parametrize(
    "text, where, key, known",
    [
        ("epochs: 3", "run.yaml", "epochs", "training"),
        ("training: {epoch: 3}", "training", "epoch", "epochs"),
        ("drift: {psi: 0.25}", "drift", "psi", "severities"),
        ("accept: [{check: drift, subjct: channel, reason: why, by: m}]", "in accept.0", "subjct", "subject"),
        ("tuning: {space: {dropouts: [0.1]}}", "in space in tuning", "dropouts", "dropout"),
        ("tuning: {space: {dropout: {lo: 0.1, high: 0.2}}}", "in dropout in space", "lo", "low"),
        ("drift: {support: {bin: 1}}", "in support in drift", "bin", "rows_per_bin"),
        ("1: 2", "run.yaml", "1", "splits"),
    ],
)
def test_an_unknown_key_is_refused_at_any_depth_and_the_known_ones_are_named(written, text, where, key, known):
    with pytest.raises(ConfigurationError) as caught:
        written(text)
    message = str(caught.value)
    assert "run.yaml" in message and where in message
    assert f"unknown key {key!r}" in message.replace("unknown key 1", "unknown key '1'")
    assert known in message.partition("known: ")[2]


@pytest.mark.parametrize(
    "text, where, value",
    [
        ("training: {epochs: many}", "training.epochs", "'many'"),
        ("training: {epochs: 1.5}", "training.epochs", "1.5"),
        ("training: {units: 8}", "training.units", "8"),
        ("training: {units: [8, x]}", "training.units.1", "'x'"),
        ("training: 7", "training", "7"),
        ("training:", "training", "None"),
        ("drift: {severities: {psi: shout}}", "drift.severities.psi", "'shout'"),
        ("drift: {severities: {psy: stop}}", "drift.severities.psy.[key]", "'psy'"),
        ("tuning: {space: {schedule: [steps]}}", "tuning.space.schedule.0", "'steps'"),
        ("expectation_sample_rows: []", "expectation_sample_rows", "[]"),
    ],
)
def test_a_value_of_another_type_is_refused_with_its_place(written, text, where, value):
    with pytest.raises(ConfigurationError) as caught:
        written(text)
    assert f"run.yaml: {where} is {value}: " in str(caught.value)


@pytest.mark.parametrize(
    "text, complaint",
    [
        ("training: {epochs: -1}", "training epochs is -1"),
        ("training: {learning_rate: .nan}", "training learning_rate is nan"),
        ("training: {positive_weight: 0}", "training positive_weight is 0"),
        ("training: {logical_cpu_devices: 0}", "training logical_cpu_devices is 0"),
        ("splits: {warm_up_s: -1}", "splits warm_up_s is -1"),
        ("splits: {test_share: 1.0}", "splits validation_share 0.15 and test_share 1.0"),
        ("thresholds: {alert_budget: -0.1}", "thresholds alert_budget is -0.1"),
        ("evaluation: {min_average_precision: 2}", "evaluation min_average_precision is 2"),
        ("evaluation: {max_loss: -0.1}", "evaluation max_loss is -0.1"),
        ("tuning: {space: {learning_rate: {low: 0.1, high: 0.01}}}", "learning_rate runs from 0.1 to 0.01"),
        ("drift: {layout: {bins: 1}}", "bins is 1"),
        ("drift: {calibration: {headroom: 0.5}}", "headroom 0.5"),
        ("drift: {support: {frauds: 0}}", "frauds is 0"),
        ("expectation_sample_rows: 0", "expectation_sample_rows is 0"),
    ],
)
def test_a_value_out_of_range_is_refused_and_the_file_is_named(written, text, complaint):
    with pytest.raises(ConfigurationError, match=r"run\.yaml: ") as caught:
        written(text)
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    "text, complaint",
    [
        ("accept: [{check: drift, reason: why}]", "accept.0.by"),
        ("accept: [{check: weather, reason: rain, by: m}]", "there is no check 'weather'"),
        ("accept: [{check: drift, reason: a, by: m}, {check: drift, reason: b, by: n}]", "more than once"),
    ],
)
def test_what_is_no_acceptance_is_refused(written, text, complaint):
    with pytest.raises(ConfigurationError) as caught:
        written(text)
    assert complaint in str(caught.value)


def test_acceptances_of_a_file_say_who_and_why(written):
    config = written("accept: [{check: drift, subject: channel, reason: a new app, by: m.keller}]")
    assert config.accept == (Acceptance("drift", "a new app", "m.keller", "channel"),)


@pytest.mark.parametrize("text", ["[1, 2]", "[]", "just words", "3", "false"])
def test_a_file_that_holds_no_keys_is_refused(written, text):
    with pytest.raises(ConfigurationError, match="not keys with values"):
        written(text)


@pytest.mark.parametrize("text", ["a: [", "a: b: c", "!!python/object:os.system {}"])
def test_a_file_that_is_not_yaml_is_refused(written, text):
    with pytest.raises(ConfigurationError, match=r"run\.yaml cannot be read"):
        written(text)


def test_a_file_that_is_absent_or_not_text_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match=r"none\.yaml cannot be read"):
        load(tmp_path / "none.yaml")
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(ConfigurationError, match=r"binary\.yaml cannot be read"):
        load(binary)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load(Path(tmp_path))


def test_settings_reach_a_step_as_they_were_and_equal_ones_as_equal_text(written):
    config = written("training: {units: [8], positive_weight: 2.5}").training
    assert from_parameter(TrainingConfig, to_parameter(config)) == config
    assert to_parameter(config) == to_parameter(TrainingConfig(positive_weight=2.5, units=(8,)))
    assert to_parameter(config) != to_parameter(TrainingConfig(units=(8,)))


def test_nested_settings_reach_a_step_as_they_were(written):
    drift = written("drift: {layout: {segment_columns: [channel]}, severities: {volume_factor: stop}}").drift
    assert from_parameter(DriftConfig, to_parameter(drift)) == drift
    assert to_parameter(DriftConfig()) != to_parameter(drift)
