"""What the stack is made of: commands that parse, ports that stay, files that the parts expect."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest

from pipelines.cli import fraudops
from pipelines.stack import NO_MODELS, Ports, Settings, addresses, addresses_file, ports_of, prepare, programs
from pipelines.workspace import Workspace
from schemas.errors import StackError
from serving.model_server.config import read_config_file


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace.at(tmp_path / "workspace")
    made.stack.mkdir()
    return made


def parsed(words: tuple[str, ...]) -> dict[str, Any]:
    """The parameters of the verb of ours that a program's command calls, which is not run."""
    _, *rest = words[words.index("pipelines.cli") :]
    command: click.Command | None = fraudops
    verb = ""
    while isinstance(command, click.Group):
        verb, *rest = rest
        command = command.get_command(click.Context(command), verb)
    assert command is not None, verb
    return command.make_context(verb, rest).params


def test_the_ports_are_the_usual_ones_unless_free_ones_are_asked_for(workspace: Workspace) -> None:
    assert ports_of(workspace, None) == Ports()
    assert ports_of(workspace, lambda count: list(range(1, count + 1))) == Ports(1, 2, 3, 4, 5, 6)


def test_the_ports_stay_whatever_is_asked_for_later(workspace: Workspace) -> None:
    prepare(workspace, Ports(1, 2, 3, 4, 5, 6))
    assert ports_of(workspace, None) == Ports(1, 2, 3, 4, 5, 6)
    assert ports_of(workspace, lambda count: [7] * count) == Ports(1, 2, 3, 4, 5, 6)


@pytest.mark.parametrize("text", ["", "[]", '{"mlflow": "nowhere"}', '{"other": "127.0.0.1:1"}', '{"mlflow": 1}'])
def test_a_damaged_file_of_addresses_is_an_error_that_names_it(workspace: Workspace, text: str) -> None:
    addresses_file(workspace).write_text(text)
    with pytest.raises(StackError, match=r"addresses\.json does not hold"):
        ports_of(workspace, None)


def test_a_model_server_can_start_before_there_is_a_model(workspace: Workspace) -> None:
    prepare(workspace, Ports())
    assert read_config_file(workspace.models_config) == ()


def test_what_the_controller_wanted_last_is_kept(workspace: Workspace) -> None:
    prepare(workspace, Ports())
    workspace.models_config.write_text(NO_MODELS + "# the controller's")
    prepare(workspace, Ports())
    assert workspace.models_config.read_text().endswith("# the controller's")


def test_the_parts_find_each_other_and_the_workspace(workspace: Workspace, tmp_path: Path) -> None:
    policy, rules = tmp_path / "policy.yaml", tmp_path / "rules.yaml"
    for file in (policy, rules):
        file.touch()
    prepare(workspace, Ports())
    at = addresses(Ports())
    parts = {part.name: part for part in programs(workspace, Settings("simulated", policy, rules), Ports())}
    assert list(parts) == ["mlflow", "model-server", "controller", "gateway"]

    server = parsed(parts["model-server"].command)
    assert server["model_config_file"] == workspace.models_config
    assert server["allow_version_labels_for_unavailable_models"]
    assert (server["port"], server["metrics_port"]) == parts["model-server"].ports

    gateway = parsed(parts["gateway"].command)
    assert gateway["model_server"] == at["model_server"]
    assert (gateway["workspace"], gateway["source"], gateway["rules_file"]) == (workspace.root, "simulated", rules)
    assert (gateway["port"], gateway["metrics_port"]) == parts["gateway"].ports

    controller = parsed(parts["controller"].command)
    assert controller["model_servers"] == (at["model_server"],)
    assert controller["tracking_uri"] == at["mlflow"]
    assert (controller["workspace"], controller["source"]) == (workspace.root, "simulated")
    assert (controller["policy_file"], controller["rules_file"]) == (policy, rules)
    assert (controller["metrics_port"],) == parts["controller"].ports


def test_every_part_is_asked_whether_it_serves_and_no_port_is_used_twice(workspace: Workspace) -> None:
    parts = programs(workspace, Settings("simulated"), Ports())
    assert all(part.http for part in parts)
    assert {part.name for part in parts if part.grpc} == {"model-server", "gateway"}
    ports = [port for part in parts for port in part.ports]
    assert len(set(ports)) == len(ports) == len(addresses(Ports()))


def test_a_mapping_of_ones_own_is_found_from_wherever_the_parts_run(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    gateway = programs(workspace, Settings("own.yaml", None, None, "redis://h/1", Path("password")), Ports())[-1]
    assert parsed(gateway.command)["feature_store"] == "redis://h/1"
    assert str(tmp_path / "password") in gateway.command
    assert str(tmp_path / "own.yaml") in gateway.command
