"""What `fraudops up` runs: the parts of the embedded stack, their commands, addresses and order of start."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from pipelines.supervision import Program
from pipelines.workspace import Workspace
from schemas.errors import StackError

HOST = "127.0.0.1"
NO_MODELS = "model_config_list {}\n"


@dataclass(frozen=True)
class Ports:
    """The loopback ports of the stack."""

    mlflow: int = 5000
    model_server: int = 8500
    model_server_metrics: int = 8501
    gateway: int = 8600
    gateway_metrics: int = 8601
    controller_metrics: int = 8602


@dataclass(frozen=True)
class Settings:
    """What the stack is started with.

    Attributes:
        source: name or path of the source mapping.
        policy: file of the rollout policy; None takes the controller's own.
        rules: file of the rules; None takes the set that ships.
        feature_store: where the gateway's is, None is the workspace's file.
        feature_store_password_file: of its server.
    """

    source: str
    policy: Path | None = None
    rules: Path | None = None
    feature_store: str | None = None
    feature_store_password_file: Path | None = None


def ports_of(workspace: Workspace, free_ports: Callable[[int], list[int]] | None) -> Ports:
    """The ports of a workspace's stack: those that it had before, else free ones where asked for, else the usual.

    Args:
        free_ports: gives as many ports that nobody listens on; None takes the usual ones.

    Raises:
        StackError: the file that keeps them is damaged.
    """
    file = addresses_file(workspace)
    names = list(asdict(Ports()))
    try:
        kept = orjson.loads(file.read_bytes())
        return Ports(**{name: int(address.split(":")[-1].split("/")[0]) for name, address in kept.items()})
    except FileNotFoundError:
        return Ports() if free_ports is None else Ports(**dict(zip(names, free_ports(len(names)), strict=True)))
    except (AttributeError, TypeError, ValueError) as error:
        raise StackError(
            f"{file} does not hold the addresses of {', '.join(names)} ({error}); remove it, and `fraudops up` makes "
            "it anew"
        ) from error


def addresses_file(workspace: Workspace) -> Path:
    """What keeps the addresses of a workspace's stack from one start to the next."""
    return workspace.stack / "addresses.json"


def prepare(workspace: Workspace, ports: Ports) -> None:
    """Makes what the parts expect to be there, and keeps the addresses for the next start."""
    workspace.served_models.mkdir(parents=True, exist_ok=True)
    if not workspace.models_config.exists():
        _write_whole(workspace.models_config, NO_MODELS.encode())
    workspace.stack.mkdir(exist_ok=True)
    _write_whole(addresses_file(workspace), orjson.dumps(addresses(ports), option=orjson.OPT_INDENT_2))


def addresses(ports: Ports) -> dict[str, str]:
    """Where people and clients find the parts, by the names of `--json`."""
    return {
        "mlflow": f"http://{HOST}:{ports.mlflow}",
        "gateway": f"{HOST}:{ports.gateway}",
        "gateway_metrics": _metrics(ports.gateway_metrics),
        "model_server": f"{HOST}:{ports.model_server}",
        "model_server_metrics": _metrics(ports.model_server_metrics),
        "controller_metrics": _metrics(ports.controller_metrics),
    }


def programs(workspace: Workspace, settings: Settings, ports: Ports) -> tuple[Program, ...]:
    """The parts in the order in which they start; they stop in the reverse one.

    Each of them bears the absence of the others, so that the order only spares them the first waiting.
    """
    at = addresses(ports)
    # The parts do not run where this command does.
    mapping = str(Path(settings.source).resolve()) if settings.source.endswith((".yaml", ".yml")) else settings.source
    source = ["--source", mapping, "--workspace", str(workspace.root)]
    return (
        Program(
            "mlflow",
            # Its own server is a child, which a killed parent leaves behind with the port.
            _python("pipelines.tracking", *_mlflow_options(workspace, ports)),
            ports=(ports.mlflow,),
            http=(f"{at['mlflow']}/health",),
            environment={"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        ),
        Program(
            "model-server",
            _fraudops(
                *("serve", "model-server", "--model-config-file", str(workspace.models_config)),
                "--allow-version-labels-for-unavailable-models",
                *_listening(ports.model_server, ports.model_server_metrics),
            ),
            ports=(ports.model_server, ports.model_server_metrics),
            grpc=at["model_server"],
            http=(at["model_server_metrics"],),
        ),
        Program(
            "controller",
            _fraudops(
                *("serve", "controller", *source, "--model-server", at["model_server"]),
                *("--tracking-uri", at["mlflow"]),
                *(*_given("--policy", settings.policy), *_given("--rules", settings.rules)),
                *("--metrics-port", str(ports.controller_metrics)),
            ),
            ports=(ports.controller_metrics,),
            http=(at["controller_metrics"],),
        ),
        Program(
            "gateway",
            _fraudops(
                *(
                    "serve",
                    "gateway",
                    *source,
                    "--model-server",
                    at["model_server"],
                    *_given("--rules", settings.rules),
                    *(() if settings.feature_store is None else ("--feature-store", settings.feature_store)),
                    *_given("--feature-store-password-file", settings.feature_store_password_file),
                ),
                *_listening(ports.gateway, ports.gateway_metrics),
            ),
            ports=(ports.gateway, ports.gateway_metrics),
            grpc=at["gateway"],
            http=(at["gateway_metrics"],),
        ),
    )


def _mlflow_options(workspace: Workspace, ports: Ports) -> tuple[str, ...]:
    return (
        *("--host", HOST, "--port", str(ports.mlflow), "--workers", "1"),
        *("--backend-store-uri", workspace.tracking_uri),
        # Clients are on this machine and read and write the files themselves, as `fraudops run` does.
        *("--default-artifact-root", workspace.artifact_root, "--no-serve-artifacts"),
    )


def _listening(port: int, metrics_port: int) -> tuple[str, ...]:
    return ("--port", str(port), "--metrics-port", str(metrics_port))


def _given(option: str, file: Path | None) -> tuple[str, ...]:
    return () if file is None else (option, str(file.resolve()))


def _fraudops(*arguments: str) -> tuple[str, ...]:
    return _python("pipelines.cli", *arguments)


def _python(module: str, *arguments: str) -> tuple[str, ...]:
    # -P: a folder's own modules must not come before ours.
    return (sys.executable, "-P", "-m", module, *arguments)


def _metrics(port: int) -> str:
    return f"http://{HOST}:{port}/metrics"


def _write_whole(file: Path, content: bytes) -> None:
    fresh = file.with_name(f".{file.name}.new")
    fresh.write_bytes(content)
    os.replace(fresh, file)
