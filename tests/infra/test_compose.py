"""The compose file starts what is there: its commands parse, its files exist, its names and ports fit together."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from pipelines.cli import fraudops
from pipelines.stack import NO_MODELS, Ports
from pipelines.workspace import Workspace
from serving.features import RedisStore
from tests.redis_server import redis_server

FOLDER = Path(__file__).parents[2] / "infra" / "compose"
COMPOSE: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]
OURS = ("controller", "gateway")
PROMETHEUS = yaml.safe_load((FOLDER / "prometheus.yml").read_text(encoding="utf-8"))


def parsed(command: click.Command | None, words: list[str]) -> dict[str, Any]:
    """The parameters of the verb that these words call, which is not run."""
    verb = ""
    while isinstance(command, click.Group):
        verb, *words = words
        command = command.get_command(click.Context(command), verb)
    assert command is not None, verb
    return command.make_context(verb, words).params


def volumes(service: str) -> dict[str, str]:
    """What is mounted, by its place in the container."""
    mounted = (volume.split(":") for volume in SERVICES[service].get("volumes", []))
    return {parts[1]: parts[0] for parts in mounted}


@pytest.mark.parametrize("service", OURS)
def test_the_commands_of_our_parts_parse(service: str) -> None:
    words = [word.replace("${FRAUDOPS_SOURCE:-simulated}", "simulated") for word in SERVICES[service]["command"]]
    params = parsed(fraudops, words)
    assert params["host"] == "0.0.0.0"
    assert str(params["workspace"]) in volumes(service)
    (asked,) = params["model_servers"] if service == "controller" else [params["model_server"]]
    server, port = asked.split(":")
    assert server in SERVICES
    assert int(port) == Ports().model_server
    if service == "controller":
        assert params["tracking_uri"] == f"http://mlflow:{Ports().mlflow}"
        assert params["metrics_port"] == Ports().controller_metrics
    else:
        assert (params["port"], params["metrics_port"]) == (Ports().gateway, Ports().gateway_metrics)
        store = RedisStore(params["feature_store"], "s", params["feature_store_password_file"])
        assert str(store) == "redis://redis:6379/0"
        assert store.password_file == Path("/run/secrets") / SERVICES["redis"]["secrets"][0]


def test_redis_takes_its_settings_and_keeps_every_key(tmp_path: Path) -> None:
    (script,) = SERVICES["redis"]["command"]
    given = dict(line.split(" ", 1) for line in re.findall(r'echo "(.*?)"', script))
    assert given.pop("requirepass") == f"$$(cat /run/secrets/{SERVICES['redis']['secrets'][0]})"
    assert given.pop("dir") in volumes("redis")
    options = [word for name, value in given.items() for word in (f"--{name}", value.strip("'"))]
    with redis_server(tmp_path, *options) as server, server.client() as client:
        settings: Any = client.config_get("*")
    assert {name: settings[name] for name in given} == {name: value.strip("'") for name, value in given.items()}
    assert (given["appendfsync"], given["maxmemory-policy"]) == ("everysec", "noeviction")


@pytest.mark.filterwarnings("ignore")  # of what MLflow imports
def test_the_command_of_mlflow_parses_and_shows_no_password() -> None:
    from mlflow.cli import cli

    (line,) = SERVICES["mlflow"]["command"]
    words = shlex.split(line)
    called = words[words.index("mlflow") + 1 :]
    params = parsed(cli, called)
    assert params["port"] == Ports().mlflow
    assert params["backend_store_uri"] == "postgresql://mlflow@postgres:5432/mlflow"
    assert params["artifacts_destination"].startswith(tuple(volumes("mlflow")))
    # MLflow answers only to these names.
    assert f"mlflow:{Ports().mlflow}" in params["allowed_hosts"]


def test_the_model_server_starts_from_the_file_that_the_controller_writes() -> None:
    here = Workspace(Path("/var/lib/fraudops"))
    assert f"--model_config_file={here.models_config}" in SERVICES["model-server"]["command"]
    assert volumes("model-server")[str(here.root)] == volumes("controller")[str(here.root)]
    (script,) = SERVICES["workspace"]["command"]
    assert str(here.models_config.relative_to(here.root)) in script
    assert NO_MODELS.strip() in script
    text_format.Parse(NO_MODELS, model_server_config_pb2.ModelServerConfig())


def test_what_is_mounted_and_kept_secret_is_there() -> None:
    for service in SERVICES:
        for source in volumes(service).values():
            assert source in COMPOSE["volumes"] or (FOLDER / source).is_file()
        assert set(SERVICES[service].get("secrets", ())) <= set(COMPOSE["secrets"])


@pytest.mark.parametrize(("image", "services"), [("serving", ("workspace", *OURS)), ("pipeline", ("mlflow",))])
def test_each_of_our_services_runs_in_the_image_that_holds_its_command(image: str, services: tuple[str, ...]) -> None:
    for name in services:
        service = SERVICES[name]
        assert service["image"].startswith(f"fraudops-{image}:"), name
        assert service["build"]["dockerfile"] == f"infra/docker/{image}.Dockerfile"
        assert (FOLDER / service["build"]["context"] / service["build"]["dockerfile"]).is_file()


def test_our_services_write_to_their_volumes_and_to_memory_alone() -> None:
    for name in ("workspace", "mlflow", *OURS):
        assert SERVICES[name]["read_only"] is True
        assert SERVICES[name]["tmpfs"] == ["/tmp"]


def test_images_are_pinned_and_everything_that_serves_has_a_health_check() -> None:
    for name, service in SERVICES.items():
        tag = service["image"].partition(":")[2]
        assert any(character.isdigit() for character in tag), service["image"]
        assert "healthcheck" in service, name


def test_published_ports_are_of_the_loopback_and_differ() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert all(port.startswith("127.0.0.1:") for port in published)
    outside = [port.split(":")[1] for port in published]
    assert len(set(outside)) == len(outside)


def test_prometheus_scrapes_every_part_of_ours_and_the_model_server() -> None:
    targets = {
        target: job.get("metrics_path", "/metrics")
        for job in PROMETHEUS["scrape_configs"]
        for config in job["static_configs"]
        for target in config["targets"]
    }
    monitoring = (FOLDER / "monitoring.config").read_text(encoding="utf-8")
    serving = targets.pop(f"model-server:{Ports().model_server_metrics}")
    assert f'path: "{serving}"' in monitoring
    assert targets == dict.fromkeys(
        [f"gateway:{Ports().gateway_metrics}", f"controller:{Ports().controller_metrics}", "localhost:9090"], "/metrics"
    )
