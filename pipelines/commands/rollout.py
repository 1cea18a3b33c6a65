"""`fraudops rollout`: where the rollout stands and how it came there; what an operator may tell the controller."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipelines import console
from pipelines.user import user
from pipelines.workspace import Workspace
from schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from serving.rollout.situation import Event
    from serving.rollout.table import CommandName, RolloutTable, Status

_US = 1_000_000
# A controller that says nothing for so long does not do its work.
_SILENT_S = 10.0
_REDRAW_S = 0.5

_STYLES = {
    "promoted": "bold green",
    "rolled_back": "bold red",
    "rolling_back": "red",
    "refused": "red",
    "paused": "yellow",
    "waiting": "yellow",
    "pass": "green",
    "fail": "bold red",
    "wait": "yellow",
}


@click.group()
def command() -> None:
    """Look at the rollout; pause, resume or abort it."""


@command.command("status")
@console.workspace_option
@console.json_option
def status_command(workspace: Path) -> console.Reply:
    """Show where the rollout stands.

    The running one, or the last one, with the evidence for and against the candidate.
    """
    with _table(workspace) as table:
        status, now_us = table.status(), _now_us()
    return console.Reply(_fields(status, now_us), _page(status, now_us))


@command.command("watch")
@click.option("--version", type=click.IntRange(min=1), help="Wait for this version's rollout.  [default: the last one]")
@console.workspace_option
@console.json_option
def watch_command(version: int | None, workspace: Path) -> console.Reply:
    """Show the rollout until it ends.

    The exit code is 0 where the version was promoted and 1 where it was rolled back.
    """
    from rich.live import Live

    with _table(workspace) as table, Live(console=console.stderr(), auto_refresh=False) as live:
        told = len(table.history())
        while True:
            # The history second: an end that it tells of may be newer than the status, never the other way round.
            status, now_us = table.status(), _now_us()
            news = table.history()[told:]
            for event in news:
                console.say(event_line(event))
            told += len(news)
            live.update(_page(status, now_us), refresh=True)
            end = _end(status, news, version)
            if end is not None:
                return console.Reply(_fields(status, now_us), passed=end == "promoted")
            time.sleep(_REDRAW_S)


@command.command("history")
@console.workspace_option
@console.json_option
def history_command(workspace: Path) -> console.Reply:
    """List all that happened, oldest first."""
    with _table(workspace) as table:
        events = table.history()
    fields = [{"time": _iso(event.time_us)} | asdict(event) for event in events]
    for one in fields:
        del one["time_us"]
    return console.Reply({"events": fields}, _events(events))


def _order(name: CommandName, help_line: str, needs_reason: bool) -> Callable[..., console.Reply]:
    """The command that leaves one kind of order for the controller."""

    @command.command(name, help=help_line)
    @click.option(
        "--reason", help="Why; kept in the history.", **({"required": True} if needs_reason else {"default": ""})
    )
    @click.option("--by", metavar="NAME", help="Who says so.  [default: the user of this process]")
    @console.workspace_option
    @console.json_option
    def order(reason: str, by: str | None, workspace: Path) -> console.Reply:
        reason = reason.strip()
        if needs_reason and not reason:
            raise ConfigurationError(f"the reason of `{name}` is empty; say in --reason why")
        with _table(workspace) as table:
            status, now_us = table.status(), _now_us()
            refused = _refusal(name, status)
            if refused:
                return console.Reply({"command": name, "refused": refused}, f"refused: {refused}", passed=False)
            id = table.command(name, by or user(), reason, now_us)
        silence = _silence(status, now_us)
        told = silence or "the controller does so with its next tick; `fraudops rollout status` shows it"
        return console.Reply(
            {"command": name, "id": id, "by": by or user(), "reason": reason, "controller_silent": bool(silence)},
            f"asked to {name}: {told}",
        )

    return order


pause_command = _order(
    "pause", "Hold the rollout as it is.  A candidate that fails meanwhile is rolled back nevertheless.", True
)
resume_command = _order("resume", "Let a paused rollout go on.", False)
abort_command = _order("abort", "Roll the candidate back.", True)


@contextmanager
def _table(workspace: Path) -> Iterator[RolloutTable]:
    from serving.rollout.table import RolloutTable

    if not workspace.is_dir():  # a mistyped name must not become an empty table
        raise ConfigurationError(
            f"there is no workspace {workspace}; name with --workspace the one that the controller runs on"
        )
    table = RolloutTable(Workspace.at(workspace).rollout)
    try:
        yield table
    finally:
        table.close()


def _end(status: Status, news: Sequence[Event], version: int | None) -> str | None:
    """How the rollout of a version, or the last one, has ended; None while it has not."""
    from serving.rollout.situation import ENDED

    rollout = status.situation.rollout
    if rollout is not None and rollout.ended and version in (None, rollout.version):
        return rollout.state.value
    # The next rollout may have begun already.
    ends = (event.state for event in news if event.state in ENDED and version in (None, event.version))
    return next(ends, None)


def _refusal(name: CommandName, status: Status) -> str:
    """Why an order would change nothing; empty where it may."""
    situation = status.situation
    if name == "resume":
        return "" if situation.pause or any(asked.name == "pause" for asked in status.commands) else "nothing is paused"
    if name == "abort" and situation.running is None:
        return "no rollout runs, so there is nothing to abort"
    return ""


def _fields(status: Status, now_us: int) -> dict[str, object]:
    situation, routing = status.situation, status.routing
    rollout, pause = situation.rollout, situation.pause
    seen_us = status.controller_seen_us
    return {
        "state": rollout.state.value if rollout else None,
        "version": rollout.version if rollout else None,
        "rollout": rollout.number if rollout else None,
        "step": rollout.step if rollout else None,
        "since": _iso(rollout.since_us) if rollout else None,
        "reason": rollout.reason if rollout else None,
        "weights": {"stable": 1 - routing.weight, "canary": routing.weight},
        "shadow": routing.shadow,
        "generation": routing.generation,
        "stable_version": situation.stable.version if situation.stable else None,
        "waiting_version": situation.waiting,
        "paused": {"by": pause.by, "reason": pause.reason, "since": _iso(pause.since_us)} if pause else None,
        "checks": list(status.checks),
        "waits_for": status.note,
        "controller": {
            "seen": None if seen_us is None else _iso(seen_us),
            "silent": bool(_silence(status, now_us)),
        },
        "gateways": [
            {"name": gateway.name, "generation": gateway.generation, "seen": _iso(gateway.seen_us)}
            for gateway in status.gateways
        ],
        "commands": [
            {"command": asked.name, "by": asked.by, "reason": asked.reason, "time": _iso(asked.time_us)}
            for asked in status.commands
        ],
    }


def _page(status: Status, now_us: int) -> RenderableType:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    situation, routing = status.situation, status.routing
    rollout = situation.rollout
    facts = Table.grid(padding=(0, 2))
    if rollout is None:
        facts.add_row("rollout", Text("none yet: approve a version with `fraudops models approve`"))
    else:
        facts.add_row("version", Text(str(rollout.version), style="bold"))
        state = Text(rollout.state.value, style=_STYLES.get(rollout.state.value, "bold"))
        if rollout.state.value == "canary":
            state.append(f", step {rollout.step + 1}")
        facts.add_row("state", state.append(f", for {_ago(now_us - rollout.since_us)}"))
        facts.add_row("because", Text(rollout.reason))
    if situation.pause:
        pause = situation.pause
        facts.add_row("paused", Text(f"by {pause.by} for {_ago(now_us - pause.since_us)}: {pause.reason}", "yellow"))
    stable = f"version {situation.stable.version}" if situation.stable else "rules alone"
    facts.add_row("stable", Text(stable))
    facts.add_row("cards", Text(f"{1 - routing.weight:.0%} stable, {routing.weight:.0%} canary"))
    facts.add_row("generation", Text(f"{routing.generation}{_lagging(status)}"))
    if situation.waiting is not None:
        facts.add_row("next", Text(f"version {situation.waiting} waits"))
    for asked in status.commands:
        facts.add_row("asked for", Text(f"{asked.name} by {asked.by}: {asked.reason}".rstrip(": "), "yellow"))
    if status.note:
        facts.add_row("waits for", Text(status.note))
    silence = _silence(status, now_us)
    if silence:
        facts.add_row("controller", Text(silence, style="bold red"))
    parts: list[RenderableType] = [facts]
    if status.checks:
        checks = Table("check", "", "evidence", box=None, pad_edge=False)
        for check in status.checks:
            verdict = str(check["state"])
            checks.add_row(
                Text(str(check["name"])), Text(verdict, _STYLES.get(verdict, "")), Text(str(check["statement"]))
            )
        parts += [Text(), checks]
    return Group(*parts)


def _events(events: Sequence[Event]) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    if not events:
        return Text("nothing has happened yet")
    table = Table(
        "time (UTC)", "rollout", "version", "state", "canary", "generation", "reason", box=None, pad_edge=False
    )
    for event in events:
        table.add_row(
            Text(_clock(event.time_us)),
            str(event.rollout or "-"),
            str(event.version or "-"),
            Text(event.state, _STYLES.get(event.state, "")),
            f"{event.weight:.0%}",
            str(event.generation),
            Text(event.reason),
        )
    return table


def event_line(event: Event) -> str:
    """An event for people, on one line."""
    about = f"version {event.version} " if event.version else ""
    weight = f" at {event.weight:.0%}" if event.weight else ""
    return f"{_clock(event.time_us)} {about}{event.state}{weight}: {event.reason}"


def _silence(status: Status, now_us: int) -> str:
    """That nobody acts, where it is so; empty where the controller was seen lately."""
    if status.controller_seen_us is None:
        return "has never been seen; start it with `fraudops serve controller` or `fraudops up`"
    silent_us = now_us - status.controller_seen_us
    if silent_us <= _SILENT_S * _US:
        return ""
    return f"has not been seen for {_ago(silent_us)}; nothing advances until it is back"


def _lagging(status: Status) -> str:
    behind = sum(gateway.generation < status.routing.generation for gateway in status.gateways)
    return f", which {behind} of {len(status.gateways)} gateways do not follow yet" if behind else ""


def _now_us() -> int:
    return time.time_ns() // 1000


def _iso(time_us: int) -> str:
    return datetime.fromtimestamp(time_us / _US, UTC).isoformat(timespec="milliseconds")


def _clock(time_us: int) -> str:
    return f"{datetime.fromtimestamp(time_us / _US, UTC):%Y-%m-%d %H:%M:%S}"


def _ago(duration_us: int) -> str:
    seconds = max(duration_us, 0) // _US
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 2 * 3600 else f"{seconds // 3600} h"
