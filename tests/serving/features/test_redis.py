"""What only a Redis server can do to a store: several writers at once, lost connections, restarts, memory."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import pytest
import redis

from schemas.errors import ArtifactError, ConfigurationError, FeatureStoreError
from schemas.features import FEATURES, specify
from schemas.transaction import COLUMN, SECOND_US
from serving.features import Features, RedisStore, TableFeatureStore
from serving.features.keys import AFTER, entity
from serving.features.redis import RedisTable
from serving.features.table import Conflict, Range, one
from tests.components.features.test_engine import EVERYTHING, UNUSUAL
from tests.redis_server import RedisServer, free_port, redis_server
from tests.serving.features.conftest import TTL_S, redis_table
from tests.serving.features.writer import COUNTED, payment

ROOT = Path(__file__).parents[3]
CARD, DEVICE = entity("card", ["c"]), entity("device", ["d"])
PASSWORD = "s3cret-of-a-test"
WRITER = """
import sys
from serving.features import RedisStore
from tests.serving.features.writer import COUNTED, payment
url, name, batch = sys.argv[1:]
store = RedisStore(url, "shared").open(COUNTED)
print("open", flush=True)
sys.stdin.readline()
for first in range(0, 120, int(batch)):
    store.observe_all([payment(name, number) for number in range(first, first + int(batch))])
store.close()
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server of the test's own."""
    with redis_server(tmp_path) as server:
        yield server


def seen(store: TableFeatureStore, number: int = 0) -> Features:
    """What a payment sees that comes after all others."""
    return store.observe(payment("reader", number) | {"event_time": SECOND_US})


@pytest.mark.parametrize("batch", [1, 30])
def test_processes_that_update_one_card_at_once_lose_nothing(server: RedisServer, batch: int) -> None:
    command = [sys.executable, "-c", WRITER, server.url]
    writers = [
        subprocess.Popen([*command, name, str(batch)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for name in ("a", "b")
    ]
    try:
        for writer in writers:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"open\n"
        for writer in writers:
            assert writer.stdin is not None
            writer.stdin.write(b"\n")
            writer.stdin.flush()
        for writer in writers:
            writer.communicate(timeout=300)
            assert writer.returncode == 0
    finally:
        for writer in writers:
            writer.kill()
            writer.communicate()
    with closing(RedisStore(server.url, "shared").open(COUNTED)) as store:
        assert seen(store).numbers == (240, 240, 240, 1, 240, 240, 240)


def test_one_transaction_that_comes_to_two_stores_at_once_counts_once(redis_at: RedisServer) -> None:
    stores = [TableFeatureStore(redis_table(redis_at, "twice"), COUNTED) for _ in range(3)]
    found: list[str] = []
    barrier = threading.Barrier(len(stores))

    def observe(store: TableFeatureStore) -> None:
        for number in range(30):
            barrier.wait()
            found.append(repr((number, store.observe(payment("a", number)))))

    threads = [threading.Thread(target=observe, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 90
    assert len(set(found)) == 30
    assert seen(stores[0]).numbers[0] == 30
    for store in stores:
        store.close()


@pytest.fixture
def two(redis_at: RedisServer, request: pytest.FixtureRequest) -> Iterator[tuple[RedisTable, RedisTable]]:
    """Two connections to one table."""
    tables = (
        redis_table(redis_at, request.node.name.replace("[", "-")),
        redis_table(redis_at, request.node.name.replace("[", "-")),
    )
    yield tables
    for table in tables:
        table.close()


READS: dict[str, Callable[[RedisTable], Any]] = {
    "a range": lambda table: table.read([Range(CARD, CARD + AFTER)]),
    "nothing": lambda table: table.read([one(CARD + b"absent")]),
    "an answer": lambda table: table.read([one(b"aanswer")]),
}


@pytest.mark.parametrize("read", READS)
def test_what_was_read_and_changed_by_another_is_a_conflict(two: tuple[RedisTable, RedisTable], read: str) -> None:
    ours, theirs = two
    with pytest.raises(Conflict), ours.transaction():
        READS[read](ours)
        with theirs.transaction():
            theirs.write([(CARD + b"1", b"theirs"), (b"aanswer", b"theirs")], [])
        ours.write([(CARD + b"2", b"ours"), (DEVICE + b"1", b"ours"), (b"aother", b"ours")], [(CARD, CARD + AFTER)])
    with theirs.transaction():
        found = theirs.read([Range(CARD, CARD + AFTER), Range(DEVICE, DEVICE + AFTER), one(b"aanswer"), one(b"aother")])
    assert found == [[(CARD + b"1", b"theirs")], [], [(b"aanswer", b"theirs")], []]


def test_what_changes_between_two_turns_is_a_conflict_at_once(two: tuple[RedisTable, RedisTable]) -> None:
    ours, theirs = two
    with pytest.raises(Conflict), ours.transaction():
        ours.read([one(CARD + b"1")])
        with theirs.transaction():
            theirs.write([(CARD + b"2", b"theirs")], [])
        ours.read([one(CARD + b"3")])
        pytest.fail("it was read")


def test_transactions_of_other_entities_and_of_the_expiries_are_none(two: tuple[RedisTable, RedisTable]) -> None:
    ours, theirs = two
    with ours.transaction():
        ours.read([Range(CARD, CARD + AFTER), Range(b"x", b"x" + AFTER)])
        with theirs.transaction():
            theirs.read([Range(DEVICE, DEVICE + AFTER), Range(b"x", b"x" + AFTER)])
            theirs.write([(DEVICE + b"1", b"theirs"), (b"xtheirs", b"")], [])
        ours.write([(CARD + b"1", b"ours"), (b"xours", b"")], [(b"xtheirs", b"xtheirs\0")])
    with ours.transaction():
        assert ours.read([Range(b"x", b"x" + AFTER), one(DEVICE + b"1")]) == [
            [(b"xours", b"")],
            [(DEVICE + b"1", b"theirs")],
        ]


def test_one_that_loses_again_and_again_gets_its_turn(two: tuple[RedisTable, RedisTable]) -> None:
    ours, theirs = two
    lost = refused = 0
    for number in range(20):
        try:
            with ours.transaction():
                ours.read([one(CARD + b"1")])
                try:
                    with theirs.transaction():
                        theirs.read([one(CARD + b"1")])
                        theirs.write([(CARD + b"1", b"%d" % number)], [])
                except Conflict:
                    refused += 1
                ours.write([(CARD + b"1", b"ours")], [])
            break
        except Conflict:
            lost += 1
    assert (lost, refused) == (3, 1)
    with theirs.transaction():
        assert theirs.read([one(CARD + b"1")]) == [[(CARD + b"1", b"ours")]]
        theirs.write([(CARD + b"1", b"theirs again")], [])


def test_all_but_the_header_runs_out_and_is_kept_longer_than_any_window_reaches(server: RedisServer) -> None:
    with closing(RedisStore(server.url, "s").open(EVERYTHING, 600)) as store:
        store.observe(payment("a", 0) | {"city": "x"})
        store.label(payment("a", 0), True, SECOND_US)
    with server.client() as client:
        lives: dict[bytes, Any] = {key: client.ttl(key) for key in client.scan_iter()}
    lasting = {key for key, ttl in lives.items() if ttl == -1}
    [state] = [key for key in lasting if key.count(b":") == 1]
    assert lasting == {state, next(key for key in lives if key.endswith(b":h"))}
    passing = {ttl for ttl in lives.values() if ttl != -1}
    assert len(lives) > 6
    assert min(passing) > EVERYTHING.reach_s + 600 > max(f.window.length_s for f in EVERYTHING.features)


def test_a_change_lets_an_entity_live_anew(redis_at: RedisServer) -> None:
    with closing(redis_table(redis_at, "anew")) as table, redis_at.client() as client:
        with table.transaction():
            table.write([(CARD + b"1", b"v")], [])
        [key] = client.scan_iter(b"fraudops:anew:*:e*")
        client.expire(key, 5)
        with table.transaction():
            table.write([(CARD + b"2", b"v")], [])
        assert 5 < client.ttl(key) <= TTL_S


def test_scripts_that_the_server_forgot_are_loaded_again(server: RedisServer) -> None:
    with closing(RedisStore(server.url, "s").open(COUNTED)) as store, server.client() as client:
        store.observe(payment("a", 0))
        client.script_flush()
        store.observe(payment("a", 1))
        assert seen(store).numbers[0] == 2


def test_a_server_that_was_killed_has_all_that_was_acknowledged(tmp_path: Path) -> None:
    """With `appendfsync always`, which waits for the disk at each commit.

    With `everysec`, Redis' own default, a crash may lose what was acknowledged in the last second, and in the last two
    where the disk is slow: the log is written after the answer while an earlier part is still on its way to the disk.
    """
    with (
        redis_server(tmp_path, "--appendonly", "yes", "--appendfsync", "always") as server,
        closing(RedisStore(server.url, "s").open(COUNTED)) as store,
    ):
        for number in range(40):
            store.observe(payment("a", number))
            if number == 20:
                server.kill()
                server.start()
        server.kill()
        with pytest.raises(FeatureStoreError, match=f"127.0.0.1:{server.port}/0 does not answer"):
            store.observe(payment("a", 40))
        server.start()
        # It comes again, and then it is there.
        store.observe(payment("a", 40))
        store.observe(payment("a", 40))
        assert seen(store).numbers == (41, 41, 41, 1, 41, 41, 41)


def test_a_commit_whose_answer_was_lost_counts_once(redis_at: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(RedisStore(redis_at.url, "lost").open(COUNTED)) as store:
        for number in range(3):
            store.observe(payment("a", number))
        read_response = redis.Connection.read_response
        lose = [False, False, True]  # two turns of reading, and the commit

        def losing(connection: redis.Connection, *args: Any, **options: Any) -> Any:
            answer = read_response(connection, *args, **options)
            if lose and lose.pop(0):
                connection.disconnect()
                raise redis.ConnectionError("the line was cut")
            return answer

        monkeypatch.setattr(redis.Connection, "read_response", losing)
        store.observe(payment("a", 3))
        assert not lose
        assert seen(store).numbers[0] == 4


def test_a_server_without_memory_refuses_all_and_says_so(server: RedisServer) -> None:
    with closing(RedisStore(server.url, "s").open(COUNTED)) as store, server.client() as client:
        for number in range(3):
            store.observe(payment("a", number))
        client.config_set("maxmemory", 1)
        with pytest.raises(FeatureStoreError, match="no memory left"):
            store.observe(payment("a", 3))
        client.config_set("maxmemory", 0)
        assert seen(store).numbers[0] == 3


def test_a_server_that_drops_keys_is_refused(server: RedisServer) -> None:
    with server.client() as client:
        client.config_set("maxmemory", 1 << 30)
        client.config_set("maxmemory-policy", "allkeys-lru")
    with pytest.raises(ConfigurationError, match="maxmemory-policy allkeys-lru"):
        RedisStore(server.url, "s").open(COUNTED)


def test_a_cluster_is_refused(tmp_path: Path) -> None:
    # By default the cluster's port is 10,000 above the other, where there may be none.
    options = ("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    with (
        redis_server(tmp_path, *options) as server,
        pytest.raises(ConfigurationError, match="is a Redis Cluster"),
    ):
        RedisStore(server.url, "s").open(COUNTED)


def test_a_password_is_read_from_its_file_and_a_wrong_one_is_told(tmp_path: Path) -> None:
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    right.write_text(PASSWORD + "\n")
    wrong.write_text("another")
    with redis_server(tmp_path, "--requirepass", PASSWORD) as server:
        with closing(RedisStore(server.url, "s", right).open(COUNTED)) as store:
            store.observe(payment("a", 0))
        for file in (wrong, None):
            with pytest.raises(FeatureStoreError, match="refuses the login") as told:
                RedisStore(server.url, "s", file).open(COUNTED)
            assert PASSWORD not in str(told.value)
            assert "another" not in str(told.value)


def test_a_store_of_other_features_is_refused_and_one_of_another_name_is_not(redis_at: RedisServer) -> None:
    RedisStore(redis_at.url, "first").open(EVERYTHING).close()
    RedisStore(redis_at.url, "first").open(EVERYTHING).close()
    with pytest.raises(ArtifactError, match="load a new store"):
        RedisStore(redis_at.url, "first").open(UNUSUAL)
    with closing(RedisStore(redis_at.url, "fir*").open(COUNTED)) as star:
        star.observe(payment("a", 0))
        with closing(RedisStore(redis_at.url, "fir").open(COUNTED)) as other:
            assert seen(other).numbers[0] == 0


def test_a_busy_entity_takes_no_more_memory_than_is_said(server: RedisServer) -> None:
    """The bound is that of `serving/features/redis.py`; the rows' number is held by the tests of the store."""
    spec = specify(COLUMN, FEATURES, ())
    with closing(RedisStore(server.url, "s").table(spec)) as table, server.client() as client:
        store = TableFeatureStore(table, spec)
        grown = []
        for number in range(720):
            # All of one card at one merchant, every ten seconds, now here, now there.
            at = {"event_time": number * 10 * SECOND_US, "city": f"c{number % 9}", "country": f"c{number % 3}"}
            store.observe(payment("a", number) | at | {"amount_minor": number, "latitude": 1.5, "longitude": 2.5})
            store.label(payment("a", number), number % 7 == 0, number * 10 * SECOND_US)
            if number % 360 == 359:
                used: dict[str, int] = {}
                for kind, values in (("card", ["c"]), ("merchant", ["m"])):
                    prefix = entity(kind, values)
                    with table.transaction():
                        [rows] = table.read([Range(prefix, prefix + AFTER)])
                    [key] = [key for key in client.scan_iter() if key.endswith(prefix)]
                    used[kind] = cast(int, client.memory_usage(key, samples=0))
                    content = sum(len(name) - len(prefix) + len(value) for name, value in rows)
                    assert used[kind] <= 1.25 * content + 128 * len(rows) + 512
                grown.append(used)
    first, second = grown
    # Windows of an hour are full after one; what grows on are hours and days.
    assert all(second[kind] < 1.2 * first[kind] + 2_048 for kind in first)


def test_a_store_that_the_server_lost_is_missed_and_not_made_again_in_silence(server: RedisServer) -> None:
    with closing(RedisStore(server.url, "s").open(COUNTED)) as store, server.client() as client:
        store.observe(payment("a", 0))
        client.flushdb()
        for number in (1, 2):
            with pytest.raises(FeatureStoreError, match="has lost fraudops:s, or has another"):
                store.observe(payment("a", number))
            assert client.dbsize() == number - 1
            client.set("fraudops:s", "another")
