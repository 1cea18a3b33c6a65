"""New tables of every kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

import pytest

from schemas.features import FeatureSpec
from serving.features import LATENESS_S, MemoryTable, SqliteTable, TableFeatureStore
from serving.features.redis import RedisTable
from serving.features.table import Table
from tests.redis_server import RedisServer, redis_server

_NUMBERS = count()
TTL_S = 3_600


@pytest.fixture(scope="session")
def redis_at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One server for all tests that only want a name of their own on it."""
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


def redis_table(server: RedisServer, name: str, aside: bool = False) -> RedisTable:
    """A table of that name."""
    return RedisTable(server.client, name, server.url, TTL_S, f"token{next(_NUMBERS)}", aside)


# Of the whole session, so that hypothesis may call it for each example.
@pytest.fixture(scope="session", params=["memory", "sqlite", "redis"])
def new_table(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Table]:
    """Makes a new table of the kind."""
    if request.param == "memory":
        return MemoryTable
    if request.param == "sqlite":
        folder = tmp_path_factory.mktemp("tables")
        return lambda: SqliteTable(folder / f"{next(_NUMBERS)}.sqlite")
    server: RedisServer = request.getfixturevalue("redis_at")
    return lambda: redis_table(server, f"n{next(_NUMBERS)}")


@pytest.fixture(scope="session")
def new_store(new_table: Callable[[], Table]) -> Callable[..., TableFeatureStore]:
    """Makes a new store over such a table."""

    def make(spec: FeatureSpec, lateness_s: int = LATENESS_S) -> TableFeatureStore:
        return TableFeatureStore(new_table(), spec, lateness_s)

    return make
