"""The rollout table: where the rollout stands, which routing is in force, and what gateways and operators say.

One controller writes; gateways read the routing and say which one they follow; operators look, and leave commands.
What belongs together is one transaction of the file, so that a death leaves what was before or what is after it.
"""

from __future__ import annotations

import fcntl
import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from schemas.errors import ArtifactError, ConfigurationError
from serving.rollout.routing import Routing
from serving.rollout.situation import Event, Situation
from serving.sqlite import connect, transaction

CommandName = Literal["pause", "resume", "abort"]

# A gateway that has said nothing for so long is forgotten.
_FORGET_US = 24 * 3600 * 1_000_000

_SCHEMA = """
CREATE TABLE IF NOT EXISTS routing (generation INTEGER PRIMARY KEY, routing TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS situation (one INTEGER PRIMARY KEY CHECK (one = 1), situation TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS history (
    id INTEGER PRIMARY KEY, time_us INTEGER NOT NULL, rollout INTEGER NOT NULL, version INTEGER NOT NULL,
    state TEXT NOT NULL, step INTEGER NOT NULL, weight REAL NOT NULL, generation INTEGER NOT NULL, reason TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS decision (
    version INTEGER NOT NULL, decision TEXT NOT NULL, standing INTEGER NOT NULL, refused TEXT NOT NULL,
    told TEXT NOT NULL, PRIMARY KEY (version, decision)
) STRICT;
CREATE TABLE IF NOT EXISTS command (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, by TEXT NOT NULL, reason TEXT NOT NULL, time_us INTEGER NOT NULL,
    executed INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE IF NOT EXISTS gateway (
    name TEXT PRIMARY KEY, generation INTEGER NOT NULL, adopted_us INTEGER NOT NULL, seen_us INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS controller (
    one INTEGER PRIMARY KEY CHECK (one = 1), seen_us INTEGER NOT NULL, note TEXT NOT NULL, checks TEXT NOT NULL
) STRICT;
"""


@dataclass(frozen=True)
class Command:
    """What an operator asked for."""

    id: int
    name: CommandName
    by: str
    reason: str
    time_us: int


@dataclass(frozen=True)
class Gateway:
    """A gateway's last word.

    Attributes:
        generation: of the routing under which it decides.
        adopted_us: when it first said so.
        seen_us: when it last said so.
    """

    name: str
    generation: int
    adopted_us: int
    seen_us: int


@dataclass(frozen=True)
class Decision:
    """An approval that the controller has seen.

    Attributes:
        decision: its digest.
        standing: whether the version's tags have said so at every look since the first; once False, always False.
        refused: why the version is not tried again under it; empty where it may be.
        told: what was last told in the history of why the version may not serve.
    """

    version: int
    decision: str
    standing: bool = True
    refused: str = ""
    told: str = ""


@dataclass(frozen=True)
class Status:
    """The rollout at a glance.

    Attributes:
        situation: where it stands.
        routing: what gateways follow, or are about to.
        checks: of the running step, as the judge gave them last; empty between rollouts.
        note: what the controller waits for, in a sentence; empty where for nothing.
        controller_seen_us: when the controller last said that it lives; None before the first time.
        gateways: all that were seen within a day.
        commands: those that the controller has not executed yet.
    """

    situation: Situation
    routing: Routing
    checks: tuple[Mapping[str, Any], ...]
    note: str
    controller_seen_us: int | None
    gateways: tuple[Gateway, ...]
    commands: tuple[Command, ...]


class RolloutTable:
    """The table in a SQLite file, made if it is not there.

    Every call may raise an ArtifactError: the path cannot be opened as such a file, or somebody holds it for too long.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        # One connection for all threads of the process, which take turns.
        self._lock = threading.Lock()
        try:
            self._db = connect(path, _SCHEMA)
        except sqlite3.Error as error:
            raise ArtifactError(
                f"{path} cannot be opened as a rollout table ({error}); name a file of one, or a new one"
            ) from error

    # What gateways use.

    def generation(self) -> int:
        """The number of the routing in force; 0 before any."""
        with self._reading() as db:
            [(generation,)] = db.execute("SELECT coalesce(max(generation), 0) FROM routing")
        return int(generation)

    def routing(self) -> Routing:
        """The routing in force; `Routing(0)` before any."""
        with self._reading() as db:
            return _routing(db)

    def adopt(self, gateway: str, generation: int, now_us: int) -> None:
        """Says that a gateway lives, and under which generation it decides on all that it takes from now on."""
        with self._writing() as db:
            db.execute(
                "INSERT INTO gateway VALUES (:name, :generation, :now, :now) ON CONFLICT (name) DO UPDATE SET "
                "adopted_us = iif(generation = excluded.generation, adopted_us, excluded.adopted_us), "
                "generation = excluded.generation, seen_us = excluded.seen_us",
                {"name": gateway, "generation": generation, "now": now_us},
            )

    # What operators use.

    def status(self) -> Status:
        """The rollout at one moment."""
        with self._reading() as db:
            beat = db.execute("SELECT seen_us, note, checks FROM controller").fetchone()
            seen_us, note, checks = beat or (None, "", "[]")
            return Status(
                _situation(db), _routing(db), tuple(json.loads(checks)), note, seen_us, _gateways(db), _commands(db)
            )

    def history(self) -> tuple[Event, ...]:
        """All that happened, oldest first."""
        with self._reading() as db:
            rows = db.execute(
                "SELECT time_us, rollout, version, state, step, weight, generation, reason FROM history ORDER BY id"
            )
            return tuple(Event(*row) for row in rows)

    def command(self, name: CommandName, by: str, reason: str, now_us: int) -> int:
        """Leaves a command for the controller, which executes it once, with its next tick.

        Returns:
            The command's id; `Status.commands` lists it until it is executed.
        """
        with self._writing() as db:
            cursor = db.execute(
                "INSERT INTO command (name, by, reason, time_us) VALUES (?, ?, ?, ?)", (name, by, reason, now_us)
            )
            assert cursor.lastrowid is not None
            return cursor.lastrowid

    def publish(self, routing: Routing) -> Routing:
        """Puts a routing in force by hand, under the next generation: for a first set-up without a controller.

        A controller that starts later ends it: what it has not promoted does not decide.

        Returns:
            The routing with its generation.

        Raises:
            ConfigurationError: a controller runs here, or did before, and is the one who publishes.
        """
        with self.lead(), self._writing() as db:
            if db.execute("SELECT 1 FROM situation").fetchone():
                raise ConfigurationError(
                    f"{self._path} is a rollout controller's; let it roll a version out, or name another workspace"
                )
            return _publish(db, routing)

    # What the controller uses.

    @contextmanager
    def lead(self) -> Iterator[None]:
        """Holds the table as its only controller; the lock goes with the process, however it ends.

        Raises:
            ConfigurationError: another controller holds it.
        """
        lock = self._path.with_name(self._path.name + ".lock")
        with open(lock, "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConfigurationError(
                    f"a rollout controller runs on {self._path} already ({lock} is held); stop it first, or name "
                    "another workspace"
                ) from None
            yield

    def situation(self) -> Situation:
        """Where the rollout stands; an empty one before any."""
        with self._reading() as db:
            return _situation(db)

    def commands(self) -> tuple[Command, ...]:
        """What was asked for and not executed yet, in order."""
        with self._reading() as db:
            return _commands(db)

    def gateways(self) -> tuple[Gateway, ...]:
        """All that were seen within a day."""
        with self._reading() as db:
            return _gateways(db)

    def decisions(self) -> tuple[Decision, ...]:
        """Every approval that was ever seen."""
        with self._reading() as db:
            rows = db.execute("SELECT version, decision, standing, refused, told FROM decision ORDER BY version, rowid")
            return tuple(
                Decision(version, decision, bool(standing), refused, told)
                for version, decision, standing, refused, told in rows
            )

    def advance(
        self,
        situation: Situation,
        events: Sequence[Event] = (),
        routing: Routing | None = None,
        decisions: Iterable[Decision] = (),
        executed: Sequence[int] = (),
    ) -> None:
        """Writes a step down: all of it, or nothing.

        Args:
            situation: where things stand from now on.
            events: what to tell of it.
            routing: what gateways do from now on, under the generation that comes next; None changes nothing.
            decisions: approvals to remember, or to remember otherwise.
            executed: ids of the commands that this step executes.

        Raises:
            ArtifactError: the routing's generation is not the next one: somebody else has published.
        """
        with self._writing() as db:
            if routing is not None and (published := _publish(db, routing)) != routing:
                raise ArtifactError(
                    f"generation {routing.generation} of {self._path} was to be published, and {published.generation} "
                    "comes next: somebody else writes there, so see who"
                )
            db.execute("INSERT OR REPLACE INTO situation VALUES (1, ?)", (situation.to_json(),))
            db.executemany(
                "INSERT INTO history (time_us, rollout, version, state, step, weight, generation, reason) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                map(astuple, events),
            )
            db.executemany(
                "INSERT INTO decision VALUES (?, ?, ?, ?, ?) ON CONFLICT (version, decision) DO UPDATE SET "
                "standing = excluded.standing, refused = excluded.refused, told = excluded.told",
                map(astuple, decisions),
            )
            db.executemany("UPDATE command SET executed = 1 WHERE id = ?", ((id,) for id in executed))

    def beat(self, now_us: int, note: str, checks: Sequence[Mapping[str, Any]]) -> None:
        """Says that the controller lives, what it waits for, and how the running step looks."""
        with self._writing() as db:
            db.execute(
                "INSERT OR REPLACE INTO controller VALUES (1, ?, ?, ?)", (now_us, note, json.dumps(list(checks)))
            )
            db.execute("DELETE FROM gateway WHERE seen_us < ?", (now_us - _FORGET_US,))

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._db.close()

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock, transaction(self._db, "read", f"rollout table {self._path}") as db:
            yield db

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock, transaction(self._db, "write", f"rollout table {self._path}") as db:
            yield db


def _routing(db: sqlite3.Connection) -> Routing:
    row = db.execute("SELECT routing FROM routing ORDER BY generation DESC LIMIT 1").fetchone()
    return Routing(0) if row is None else Routing.from_json(row[0])


def _publish(db: sqlite3.Connection, routing: Routing) -> Routing:
    published = replace(routing, generation=_routing(db).generation + 1)
    db.execute("INSERT INTO routing VALUES (?, ?)", (published.generation, published.to_json()))
    return published


def _situation(db: sqlite3.Connection) -> Situation:
    row = db.execute("SELECT situation FROM situation").fetchone()
    return Situation() if row is None else Situation.from_json(row[0])


def _gateways(db: sqlite3.Connection) -> tuple[Gateway, ...]:
    rows = db.execute("SELECT name, generation, adopted_us, seen_us FROM gateway ORDER BY name")
    return tuple(Gateway(*row) for row in rows)


def _commands(db: sqlite3.Connection) -> tuple[Command, ...]:
    rows = db.execute("SELECT id, name, by, reason, time_us FROM command WHERE NOT executed ORDER BY id")
    return tuple(Command(*row) for row in rows)
