"""Where a feature store is, and how it is opened: a file, or a Redis server."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from schemas.errors import ConfigurationError
from schemas.features import FeatureSpec
from serving.features.store import LATENESS_S, TableFeatureStore
from serving.sqlite import checkpoints

if TYPE_CHECKING:
    from serving.features.redis import RedisTable

EMBEDDED = "embedded"

_PORT = 6379
_ANSWER_S = 5.0
_RETRIES = 4
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.01, 0.2
# Windows are of the events' time, and a server's clock goes on while nobody processes events: so long may that last.
_STANDSTILL_S = 7 * 86_400


@dataclass(frozen=True)
class EmbeddedStore:
    """A store in a SQLite file, made if it is not there."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def open(self, spec: FeatureSpec, lateness_s: int = LATENESS_S) -> TableFeatureStore:
        """The store for a specification; raises as `TableFeatureStore.embedded` does."""
        return TableFeatureStore.embedded(self.path, spec, lateness_s)

    def is_there(self, spec: FeatureSpec) -> bool:
        """Whether there is a store; asking makes none."""
        return self.path.exists()

    @contextmanager
    def make(self, spec: FeatureSpec) -> Iterator[TableFeatureStore]:
        """A new store, which is there when all went well, and not before.

        Raises:
            ConfigurationError: one is there already.
        """
        if self.path.exists():
            raise ConfigurationError(
                f"feature store {self.path} is there already; remove it, or name another --workspace"
            )
        with self._aside() as aside:
            with closing(aside.open(spec)) as store:
                yield store
            # Closed, because the last connection takes the write-ahead log into the file.
            try:
                # Unlike a rename, a link does not replace what somebody else has made meanwhile.
                os.link(aside.path, self.path)
            except FileExistsError:
                raise ConfigurationError(
                    f"feature store {self.path} was made meanwhile; remove one of the two"
                ) from None

    @contextmanager
    def scratch(self, spec: FeatureSpec) -> Iterator[TableFeatureStore]:
        """A new store of this kind beside it, which nobody knows and which is gone in the end."""
        with self._aside() as aside, closing(aside.open(spec)) as store:
            yield store

    def upkeep(self) -> AbstractContextManager[None]:
        """What goes on beside an open store."""
        return checkpoints(self.path)

    @contextmanager
    def _aside(self) -> Iterator[EmbeddedStore]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.path.parent, prefix=f".{self.path.name}.") as folder:
            yield EmbeddedStore(Path(folder) / "store.sqlite")


@dataclass(frozen=True)
class RedisStore:
    """A store in a database of a Redis server, beside those of other names.

    Attributes:
        url: `redis://[USER@]HOST[:PORT][/DATABASE]`, or `rediss://` for TLS.
        name: of the store.
        password_file: holds the password, so that it is in no argument, environment or log.

    Raises:
        ConfigurationError: the URL is of another form, or holds a password.
    """

    url: str
    name: str
    password_file: Path | None = None

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.password is not None:
            # Named without it, because messages end up in logs.
            raise ConfigurationError(
                f"the feature store's address of {parts.scheme}://{parts.hostname} holds a password; put it into a "
                "file and name that as --feature-store-password-file"
            )
        database = parts.path.removeprefix("/")
        if (
            parts.scheme not in ("redis", "rediss")
            or not parts.hostname
            or not _is_port(self.url)
            or not (database == "" or (database.isascii() and database.isdigit()))
            or parts.query
            or parts.fragment
        ):
            raise ConfigurationError(
                f"feature store {self.url!r} is none; use {EMBEDDED}, redis://HOST:PORT/DATABASE or "
                "rediss://HOST:PORT/DATABASE"
            )

    def __str__(self) -> str:
        return self.url

    def open(self, spec: FeatureSpec, lateness_s: int = LATENESS_S) -> TableFeatureStore:
        """The store for a specification.

        Raises:
            FeatureStoreError: the server cannot be reached, refuses the login, or does not work.
            ConfigurationError: the password file cannot be read, or state would not be safe there.
            ArtifactError: the store there is of other features.
        """
        return TableFeatureStore(self.table(spec, lateness_s), spec, lateness_s)

    def is_there(self, spec: FeatureSpec) -> bool:
        """Whether there is a store of the name; asking makes none.  Raises as `open` does."""
        with closing(self.table(spec, aside=True)) as table:
            return table.published

    @contextmanager
    def make(self, spec: FeatureSpec) -> Iterator[TableFeatureStore]:
        """A new store, which is there when all went well, and not before.

        What a process leaves behind that is killed in the middle is no store, and runs out as all state does.

        Raises:
            ConfigurationError: one is there already.
            FraudOpsError: as `open` does.
        """
        table = self.table(spec, aside=True)
        with closing(table):
            if table.published:
                raise ConfigurationError(
                    f"feature store {self.name} is in {self.url} already; name another database, or delete its keys"
                )
            try:
                yield TableFeatureStore(table, spec)
                table.publish()
            except BaseException:
                table.discard()
                raise

    @contextmanager
    def scratch(self, spec: FeatureSpec) -> Iterator[TableFeatureStore]:
        """A new store of this kind beside it, which nobody knows and which is gone in the end."""
        table = self.table(spec, aside=True)
        with closing(table):
            try:
                yield TableFeatureStore(table, spec)
            finally:
                table.discard()

    def table(self, spec: FeatureSpec, lateness_s: int = LATENESS_S, aside: bool = False) -> RedisTable:
        """The store's table; `aside` is one that nobody knows before it is published.  Raises as `open` does."""
        # The client takes a tenth of a second to import, which those of a file need not wait for.
        from redis import Redis
        from redis.backoff import ExponentialBackoff
        from redis.retry import Retry

        from serving.features.redis import RedisTable

        parts = urlsplit(self.url)
        connect = partial(
            Redis,
            host=parts.hostname or "",
            port=parts.port or _PORT,
            db=int(parts.path.removeprefix("/") or 0),
            username=None if parts.username is None else unquote(parts.username),
            password=self._password(),
            ssl=parts.scheme == "rediss",
            socket_timeout=_ANSWER_S,
            socket_connect_timeout=_ANSWER_S,
            # What is sent again is harmless: a commit that was done already is refused, because versions have moved.
            retry=Retry(ExponentialBackoff(_LONGEST_WAIT_S, _FIRST_WAIT_S), _RETRIES),
            # A pool would look at its connection before each command, which is one system call more.
            single_connection_client=True,
        )
        ttl_s = spec.reach_s + lateness_s + _STANDSTILL_S
        # A name must not hold what separates names, or stands for others.
        return RedisTable(connect, quote(self.name, safe=""), self.url, ttl_s, secrets.token_hex(8), aside)

    def upkeep(self) -> AbstractContextManager[None]:
        """Nothing goes on beside an open store."""
        return nullcontext()

    def _password(self) -> str | None:
        if self.password_file is None:
            return None
        try:
            return self.password_file.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(
                f"feature store's password file {self.password_file} cannot be read: {error}"
            ) from error


StoreAddress = EmbeddedStore | RedisStore


def address_of(text: str, file: Path, name: str, password_file: Path | None) -> StoreAddress:
    """What a store's address on the command line means.

    Args:
        text: `embedded`, or the URL of a Redis server.
        file: of the embedded store.
        name: of the store on a server.
        password_file: of that server.

    Raises:
        ConfigurationError: it is none, or holds a password, or there is a password for a file.
    """
    if text != EMBEDDED:
        return RedisStore(text, name, password_file)
    if password_file is not None:
        raise ConfigurationError(
            f"--feature-store-password-file {password_file} is for a server, and the store is {EMBEDDED}; leave it out"
        )
    return EmbeddedStore(file)


def _is_port(url: str) -> bool:
    try:
        return urlsplit(url).port != 0
    except ValueError:
        return False
