"""Configurations as TensorFlow Serving writes them."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from schemas.errors import ConfigurationError
from serving.model_server.config import Every, Latest, ModelSettings, Specific, parse_config, read_config_file
from serving.model_server.status import Refusal

MODEL = 'name: "fraud" base_path: "/models/fraud" model_platform: "tensorflow"'


def parse(text: str) -> tuple[ModelSettings, ...]:
    return parse_config(text_format.Parse(text, model_server_config_pb2.ModelServerConfig()))


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("", Latest(1)),
        ("model_version_policy { latest {} }", Latest(1)),
        ("model_version_policy { latest { num_versions: 3 } }", Latest(3)),
        ("model_version_policy { all {} }", Every()),
        ("model_version_policy { specific { versions: 2 versions: 5 } }", Specific(frozenset({2, 5}))),
    ],
)
def test_every_policy_is_read(text: str, policy: object):
    [model] = parse(f"model_config_list {{ config {{ {MODEL} {text} }} }}")
    assert (model.name, model.base_path, model.policy) == ("fraud", Path("/models/fraud"), policy)


def test_labels_are_read():
    label = 'version_labels { key: "stable" value: 4 }'
    [model] = parse(f"model_config_list {{ config {{ {MODEL} {label} }} }}")
    assert model.labels == {"stable": 4}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "Only ModelConfigList is currently supported"),
        (f"model_config_list {{ config {{ {MODEL} }} config {{ {MODEL} }} }}", "fraud multiple times"),
        ('model_config_list { config { name: "fraud" base_path: "/models" } }', "unsupported platform"),
        (
            'model_config_list { config { name: "fraud" base_path: "models" model_platform: "tensorflow" } }',
            r"absolute path or URI; got base_path\(\)=models",
        ),
        ('model_config_list { config { base_path: "/models" model_platform: "tensorflow" } }', "no name"),
    ],
)
def test_what_cannot_be_served_is_refused_with_its_reason(text: str, reason: str):
    with pytest.raises(Refusal, match=reason):
        parse(text)


@pytest.mark.parametrize("content", [b"model_config_list {", b"\xff", b""])
def test_a_file_that_is_no_configuration_is_bad_input_that_names_it(tmp_path: Path, content: bytes):
    path = tmp_path / "models.config"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"models\.config"):
        read_config_file(path)


def test_an_empty_list_serves_nothing(tmp_path: Path):
    path = tmp_path / "models.config"
    path.write_text("model_config_list {}")
    assert read_config_file(path) == ()
