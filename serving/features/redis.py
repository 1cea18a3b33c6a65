"""The table in a Redis database, shared by the gateways of many machines.

All rows of one entity are members of one sorted set, so that an entity is one key, runs out as a whole, and is read in
ranges.  A member is the row's key without the entity's prefix, escaped so that members are in the order of keys, two
zero bytes, and the value; the set's first member is its version.  Answers and the header are a string each, expiries
share one set.

A transaction holds nobody up.  Each turn of reading is one script, and so is the commit, which applies everything or,
where another has changed what was read, nothing.  An entity whose version moves between two turns is a conflict, too.
Expiries are not compared, because whoever deletes them deletes the same.  An answer is compared with what was read of
it, so that one transaction that comes to two gateways at once counts once.

An entity takes at most 1.25 times the bytes of its rows, without their prefix, and 128 bytes for each row, and 512: a
member is held by a hash table and a skip list.  `MEMORY USAGE` of the busiest is held to that in a test.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import redis
from redis.exceptions import AuthenticationError, NoPermissionError, OutOfMemoryError, RedisError

from schemas.errors import ConfigurationError, FeatureStoreError
from serving.features.keys import AFTER, ANSWER, ENTITY, ENTITY_BYTES, EXPIRY
from serving.features.table import Conflict, KeyRange, Range, Row

# How a part of the table is kept: a set with a version, a set that nobody compares, a string that runs out, and one
# that stays.
_ENTITY_SET, _LOOSE_SET, _PASSING, _LASTING = b"entity", b"loose", b"passing", b"lasting"
_SETS = (_ENTITY_SET, _LOOSE_SET)

# KEYS: the parts.  ARGV: of each its kind; then of each range its part's number, the command that reads it, its two
# bounds, and the limit.  Answers what the parts hold to compare, then the members of each range.
_READ = """
local found, at = {}, #KEYS
for part, key in ipairs(KEYS) do
  if ARGV[part] == 'entity' then
    found[part] = redis.call('ZRANGE', key, 0, 0)[1] or false
  elseif ARGV[part] == 'loose' then
    found[part] = false
  else
    found[part] = redis.call('GET', key)
  end
end
while at < #ARGV do
  found[#found + 1] = redis.call(
    ARGV[at + 2], KEYS[tonumber(ARGV[at + 1])], ARGV[at + 3], ARGV[at + 4], 'LIMIT', 0, ARGV[at + 5])
  at = at + 5
end
return found
"""

# KEYS: whose turn it is, the name, then the parts.  ARGV: who asks, the seconds to live, the state that must be in
# force ('' for one made aside), the new version; of each part its kind and what it must hold ('*' anything, '-'
# nothing, '=...' that); then of each part the number of its deletions and of its rows, the bounds of the ones and the
# members of the others.
# Answers 1 when all of it is done, 0 when others came between, and -1 when the state is no longer in force.
# The first that is written is what a server without memory refuses, so that it refuses all.
_COMMIT = """
local turn = redis.call('GET', KEYS[1])
if turn and turn ~= ARGV[1] then return 0 end
if ARGV[3] ~= '' and redis.call('GET', KEYS[2]) ~= ARGV[3] then return -1 end
local held = {}
for part = 3, #KEYS do
  local kind, expected = ARGV[2 * part - 1], ARGV[2 * part]
  if kind == 'entity' then
    held[part] = redis.call('ZRANGE', KEYS[part], 0, 0)[1]
  elseif expected ~= '*' then
    held[part] = redis.call('GET', KEYS[part])
  end
  if expected ~= '*' and (held[part] and '=' .. held[part] or '-') ~= expected then return 0 end
end
local version, at = '\\0\\0' .. ARGV[4], 2 * #KEYS
for part = 3, #KEYS do
  local key, kind, deletions, rows = KEYS[part], ARGV[2 * part - 1], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  at = at + 2
  if deletions + rows > 0 then
    if kind == 'entity' then
      redis.call('ZADD', key, 0, version)
      if held[part] and held[part] ~= version then redis.call('ZREM', key, held[part]) end
    end
    if kind == 'entity' or kind == 'loose' then
      for _ = 1, deletions do
        redis.call('ZREMRANGEBYLEX', key, ARGV[at + 1], ARGV[at + 2])
        at = at + 2
      end
      for _ = 1, rows do
        at = at + 1
        local name = string.sub(ARGV[at], 1, string.find(ARGV[at], '\\0\\0', 1, true) - 1)
        redis.call('ZREMRANGEBYLEX', key, '[' .. name .. '\\0\\0', '(' .. name .. '\\0\\1')
        redis.call('ZADD', key, 0, ARGV[at])
      end
      redis.call('EXPIRE', key, ARGV[2])
    else
      at = at + 2 * deletions + rows
      if rows == 0 then
        redis.call('DEL', key)
      elseif kind == 'passing' then
        redis.call('SET', key, ARGV[at], 'EX', ARGV[2])
      else
        redis.call('SET', key, ARGV[at])
      end
    end
  end
end
if turn then redis.call('DEL', KEYS[1]) end
return 1
"""

# After so many conflicts in a row a transaction asks that others wait for it, and they do for no longer than this.
_PATIENCE = 3
_TURN_MS = 2_000
_WAIT_S = 0.001
# Of a table that nobody knows yet, so many rows go at once.
_PIECE_ROWS = 5_000


@dataclass
class _Changes:
    """What a transaction has written of one part: first the ranges go, then the rows are put."""

    deleted: list[KeyRange] = field(default_factory=list)
    rows: dict[bytes, bytes] = field(default_factory=dict)

    def delete(self, begin: bytes, end: bytes) -> None:
        self.deleted.append((begin, end))
        for key in [key for key in self.rows if begin <= key < end]:
            del self.rows[key]

    def over(self, rows: Iterable[Row], wanted: Range) -> list[Row]:
        """What the transaction sees of a range that holds rows without it."""
        seen = {key: value for key, value in rows if not any(begin <= key < end for begin, end in self.deleted)}
        seen |= {key: value for key, value in self.rows.items() if wanted.begin <= key < wanted.end}
        return sorted(seen.items(), reverse=wanted.last)[: wanted.limit]


class RedisTable:
    """Rows of one name in a database that may hold others.

    The name stands for the state that is in force; another one can be made aside, which nobody sees before `publish`.

    Args:
        connect: makes a client of one server, not of a cluster, which is closed with the table.
        name: of the table, without colons and wildcards.
        where: the server, as errors call it.
        ttl_s: how long an entity lives after its last change, in seconds; it must be longer than the longest window.
        token: a word that no other table has; it becomes the name of a state that this table makes.
        aside: whether to make a state that nobody knows, instead of taking the one in force.

    Raises:
        FeatureStoreError: the server cannot be reached, refuses the login, or does not work.
        ConfigurationError: it is one of a cluster, or drops keys that it was told to keep.
    """

    runs_out = True

    def __init__(
        self, connect: Callable[[], redis.Redis], name: str, where: str, ttl_s: int, token: str, aside: bool = False
    ) -> None:
        self._where = where
        self._ttl_s = ttl_s
        self._token = token.encode()
        self._aside = aside
        self._in_force = f"fraudops:{name}"
        # One connection for all threads of the process, which take turns.
        self._lock = threading.Lock()
        self._conflicts = self._commits = 0
        self._begin()
        with self._telling():
            self._client = client = connect()
            _check(client.info(), where)
            if not aside:
                client.set(self._in_force, token, nx=True)
            held: Any = token.encode() if aside else client.get(self._in_force)
        self._read = client.register_script(_READ)
        self._commit = client.register_script(_COMMIT)
        self._state: bytes = held
        self._prefix = b"%s:%s:" % (self._in_force.encode(), self._state)
        self._turn = self._prefix + b"turn"

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Sees what others have committed, and commits at the end.

        Raises:
            Conflict: what was read has been changed by another since; nothing was written.
            FeatureStoreError: the server cannot be reached, or does not work.  Whether a commit under way was done is
                then not known.
        """
        with self._lock, self._telling():
            if self._conflicts >= _PATIENCE:
                self._take_turn()
            try:
                yield
                # What was read in one turn is one state already.
                if self._changes or self._turns > 1:
                    self._write_changes()
                self._conflicts = 0
            except Conflict:
                self._conflicts += 1
                raise
            finally:
                self._begin()

    def read(self, ranges: Sequence[Range]) -> list[list[Row]]:
        """The rows of each range.

        One over several entities is searched for in the whole database, and what comes to it later is no conflict.

        Raises:
            Conflict: an entity was changed since it was first read.
        """
        self._turns += 1
        places = [_part_of_range(wanted) for wanted in ranges]
        parts: dict[bytes, int] = {}
        kinds: list[bytes] = []
        arguments: list[bytes | int] = []
        for wanted, (part, kind) in zip(ranges, places, strict=True):
            if part is None:
                continue
            if part not in parts:
                parts[part] = len(parts) + 1
                kinds.append(kind)
            if kind in _SETS:
                low, high = _bounds(part, wanted.begin, wanted.end)
                # What is merged with changes has to be whole.
                limit = -1 if wanted.limit is None or part in self._changes else wanted.limit
                command = (b"ZREVRANGEBYLEX", high, low) if wanted.last else (b"ZRANGEBYLEX", low, high)
                arguments += (parts[part], *command, limit)
        found: Any = self._read(keys=[self._prefix + part for part in parts], args=[*kinds, *arguments])
        held = dict(zip(parts, found, strict=False))
        self._compare(held, kinds)
        members = iter(found[len(parts) :])
        answer = []
        for wanted, (part, kind) in zip(ranges, places, strict=True):
            if part is None:
                answer.append(self._search(wanted))
                continue
            if kind in _SETS:
                rows = [_row(part, member) for member in next(members)]
            else:
                rows = [] if held[part] is None else [(part, held[part])][: wanted.limit]
            changes = self._changes.get(part)
            answer.append(changes.over(rows, wanted) if changes else rows)
        return answer

    def write(self, rows: Iterable[Row], deleted: Iterable[KeyRange]) -> None:
        """Deletes ranges, each within one entity, then puts rows in the place of those with their keys.

        A state that nobody knows yet is written as it comes.
        """
        for begin, end in deleted:
            part, _ = _part_of_range(Range(begin, end))
            if part is None:
                raise ValueError(f"the rows from {begin!r} to {end!r} are of several entities; delete them one by one")
            self._changes.setdefault(part, _Changes()).delete(begin, end)
        for number, (key, value) in enumerate(rows, 1):
            part, kind = _part(key)
            if kind in _SETS and key == part:
                raise ValueError(f"a row is named {key!r}, which is the prefix of an entity's; give it a longer name")
            self._changes.setdefault(part, _Changes()).rows[key] = value
            if self._aside and number % _PIECE_ROWS == 0:
                self._write_changes()
                self._begin()

    def publish(self) -> None:
        """Puts the state that was made aside in force.

        Raises:
            ConfigurationError: there is one already.
            FeatureStoreError: the server cannot be reached.
        """
        with self._lock, self._telling():
            client: Any = self._client
            # One whose answer was lost is sent again, and finds itself.
            if not client.set(self._in_force, self._token, nx=True) and client.get(self._in_force) != self._token:
                raise ConfigurationError(
                    f"{self._where} holds the store {self._in_force} already; use another database, or delete that key"
                )
            self._aside = False

    @property
    def published(self) -> bool:
        """Whether there is a state in force, this one or another."""
        with self._lock, self._telling():
            return bool(self._client.exists(self._in_force))

    def discard(self) -> None:
        """Deletes the state that was made aside."""
        with self._lock, self._telling():
            for keys in _batches(self._client.scan_iter(self._prefix + b"*", 1_000), 1_000):
                self._client.unlink(*keys)

    def close(self) -> None:
        """Closes the connection."""
        with self._lock:
            self._client.close()

    def _take_turn(self) -> None:
        """Waits until nobody else has asked that others wait, and asks."""
        client: Any = self._client
        while not client.set(self._turn, self._token, nx=True, px=_TURN_MS) and client.get(self._turn) != self._token:
            time.sleep(_WAIT_S)

    def _begin(self) -> None:
        self._turns = 0
        # What each part held when it was first read, and what has been written over it.
        self._seen: dict[bytes, bytes | None] = {}
        self._changes: dict[bytes, _Changes] = {}

    def _compare(self, held: dict[bytes, bytes | None], kinds: Sequence[bytes]) -> None:
        for (part, now), kind in zip(held.items(), kinds, strict=True):
            if kind != _LOOSE_SET and self._seen.setdefault(part, now) != now:
                raise Conflict

    def _write_changes(self) -> None:
        parts = list(self._seen | self._changes)
        checks: list[bytes] = []
        arguments: list[bytes | int] = []
        for part in parts:
            _, kind = _part(part)
            before = self._seen.get(part)
            checks += [kind, b"*" if part not in self._seen else b"-" if before is None else b"=" + before]
            changes = self._changes.get(part, _Changes())
            arguments += [len(changes.deleted), len(changes.rows)]
            for begin, end in changes.deleted:
                arguments += _bounds(part, begin, end)
            for key, value in changes.rows.items():
                arguments.append(_escaped(key[len(part) :]) + b"\0\0" + value if kind in _SETS else value)
        keys = [self._turn, self._in_force.encode(), *(self._prefix + part for part in parts)]
        state = b"" if self._aside else self._state
        # No other commit has it, not even before a server that went back to an older state.
        self._commits += 1
        version = b"%s-%d" % (self._token, self._commits)
        done = self._commit(keys=keys, args=[self._token, self._ttl_s, state, version, *checks, *arguments])
        if done == -1:
            raise FeatureStoreError(
                f"feature store {self._where} has lost {self._in_force}, or has another by now; see whether the server "
                "kept its data, and start anew what uses it"
            )
        if done == 0:
            raise Conflict

    def _search(self, wanted: Range) -> list[Row]:
        """The rows of a range over several entities."""
        names = (key[len(self._prefix) :] for key in self._client.scan_iter(self._prefix + b"*", 1_000))
        parts = {name for name in names if name != b"turn"} | self._changes.keys()
        whole = [Range(part, part + AFTER if _part(part)[1] in _SETS else part + b"\0") for part in sorted(parts)]
        rows = [row for found in self.read(whole) for row in found if wanted.begin <= row[0] < wanted.end]
        return (rows[::-1] if wanted.last else rows)[: wanted.limit]

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Says what a failure of the server means."""
        try:
            yield
        except (AuthenticationError, NoPermissionError) as error:
            raise FeatureStoreError(
                f"feature store {self._where} refuses the login ({error}); name the user in the address and the "
                "password's file as --feature-store-password-file"
            ) from error
        except OutOfMemoryError as error:
            raise FeatureStoreError(
                f"feature store {self._where} has no memory left ({error}); nothing was written; raise its maxmemory"
            ) from error
        except (redis.ConnectionError, redis.TimeoutError) as error:
            raise FeatureStoreError(
                f"feature store {self._where} does not answer ({error}); see that a Redis server listens there"
            ) from error
        except RedisError as error:
            raise FeatureStoreError(f"feature store {self._where} refuses: {error}") from error


def _check(server: Any, where: str) -> None:
    """Whether state is safe there."""
    if server.get("redis_mode") == "cluster":
        raise ConfigurationError(
            f"{where} is a Redis Cluster; a transaction changes several keys at once, which only one server does: "
            "give the address of one that is none"
        )
    policy = server.get("maxmemory_policy", "noeviction")
    if server.get("maxmemory") and policy != "noeviction":
        raise ConfigurationError(
            f"{where} drops keys when its memory is full (maxmemory-policy {policy}), and features would be wrong "
            "without a word; set maxmemory-policy to noeviction"
        )


def _part(key: bytes) -> tuple[bytes, bytes]:
    """The part of the table that a row lies in, which is what its key begins with, and how that is kept."""
    mark = key[:1]
    if mark == ENTITY and len(key) >= ENTITY_BYTES:
        return key[:ENTITY_BYTES], _ENTITY_SET
    if mark == EXPIRY:
        return mark, _LOOSE_SET
    return key, _PASSING if mark == ANSWER else _LASTING


def _part_of_range(wanted: Range) -> tuple[bytes | None, bytes]:
    """The part that a range lies in, None where it is not one alone."""
    part, kind = _part(wanted.begin)
    if wanted.end.startswith(part) if kind in _SETS else wanted.end == part + b"\0":
        return part, kind
    return None, b""


def _escaped(name: bytes) -> bytes:
    """A name without two zero bytes in a row; the order of names is that of what is made of them."""
    return name.replace(b"\0", b"\0\1")


def _bounds(part: bytes, begin: bytes, end: bytes) -> tuple[bytes, bytes]:
    """Where the members of a range begin and end, as Redis writes it; the version comes before all."""
    return b"[" + (_escaped(begin[len(part) :]) or b"\0\1"), b"(" + _escaped(end[len(part) :])


def _row(part: bytes, member: bytes) -> Row:
    name, _, value = member.partition(b"\0\0")
    return part + name.replace(b"\0\1", b"\0"), value


def _batches(keys: Iterable[bytes], size: int) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    for key in keys:
        batch.append(key)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
