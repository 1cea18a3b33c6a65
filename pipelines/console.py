"""What every verb shares: its common options, the reply it ends with, lines for people, and exit codes.

A verb is a click command that does its work and returns a `Reply`; `run` prints it.  A verb never prints its result
and never exits by itself:

    @click.command()
    @click.option("--out", type=click.Path(path_type=Path), required=True)
    @console.json_option
    def command(out: Path) -> console.Reply:
        \"\"\"Write a simulated transaction log.\"\"\"
        console.say(f"writing {out}")                                   # a line for people, on standard error
        written = simulate(out)                                         # may raise a FraudOpsError
        return console.Reply({"rows": written.rows}, human=f"{written.rows:,} rows in {out}")

A verb that serves says where, and then serves: its reply has `then`, which runs once the reply is printed.

The object of a reply goes to standard output under `--json` and nowhere else; everything for people goes to standard
error.  While a verb runs under `--json`, standard output as the verb, its libraries and its child processes see it is
standard error, so that nothing they print can spoil the one object.

    exit code   when
    0           the verb is done
    1           `Reply(passed=False)`: a gate or a check said no
    2           bad usage (click) or bad input (FraudOpsError): the message, no traceback
    70          anything else: the traceback of a bug
    130         interrupted from the keyboard

Under `--json` a failure (2, 70, 130) prints `{"error": {"type": ..., "message": ...}}`.
"""

import contextlib
import os
import select
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

import click
import orjson

from schemas.errors import FraudOpsError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

DONE = 0
REFUSED = 1
BAD_INPUT = 2
BUG = 70  # EX_SOFTWARE of sysexits.h
INTERRUPTED = 130  # 128 + SIGINT, as shells report it

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


@dataclass(frozen=True)
class Reply:
    """What a verb ends with.

    `fields` is the object that `--json` prints; values may hold numpy scalars and arrays, dates, dataclasses and
    paths, and NaN becomes null.  `human` is what people read instead: text or anything that rich renders.  `passed` is
    false where a gate or a check said no.  `then` is what remains to be done once the reply is printed.
    """

    fields: Mapping[str, object]
    human: "RenderableType | None" = None
    passed: bool = True
    then: Callable[[], None] | None = None


def json_option(command: Decorated) -> Decorated:
    """Adds `--json` to a verb.  The verb itself does not see it: `run` decides how to print the reply."""
    option = click.option("--json", is_flag=True, expose_value=False, help="Print one JSON object on standard output.")
    return option(command)


def workspace_option(command: Decorated) -> Decorated:
    """Adds `--workspace`, the folder that holds all that the embedded parts write, as a Path named `workspace`."""
    option = click.option(
        "--workspace",
        type=click.Path(path_type=Path, file_okay=False),
        default=Path("workspace"),
        show_default=True,
        help="The folder that holds all that is written.",
    )
    return option(command)


@cache
def stderr() -> "Console":
    """The rich console on standard error, for tables and progress bars."""
    from rich.console import Console

    return Console(stderr=True)


def say(message: str) -> None:
    """Writes one plain line for people: not wrapped, not highlighted, brackets left alone."""
    stderr().print(message, markup=False, highlight=False, soft_wrap=True)


def run(command: click.Command, args: Sequence[str], prog_name: str = "fraudops") -> int:
    """Runs a command with its arguments, prints its reply or its error, and returns the exit code."""
    # Read here and not by click, because a usage error under --json has to be an object as well.
    wants_json = "--json" in args
    with _result_stream(wants_json) as stream:
        code = _invoke(command, list(args), prog_name, stream if wants_json else None)
        _flush(stream)
    return code


def _invoke(command: click.Command, args: list[str], prog_name: str, results: TextIO | None) -> int:
    """Runs a command, tells people and, as one object, `results` how it went, and returns the exit code."""
    printed = False

    def put(fields: Mapping[str, object]) -> None:
        nonlocal printed
        if results is None or printed:
            return
        line = _json_line(fields)
        printed = True
        with contextlib.suppress(BrokenPipeError):  # the flush deals with it
            results.write(line)
        _flush(results)

    def failure(code: int, error: BaseException, message: str) -> int:
        put({"error": {"type": type(error).__name__, "message": message}})
        return code

    try:
        # Not `command.main`: that one answers every broken pipe, a socket's too, with a silent exit code 1.
        with command.make_context(prog_name, args) as context:
            reply = command.invoke(context)
        if not isinstance(reply, Reply):
            raise TypeError(f"`{prog_name} {' '.join(args)}` returned {reply!r}, and a verb has to return a Reply")
        if reply.human is not None and results is None:
            stderr().print(reply.human, crop=False)
        put(reply.fields)
        if reply.then is not None:
            reply.then()
        return DONE if reply.passed else REFUSED
    except click.exceptions.Exit as done:  # --help and --version end so
        return done.exit_code
    except click.ClickException as error:
        error.show(sys.stderr)
        return failure(BAD_INPUT, error, error.format_message())
    except FraudOpsError as error:
        say(f"error: {error}")
        return failure(BAD_INPUT, error, str(error))
    except (KeyboardInterrupt, click.Abort) as error:
        say("interrupted")
        return failure(INTERRUPTED, error, "interrupted")
    # SystemExit: a library's own argument parser must not choose our exit code.
    except (Exception, SystemExit) as error:
        if isinstance(error, BrokenPipeError) and not _has_reader(sys.stdout):  # who asked for --help left
            return DONE
        say(traceback.format_exc().rstrip())
        return failure(BUG, error, str(error))


def _json_line(fields: Mapping[str, object]) -> str:
    options = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
    return orjson.dumps(fields, default=_plain, option=options).decode() + "\n"


def _plain(value: object) -> object:
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{value!r} of type {type(value).__name__} has no JSON form")


@contextlib.contextmanager
def _result_stream(reserved: bool) -> Iterator[TextIO]:
    """The stream for the reply; where `reserved`, everybody else's standard output is standard error meanwhile."""
    stdout = sys.stdout
    if not reserved:
        yield stdout
        return
    with contextlib.redirect_stdout(sys.stderr):
        if not _is_descriptor_one(stdout):  # a test's or a notebook's own stream
            yield stdout
            return
        # Libraries in C++ and child processes write to the descriptor, not to sys.stdout.
        stdout.flush()
        with os.fdopen(os.dup(1), "w", encoding="utf-8") as kept:
            os.dup2(2, 1)
            try:
                yield kept
            finally:
                os.dup2(kept.fileno(), 1)


def _is_descriptor_one(stream: TextIO) -> bool:
    try:
        return stream.fileno() == 1
    except (OSError, ValueError):  # not backed by a descriptor, or closed
        return False


def _has_reader(stream: TextIO) -> bool:
    try:
        poll = select.poll()
        poll.register(stream.fileno(), 0)
        return not poll.poll(0)
    except (OSError, ValueError):  # not backed by a descriptor, or closed
        return True


def _flush(stream: TextIO) -> None:
    """Flushes a stream, whose reader may have left early (`fraudops ... | head -1`): that is no failure."""
    try:
        stream.flush()
    except BrokenPipeError:
        # What nobody reads goes to the null device, because the interpreter would complain about it at exit.
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
