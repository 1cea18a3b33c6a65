"""What to serve: models with their base paths, version policies and labels, out of TensorFlow Serving's messages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from schemas.errors import ConfigurationError
from serving.model_server.status import Refusal, failed_precondition, invalid

PLATFORM = "tensorflow"

# From the versions that lie below a base path to those that should be served.
Policy = Callable[[Iterable[int]], frozenset[int]]


@dataclass(frozen=True)
class Latest:
    """The `count` highest versions; the default is the highest one."""

    count: int = 1

    def __call__(self, present: Iterable[int]) -> frozenset[int]:
        """The versions to serve of those that are there."""
        return frozenset(sorted(present)[-self.count :])


@dataclass(frozen=True)
class Every:
    """All versions."""

    def __call__(self, present: Iterable[int]) -> frozenset[int]:
        """The versions to serve of those that are there."""
        return frozenset(present)


@dataclass(frozen=True)
class Specific:
    """The versions that are named, as far as they are there."""

    versions: frozenset[int]

    def __call__(self, present: Iterable[int]) -> frozenset[int]:
        """The versions to serve of those that are there."""
        return self.versions & frozenset(present)


@dataclass(frozen=True)
class ModelSettings:
    """One model: its versions lie in `base_path/<number>/`, and `labels` give names to some of them."""

    name: str
    base_path: Path
    policy: Policy = Latest()
    labels: Mapping[str, int] = field(default_factory=dict)

    def present(self) -> dict[int, Path]:
        """The versions below the base path: folders whose name is a number.

        Raises:
            OSError: the base path cannot be listed.
        """
        return {int(child.name): child for child in self.base_path.iterdir() if _is_version(child)}


def read_config_file(path: Path) -> tuple[ModelSettings, ...]:
    """The models in a text file of `tensorflow.serving.ModelServerConfig`.

    Raises:
        ConfigurationError: the file cannot be read, or says what cannot be served.
    """
    try:
        text = path.read_text(encoding="utf-8")
        message = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
        return parse_config(message)
    except (OSError, UnicodeDecodeError, text_format.ParseError, Refusal) as error:
        raise ConfigurationError(
            f"{path} is not a configuration that can be served ({error}); it has to be a ModelServerConfig in text "
            "form, with a model_config_list"
        ) from error


def parse_config(message: model_server_config_pb2.ModelServerConfig) -> tuple[ModelSettings, ...]:
    """The models of a configuration.

    Raises:
        Refusal: INVALID_ARGUMENT, with the reason.
    """
    if message.WhichOneof("config") != "model_config_list":
        raise invalid(
            "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is currently "
            "supported"
        )
    models = tuple(_parse_model(model) for model in message.model_config_list.config)
    for index, model in enumerate(models):
        if model.name in {other.name for other in models[:index]}:
            raise invalid(f"Illegal to list model {model.name} multiple times in config list")
    return models


def check_labels(
    model: ModelSettings, available: frozenset[int], labels_before: Mapping[str, int], allow_unavailable: bool
) -> None:
    """Checks that every label names a version that is available.

    Args:
        labels_before: the model's labels as they are.
        allow_unavailable: let a label that is new, or stays where it is, name a version that is not available yet.

    Raises:
        Refusal: FAILED_PRECONDITION.
    """
    for label, version in model.labels.items():
        moves = labels_before.get(label, version) != version
        if version not in available and (moves or not allow_unavailable):
            raise failed_precondition(
                f"Request to assign label to {model.name} version {version}, which is not currently available for "
                "inference"
            )


def _parse_model(message: model_server_config_pb2.ModelConfig) -> ModelSettings:
    if not message.name:
        raise invalid("ModelConfig has no name specified.")
    if message.model_platform != PLATFORM:
        raise invalid(f"Model {message.name} requests unsupported platform {message.model_platform}")
    if not Path(message.base_path).is_absolute():
        raise invalid(
            f"Expected model {message.name} to have an absolute path or URI; got base_path()={message.base_path}"
        )
    policies: dict[str | None, Callable[[], Policy]] = {
        None: Latest,
        "latest": lambda: Latest(max(message.model_version_policy.latest.num_versions, 1)),
        "all": Every,
        "specific": lambda: Specific(frozenset(message.model_version_policy.specific.versions)),
    }
    policy = policies[message.model_version_policy.WhichOneof("policy_choice")]()
    return ModelSettings(message.name, Path(message.base_path), policy, dict(message.version_labels))


def _is_version(child: Path) -> bool:
    # 007 would be a second name of version 7.
    return child.name.isascii() and child.name.isdigit() and str(int(child.name)) == child.name and child.is_dir()
