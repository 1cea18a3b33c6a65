"""Model servers are told what to serve, and asked what they do: against the embedded server, with the stock API."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import pytest
from google.protobuf import text_format

from schemas.errors import ModelServerError
from schemas.tf_serving_pb2 import ModelServerConfig
from serving.model_server.config import ModelSettings, Specific, read_config_file
from serving.model_server.server import ModelServer, Options
from serving.model_server.status import Refusal
from serving.rollout.desired import Desired, VersionState
from serving.rollout.model_servers import ModelServers, config, write_config
from tests.serving.model_server.models import BOUND_S, eventually
from tests.serving.model_server.test_versions import Loader

NOTHING = Desired()
ONE = Desired(frozenset({1}), {"stable": 1})
BOTH_LOADED = Desired(frozenset({1, 2}), {"stable": 1})
SHADOW = Desired(frozenset({1, 2}), {"stable": 1, "canary": 2})
HANDED_OVER = Desired(frozenset({1, 2}), {"stable": 2})
TWO = Desired(frozenset({2}), {"stable": 2})


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Where versions 1 and 2 lie."""
    for version in (1, 2):
        (tmp_path / "fraud" / str(version)).mkdir(parents=True)
    return tmp_path / "fraud"


@pytest.fixture
def loader() -> Iterator[Loader]:
    loader = Loader()
    yield loader
    for event in loader.held.values():
        event.set()


@contextmanager
def server(loader: Loader, config_file: Path | None = None, port: int = 0) -> Iterator[ModelServer]:
    """An embedded server that starts from a file, or with nothing, as it is started beside a controller."""
    options = Options(port=port, metrics_port=0, poll_wait_s=0.05, allow_labels_for_unavailable=True, grace_s=BOUND_S)
    models = read_config_file(config_file) if config_file else ()
    with ModelServer(models, options, loader) as running:
        yield running


@contextmanager
def told(base: Path, *addresses: str, timeout_s: float = BOUND_S) -> Iterator[ModelServers]:
    with ModelServers(addresses, "fraud", base, base.parent / "models.config", timeout_s) as servers:
        yield servers


@pytest.fixture
def servers(base: Path, loader: Loader) -> Iterator[ModelServers]:
    """One server that serves nothing yet."""
    with server(loader) as running, told(base, running.address) as servers:
        yield servers


def reach(servers: ModelServers, desired: Desired) -> None:
    """Tells the servers until they serve what is desired, as a controller's ticks do."""

    def reached() -> bool:
        if not servers.missing(desired):
            return True
        servers.apply(desired)
        return False

    eventually(reached)


def test_a_rollout_in_the_order_of_tensorflow_serving_and_back_to_nothing(servers: ModelServers) -> None:
    for desired in (NOTHING, ONE, BOTH_LOADED, SHADOW, HANDED_OVER, TWO, NOTHING):
        reach(servers, desired)
        for other in (ONE, SHADOW, TWO):
            assert bool(servers.missing(other)) == (other != desired)
        servers.apply(desired)  # once more changes nothing
        assert servers.missing(desired) == ()


def test_what_is_missing_is_said_by_server_version_and_label(servers: ModelServers) -> None:
    reach(servers, ONE)
    (address,) = servers.states(1)
    assert servers.missing(TWO) == (
        f"model server {address}: version 2 is UNKNOWN and should be AVAILABLE",
        f"model server {address}: version 1 is AVAILABLE and should be unloaded",
        f"model server {address}: label stable names version 1 and should name version 2",
    )
    assert servers.missing(SHADOW)[-1].endswith("label canary names nothing and should name version 2")
    reach(servers, SHADOW)
    assert servers.missing(BOTH_LOADED) == (
        f"model server {address}: label canary names version 2 and should name nothing",
    )


def test_a_label_stays_where_it_is_until_its_new_version_serves(servers: ModelServers, loader: Loader) -> None:
    reach(servers, ONE)
    (address,) = servers.states(1)
    loader.held[2] = threading.Event()
    servers.apply(TWO)
    eventually(lambda: servers.states(2)[address] == VersionState("LOADING"))
    servers.apply(TWO)
    assert servers.states(1)[address] == VersionState("AVAILABLE")
    assert f"model server {address}: label stable names version 1 and should name version 2" in servers.missing(TWO)
    loader.held[2].set()
    reach(servers, TWO)
    assert servers.states(1)[address] == VersionState("END")


def test_a_version_that_cannot_be_loaded_is_told_with_its_error(servers: ModelServers, loader: Loader) -> None:
    reach(servers, ONE)
    (address,) = servers.states(1)
    loader.broken[2] = Refusal(grpc.StatusCode.INVALID_ARGUMENT, "no graph in it")
    servers.apply(SHADOW)
    eventually(lambda: servers.states(2)[address].failed)
    assert "no graph in it" in servers.states(2)[address].error
    assert any("version 2 is END (no graph in it)" in what for what in servers.missing(SHADOW))
    assert not servers.states(1)[address].failed
    reach(servers, ONE)


def test_the_first_version_of_all_may_fail_or_take_longer_than_an_answer(base: Path, loader: Loader) -> None:
    loader.held[1] = threading.Event()
    with server(loader) as running, told(base, running.address, timeout_s=1.0) as servers:
        servers.apply(ONE)
        eventually(lambda: servers.states(1)[running.address].state == "LOADING")
        loader.broken[1] = Refusal(grpc.StatusCode.INVALID_ARGUMENT, "no graph in it")
        loader.held[1].set()
        eventually(lambda: servers.states(1)[running.address].failed)
        servers.apply(ONE)
        assert servers.states(1)[running.address].failed


def test_a_server_that_forgot_everything_is_told_again(base: Path, loader: Loader) -> None:
    with ExitStack() as first:
        running = first.enter_context(server(loader))
        servers = first.enter_context(told(base, running.address))
        reach(servers, SHADOW)
    with server(loader) as fresh, told(base, fresh.address) as servers:
        assert servers.states(1)[fresh.address] == VersionState("UNKNOWN")
        assert len(servers.missing(SHADOW)) == 4
        reach(servers, SHADOW)


def test_a_server_that_starts_from_the_file_needs_nobody(base: Path, loader: Loader) -> None:
    with server(loader) as running, told(base, running.address) as servers:
        reach(servers, SHADOW)
    with server(loader, base.parent / "models.config") as fresh, told(base, fresh.address) as servers:
        eventually(lambda: not servers.missing(SHADOW))
        assert servers.states(2)[fresh.address].state == "AVAILABLE"


def test_a_server_that_is_away_is_named_and_the_others_are_told(base: Path, loader: Loader) -> None:
    with server(loader) as gone:
        away = gone.address
    with server(loader) as running, told(base, away, running.address) as servers:

        def told_what_is_there() -> bool:
            with pytest.raises(ModelServerError, match=away):
                servers.apply(ONE)
            with told(base, running.address) as only:
                return not only.missing(ONE)

        eventually(told_what_is_there)
        for ask in (lambda: servers.missing(ONE), lambda: servers.states(1)):
            with pytest.raises(ModelServerError, match=f"model server {away} does not answer .* see whether it runs"):
                ask()


def test_a_folder_that_a_server_does_not_see_is_its_refusal(base: Path, loader: Loader) -> None:
    elsewhere = base.parent / "elsewhere"
    with (
        server(loader) as running,
        told(elsewhere, running.address) as servers,
        pytest.raises(ModelServerError) as refused,
    ):
        servers.apply(ONE)
    assert running.address in str(refused.value)
    assert "Could not find base path" in str(refused.value)


def test_the_file_is_a_configuration_of_tensorflow_serving(tmp_path: Path) -> None:
    file = tmp_path / "models.config"
    write_config(file, config(SHADOW, "fraud", tmp_path))
    assert read_config_file(file) == (
        ModelSettings("fraud", tmp_path, Specific(frozenset({1, 2})), {"stable": 1, "canary": 2}),
    )
    write_config(file, config(NOTHING, "fraud", tmp_path))
    assert read_config_file(file) == ()
    empty = text_format.Parse("model_config_list {}", ModelServerConfig())
    assert config(NOTHING, "fraud", tmp_path) == empty
    assert [child.name for child in tmp_path.iterdir()] == ["models.config"]


def test_the_file_is_replaced_when_it_changes_and_left_alone_otherwise(tmp_path: Path) -> None:
    file = tmp_path / "models.config"
    write_config(file, config(ONE, "fraud", tmp_path))
    before = file.stat()
    write_config(file, config(ONE, "fraud", tmp_path))
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    write_config(file, config(TWO, "fraud", tmp_path))
    assert file.stat().st_ino != before.st_ino


def test_a_label_needs_a_version_that_is_to_be_loaded() -> None:
    with pytest.raises(ValueError, match="'canary' names version 2"):
        Desired(frozenset({1}), {"canary": 2})
