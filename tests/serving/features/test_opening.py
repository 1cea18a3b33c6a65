"""Addresses of stores; new stores that take their place when they are whole, or never."""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis

from schemas.errors import ConfigurationError, FeatureStoreError
from schemas.transaction import SECOND_US
from serving.features import EmbeddedStore, ProcessFeatureStore, RedisStore, StoreAddress, TableFeatureStore, address_of
from serving.features.loading import load
from tests.redis_server import RedisServer
from tests.serving.features.writer import COUNTED, payment

ROOT = Path(__file__).parents[3]
LOG = [payment("log", number) | {"event_time": number * SECOND_US} for number in range(700)]
DYING = """
import os, signal, sys
from serving.features import RedisStore
from serving.features.loading import load
from tests.serving.features.test_opening import COUNTED, LOG, columns
with RedisStore(sys.argv[1], sys.argv[2]).make(COUNTED) as store:
    load(store, columns(LOG))
    os.kill(os.getpid(), signal.SIGKILL)
"""


def columns(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """A log as `load` takes it."""
    return {name: [row[name] for row in rows] for name in rows[0]}


@pytest.fixture(params=["embedded", "redis"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> StoreAddress:
    """Of a store that is not there."""
    if request.param == "embedded":
        return EmbeddedStore(tmp_path / "serving" / "store.sqlite")
    server: RedisServer = request.getfixturevalue("redis_at")
    return RedisStore(server.url, request.node.name)


def counted(store: TableFeatureStore) -> float:
    """How many payments a later one sees."""
    return store.observe(payment("reader", 0) | {"event_time": 701 * SECOND_US}).numbers[0]


def test_a_new_store_is_there_when_it_is_whole_and_is_not_made_twice(address: StoreAddress) -> None:
    with address.make(COUNTED) as store:
        load(store, columns(LOG))
        assert not address.is_there(COUNTED)
        with address.scratch(COUNTED) as other:
            assert counted(other) == 0
    assert address.is_there(COUNTED)
    with pytest.raises(ConfigurationError, match="already"), address.make(COUNTED):
        pass
    with closing(address.open(COUNTED)) as store:
        assert counted(store) == len(LOG)


def test_of_a_store_that_was_not_finished_nothing_stays(address: StoreAddress) -> None:
    with pytest.raises(RuntimeError), address.make(COUNTED) as store:
        load(store, columns(LOG))
        raise RuntimeError
    if isinstance(address, EmbeddedStore):
        assert not list(address.path.parent.iterdir())
    with closing(address.open(COUNTED)) as store:
        assert counted(store) == 0


def test_a_store_that_was_made_meanwhile_is_not_replaced(address: StoreAddress) -> None:
    def make() -> None:
        with address.make(COUNTED) as store:
            load(store, columns(LOG))
            with closing(address.open(COUNTED)) as other:
                other.observe(payment("a", 0))

    if isinstance(address, EmbeddedStore):
        address.path.parent.mkdir()
    with pytest.raises(ConfigurationError, match=r"meanwhile|already"):
        make()
    with closing(address.open(COUNTED)) as store:
        assert counted(store) == 1


def test_a_store_is_in_force_although_the_answer_to_that_was_lost(
    redis_at: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = RedisStore(redis_at.url, "in force")
    read_response = redis.Connection.read_response
    cut: list[bool] = []

    def losing(connection: redis.Connection, *args: Any, **options: Any) -> Any:
        answer = read_response(connection, *args, **options)
        if not cut:
            cut.append(True)
            connection.disconnect()
            raise redis.ConnectionError("the line was cut")
        return answer

    with address.make(COUNTED) as store:
        load(store, columns(LOG))
        monkeypatch.setattr(redis.Connection, "read_response", losing)
    assert cut
    with closing(address.open(COUNTED)) as store:
        assert counted(store) == len(LOG)


def test_a_scratch_store_is_gone_in_the_end(redis_at: RedisServer, tmp_path: Path) -> None:
    with redis_at.client() as client:
        before = client.dbsize()
        with RedisStore(redis_at.url, "scratch").scratch(COUNTED) as store:
            store.observe(payment("a", 0))
            assert client.dbsize() != before
        assert client.dbsize() == before
    with EmbeddedStore(tmp_path / "serving" / "store").scratch(COUNTED) as store:
        store.observe(payment("a", 0))
    assert not list((tmp_path / "serving").iterdir())


def test_a_load_that_was_killed_is_taken_for_no_store_and_can_be_done_again(redis_at: RedisServer) -> None:
    command = [sys.executable, "-c", DYING, redis_at.url, "killed"]
    assert subprocess.run(command, cwd=ROOT, timeout=300).returncode == -signal.SIGKILL
    address = RedisStore(redis_at.url, "killed")
    with redis_at.client() as client:
        left = set(client.scan_iter("fraudops:killed:*"))
        assert len(left) > len(LOG) / 2
        assert all(client.ttl(key) != -1 for key in left if not key.endswith((b":h", b":l")))
    with address.make(COUNTED) as store:
        load(store, columns(LOG))
    with closing(address.open(COUNTED)) as store:
        assert counted(store) == len(LOG)


def test_a_process_of_its_own_works_on_a_server_as_on_a_file(address: StoreAddress, redis_at: RedisServer) -> None:
    if isinstance(address, EmbeddedStore):
        address.path.parent.mkdir()
    with closing(ProcessFeatureStore(address, COUNTED)) as store:
        store.observe_all(LOG)
        store.label(LOG[0], is_fraud=True, label_time=700 * SECOND_US)
    with closing(address.open(COUNTED)) as opened:
        assert counted(opened) == len(LOG)


def test_a_process_of_its_own_tells_what_is_wrong_with_the_server(tmp_path: Path) -> None:
    with pytest.raises(FeatureStoreError, match=r"127\.0\.0\.1:1/0 does not answer"):
        ProcessFeatureStore(RedisStore("redis://127.0.0.1:1/0", "s"), COUNTED)
    absent = tmp_path / "absent"
    with pytest.raises(ConfigurationError, match=f"{absent} cannot be read"):
        ProcessFeatureStore(RedisStore("redis://127.0.0.1:1/0", "s", absent), COUNTED)


def test_a_password_is_in_nothing_that_is_shown_or_told(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("s3cret")
    address = RedisStore("redis://user@db.example:6379/2", "s", file)
    assert b"s3cret" not in pickle.dumps(address)
    assert "s3cret" not in repr(address) + str(address)
    with pytest.raises(ConfigurationError, match="--feature-store-password-file") as told:
        RedisStore("redis://user:s3cret@db.example", "s")
    assert "s3cret" not in str(told.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "lmdb",
        "redis://",
        "redis://h/one",
        "redis://h:x/0",
        "redis://h:0",
        "http://h/0",
        "redis://h/0?db=1",
        "redis:/h",
    ],
)
def test_what_is_no_address_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is none; use embedded, redis://HOST"):
        address_of(text, tmp_path / "store", "s", None)


def test_an_address_names_the_file_or_the_server(tmp_path: Path) -> None:
    file, password = tmp_path / "store", tmp_path / "password"
    assert address_of("embedded", file, "s", None) == EmbeddedStore(file)
    assert address_of("rediss://h", file, "s", password) == RedisStore("rediss://h", "s", password)
    with pytest.raises(ConfigurationError, match="is for a server"):
        address_of("embedded", file, "s", password)
