"""`fraudops serve`: starts a part of the online path and serves until it is told to stop."""

from __future__ import annotations

import logging
import signal
import threading
from contextlib import ExitStack
from pathlib import Path

import click

from pipelines import console


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
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: stop.set())

    def serve() -> None:
        with serving:
            stop.wait()

    fields = {"address": server.address, "metrics": server.metrics_address, "models": [model.name for model in models]}
    human = f"model server at {server.address}, metrics at {server.metrics_address}"
    return console.Reply(fields, human, then=serve)


def _show_log() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log = logging.getLogger("serving")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
