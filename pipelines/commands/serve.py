"""`fraudops serve`: starts a part of the online path and serves until it is told to stop."""

from __future__ import annotations

import logging
import signal
from contextlib import AsyncExitStack, ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipelines import console
from pipelines.termination import on_sigterm

if TYPE_CHECKING:
    from serving.gateway.server import Addresses


@click.group()
def command() -> None:
    """Serve until stopped: SIGTERM ends it when the requests in work are answered."""


@command.command("model-server")
@click.option(
    "--model-base-path",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="The folder that holds a model's versions, as BASE/<number>/.",
)
@click.option("--model-name", default="fraud", show_default=True, help="The name of that model.")
@click.option(
    "--model-config-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A ModelServerConfig in text form, instead of one model.",
)
@click.option("--port", type=click.IntRange(0, 65535), default=8500, show_default=True, help="Of gRPC; 0: a free one.")
@click.option(
    "--metrics-port", type=click.IntRange(0, 65535), default=8501, show_default=True, help="Of /metrics; 0: a free one."
)
@click.option(
    "--file-system-poll-wait-seconds",
    type=click.FloatRange(0),
    default=1.0,
    show_default=True,
    help="Between two looks for new versions; 0: at the start and at a reload only.",
)
@click.option(
    "--allow-version-labels-for-unavailable-models",
    is_flag=True,
    help="Let a new label name a version that is not available yet.",
)
@console.json_option
def model_server(
    model_base_path: Path | None,
    model_name: str,
    model_config_file: Path | None,
    port: int,
    metrics_port: int,
    file_system_poll_wait_seconds: float,
    allow_version_labels_for_unavailable_models: bool,
) -> console.Reply:
    """Serve models over TensorFlow Serving's gRPC API."""
    import gc

    from pipelines.quiet import quiet

    if (model_base_path is None) == (model_config_file is None):
        raise click.UsageError("give either --model-base-path or --model-config-file")
    with ExitStack() as stack:
        stack.enter_context(quiet())
        from serving.model_server.config import ModelSettings, read_config_file
        from serving.model_server.server import ModelServer, Options

        if model_config_file is not None:
            models = read_config_file(model_config_file)
        else:
            assert model_base_path is not None
            models = (ModelSettings(model_name, model_base_path.resolve()),)
        options = Options(
            port=port,
            metrics_port=metrics_port,
            poll_wait_s=file_system_poll_wait_seconds,
            allow_labels_for_unavailable=allow_version_labels_for_unavailable_models,
        )
        _show_log()
        server = stack.enter_context(ModelServer(models, options))
        serving = stack.pop_all()
    # TensorFlow's modules stay; looking through them takes 100 ms, in which no request is answered.
    gc.freeze()
    stop = on_sigterm()

    def serve() -> None:
        with serving:
            stop.wait()

    fields = {"address": server.address, "metrics": server.metrics_address, "models": [model.name for model in models]}
    human = f"model server at {server.address}, metrics at {server.metrics_address}"
    return console.Reply(fields, human, then=serve)


@command.command()
@click.option("--source", required=True, help="Name of the transactions' mapping, or the path of one (*.yaml).")
@click.option("--model-server", required=True, metavar="HOST:PORT", help="Whom to ask for scores.")
@click.option(
    "--rules",
    "rules_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A file of rules, instead of those that ship.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8600, show_default=True, help="Of gRPC; 0: a free one.")
@click.option(
    "--metrics-port", type=click.IntRange(0, 65535), default=8601, show_default=True, help="Of /metrics; 0: a free one."
)
@click.option(
    "--feature-store",
    metavar="embedded|redis://...",
    default="embedded",
    show_default=True,
    help="The workspace's file, or a Redis server, which gateways of several machines share.",
)
@click.option(
    "--feature-store-password-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Holds the password of that server.",
)
@click.option(
    "--model-deadline-ms",
    type=click.FloatRange(0, min_open=True),
    default=50.0,
    show_default=True,
    help="What a model may take before the decision is made without it.",
)
@click.option(
    "--explain-deadline-ms",
    type=click.FloatRange(0, min_open=True),
    default=50.0,
    show_default=True,
    help="What a model may take to say what weighed, where its score asks for review or blocking.",
)
@click.option(
    "--control-share",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Share of what would be blocked that passes, as a control group.",
)
@console.workspace_option
@console.json_option
def gateway(
    source: str,
    model_server: str,
    rules_file: Path | None,
    host: str,
    port: int,
    metrics_port: int,
    feature_store: str,
    feature_store_password_file: Path | None,
    model_deadline_ms: float,
    explain_deadline_ms: float,
    control_share: float,
    workspace: Path,
) -> console.Reply:
    """Decide on transactions over gRPC."""
    import asyncio
    import gc
    import random
    import time

    from pipelines.workspace import Workspace
    from schemas import sources
    from schemas.features import specify
    from serving import rules
    from serving.decisions.log import DecisionLog
    from serving.features import ProcessFeatureStore, address_of
    from serving.gateway.door import Door
    from serving.gateway.ports import Surroundings
    from serving.gateway.server import Parts, serving
    from serving.gateway.settings import Settings
    from serving.rollout.table import RolloutTable
    from serving.sqlite import checkpoints

    mapping = sources.load(source)
    spec = specify(mapping.provided)
    rule_set = rules.load(rules_file)
    if idle := sorted(rule_set.fields - mapping.provided - {declared.name for declared in spec.inputs}):
        console.say(f"warning: rules look at what source {mapping.source} lacks: {', '.join(idle)}")
    settings = Settings(
        model_server=model_server,
        host=host,
        port=port,
        metrics_port=metrics_port,
        model_deadline_s=model_deadline_ms / 1_000,
        explain_deadline_s=explain_deadline_ms / 1_000,
        control_share=control_share,
    )
    surroundings = Surroundings(
        now_us=lambda: time.time_ns() // 1_000,
        clock_s=time.monotonic,
        chance=random.random,
        # As random as a UUID, without the system call at which the other threads take the interpreter.
        new_id=lambda: f"{random.getrandbits(128):032x}",
    )
    space = Workspace.at(workspace)
    store_file = space.feature_store(mapping.source)
    store_file.parent.mkdir(exist_ok=True)
    address = address_of(feature_store, store_file, mapping.source, feature_store_password_file)
    card_key = space.card_key() if mapping.card_id_is == "number" else None
    _show_log()
    with ExitStack() as stack:
        parts = Parts(
            door=Door(mapping, card_key, settings.max_ahead_s),
            store=stack.enter_context(closing(ProcessFeatureStore(address, spec))),
            log=stack.enter_context(closing(DecisionLog(space.decisions))),
            table=stack.enter_context(closing(RolloutTable(space.rollout))),
            rules=rule_set,
        )
        stack.enter_context(checkpoints(space.decisions))
        runner = stack.enter_context(asyncio.Runner())
        online, stop = AsyncExitStack(), asyncio.Event()

        async def start() -> Addresses:
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
            return await online.enter_async_context(serving(parts, settings, surroundings))

        addresses = runner.run(start())
        stack.callback(lambda: runner.run(online.aclose()))
        opened = stack.pop_all()
    # What is there by now stays; the collector need not look through it any more.
    gc.freeze()

    def serve() -> None:
        with opened:
            runner.run(stop.wait())

    fields = {"address": addresses.scoring, "metrics": addresses.metrics}
    return console.Reply(fields, f"gateway at {addresses.scoring}, metrics at {addresses.metrics}", then=serve)


@command.command()
@click.option("--source", required=True, help="Name of the transactions' mapping, or the path of one (*.yaml).")
@click.option(
    "--model-server",
    "model_servers",
    required=True,
    multiple=True,
    metavar="HOST:PORT",
    help="Whom to give versions to.",
)
@click.option("--tracking-uri", metavar="URI", help="The model registry.  [default: the workspace's]")
@click.option(
    "--policy",
    "policy_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="How rollouts proceed, instead of the defaults.",
)
@click.option(
    "--rules",
    "rules_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The rules that the gateways decide by, instead of those that ship.",
)
@click.option(
    "--approvers-key",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Require approvals to be signed under the key in this file.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--metrics-port", type=click.IntRange(0, 65535), default=8602, show_default=True, help="Of /metrics; 0: a free one."
)
@click.option(
    "--poll-seconds", type=click.FloatRange(0, min_open=True), default=1.0, show_default=True, help="Between two looks."
)
@console.workspace_option
@console.json_option
def controller(
    source: str,
    model_servers: tuple[str, ...],
    tracking_uri: str | None,
    policy_file: Path | None,
    rules_file: Path | None,
    approvers_key: Path | None,
    host: str,
    metrics_port: int,
    poll_seconds: float,
    workspace: Path,
) -> console.Reply:
    """Roll approved versions out, step by step, and back where they fail."""
    import os
    import time

    from pipelines.workspace import Workspace
    from schemas import sources
    from schemas.approval import read_approvers_key
    from schemas.features import specify
    from schemas.versions import MODEL_NAME
    from serving import rules
    from serving.decisions.log import DecisionLog
    from serving.listening import serve_metrics
    from serving.rollout import policy
    from serving.rollout.controller import Controller, Settings
    from serving.rollout.model_folder import ModelFolder
    from serving.rollout.model_servers import ModelServers, ensure_config
    from serving.rollout.table import RolloutTable

    # While a registry does not answer, rollbacks must not wait: MLflow would try for minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    settings = Settings(
        policy=policy.load(policy_file),
        store_spec=specify(sources.load(source).provided),
        rules_digest=rules.load(rules_file).digest,
        key=read_approvers_key(approvers_key) if approvers_key else None,
    )
    space = Workspace.at(workspace)
    models = space.served_models / MODEL_NAME
    models.mkdir(parents=True, exist_ok=True)
    _show_log()
    with ExitStack() as stack:
        table = stack.enter_context(closing(RolloutTable(space.rollout)))
        stack.enter_context(table.lead())
        # What takes seconds to import comes when it is clear that there is no other controller.
        from pipelines.registry import MlflowRegistry

        registry = MlflowRegistry(tracking_uri or space.tracking_uri)
        ensure_config(space.models_config)
        servers = ModelServers(model_servers, MODEL_NAME, models, space.models_config, timeout_s=5.0)
        rollout = Controller(
            table=table,
            registry=registry,
            servers=stack.enter_context(servers),
            files=ModelFolder(registry, models),
            evidence=stack.enter_context(closing(DecisionLog(space.decisions))),
            settings=settings,
            now_us=lambda: time.time_ns() // 1_000,
        )
        address = stack.enter_context(serve_metrics(rollout.metrics.registry, host, metrics_port))
        opened = stack.pop_all()
    stop = on_sigterm()

    def serve() -> None:
        with opened:
            rollout.run(stop, poll_seconds)

    fields = {"metrics": address, "table": space.rollout, "model_servers": model_servers}
    return console.Reply(fields, f"rollout controller of {space.rollout}, metrics at {address}", then=serve)


def _show_log() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log = logging.getLogger("serving")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
