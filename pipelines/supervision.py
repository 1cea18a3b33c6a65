"""Programs under supervisord: its configuration, which processes are ours, whether they answer, and their end.

A process of a stack is known by two variables of its environment, which it inherits and cannot lose: the stack's
folder, put there by `launch`, and the name of its program, put there by supervisord.  So no file with the number of a
process is believed, which another process may bear by now, and what a killed supervisord left behind is found as well.
"""

from __future__ import annotations

import fcntl
import os
import re
import shlex
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import psutil
from grpc_health.v1 import health_pb2, health_pb2_grpc

from schemas.errors import StackError

SUPERVISOR = "supervisord"
# A program may take 30 s to answer what is under way when it is told to stop.
STOP_S = 45
_STACK = "FRAUDOPS_STACK"
_PROGRAM = "SUPERVISOR_PROCESS_NAME"
_ANSWER_S = 5.0
_PAUSE_S = 0.2
_LAST_LINES = 20


@dataclass(frozen=True)
class Program:
    """A program that is supervised, and how to tell that it serves.

    Attributes:
        command: its words.
        ports: of the loopback, which it listens on.
        grpc: host:port whose gRPC health service says SERVING.
        http: URLs that answer 200.
        environment: variables beside those of whoever launches.
    """

    name: str
    command: tuple[str, ...]
    ports: tuple[int, ...]
    grpc: str | None = None
    http: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


def log_file(stack: Path, name: str) -> Path:
    """What a program, or supervisord itself, says; two older ones lie beside it."""
    return stack / "logs" / f"{name}.log"


def configuration(stack: Path, programs: Sequence[Program]) -> str:
    """supervisord's configuration: programs start in their order, stop in the reverse one, and start again for ever.

    There is no control interface: whoever may signal supervisord stops it, and nobody else can.

    Raises:
        StackError: a path holds what the format has no way to write.
    """
    sections = [
        "[supervisord]",
        *_settings(
            directory=stack,
            logfile=log_file(stack, SUPERVISOR),
            logfile_maxbytes="1MB",
            logfile_backups=2,
            pidfile=stack / "supervisord.pid",
        ),
    ]
    for priority, program in enumerate(programs):
        sections += [
            "",
            f"[program:{program.name}]",
            *_settings(
                command=shlex.join(program.command),
                environment=",".join(f'{key}="{value}"' for key, value in program.environment.items()),
                priority=priority,
                # Whoever dies before it has run for so long is started again after a pause that grows by a second.
                startsecs=5,
                startretries=1_000_000,
                autorestart="true",
                stopwaitsecs=STOP_S,
                stopasgroup="true",
                redirect_stderr="true",
                stdout_logfile=log_file(stack, program.name),
                stdout_logfile_maxbytes="10MB",
                stdout_logfile_backups=2,
            ),
        ]
    return "\n".join(sections) + "\n"


def _settings(**values: object) -> Iterator[str]:
    for key, value in values.items():
        text = str(value)
        if re.search(r"\s[;#]|[\r\n]", text):
            raise StackError(
                f"{text!r} cannot be written into supervisord's configuration, where ' ;' and ' #' begin a comment; "
                "choose another path"
            )
        yield f"{key}={text.replace('%', '%%')}"


@contextmanager
def alone(stack: Path) -> Iterator[None]:
    """Keeps a second start or stop of one stack away; goes with the process, however it ends.

    Raises:
        StackError: another one is at work.
    """
    with open(stack / "lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StackError(f"another `fraudops up` or `down` is at work in {stack}; wait for it, or end it") from None
        yield


def members(stack: Path) -> dict[psutil.Process, str]:
    """The processes of a stack and their programs, `SUPERVISOR` for supervisord itself."""
    found = {}
    for process in psutil.process_iter():
        try:
            environment = process.environ()
        except psutil.Error:  # another user's, or gone
            continue
        if environment.get(_STACK) == str(stack):
            found[process] = environment.get(_PROGRAM, SUPERVISOR)
    return found


def leaders(stack: Path) -> dict[str, int]:
    """The process that supervisord started for each program, which may have children of the same name."""
    found = members(stack)
    supervisor = next((process.pid for process, name in found.items() if name == SUPERVISOR), None)
    if supervisor is None:
        raise StackError(f"supervisord ended; {_last_words(stack, SUPERVISOR)}")
    return {name: process.pid for process, name in found.items() if _parent(process) == supervisor}


def supervisor_of(stack: Path) -> psutil.Process | None:
    """The supervisord that runs a stack, if there is one."""
    return next((process for process, name in members(stack).items() if name == SUPERVISOR), None)


def left_behind(pid: int) -> list[psutil.Process]:
    """The other processes of a process's own program: those of an earlier one that was killed."""
    environment = psutil.Process(pid).environ()
    if not environment.keys() >= {_STACK, _PROGRAM}:
        return []
    programs = members(Path(environment[_STACK]))
    return [process for process, name in programs.items() if name == environment[_PROGRAM] and process.pid != pid]


def end(processes: Sequence[psutil.Process], wait_s: float = STOP_S) -> None:
    """Ends processes, by SIGTERM and, those that are still there after `wait_s` seconds, by SIGKILL."""
    for process in processes:
        _signal(process, force=False)
    _, alive = psutil.wait_procs(processes, wait_s)
    for process in alive:
        _signal(process, force=True)
    psutil.wait_procs(alive, _ANSWER_S)


def stop(stack: Path) -> list[str]:
    """Ends a stack, in the reverse order of its start, and what an earlier one left behind.

    Returns:
        The programs that ran, supervisord first.

    Raises:
        StackError: a process does not end.
    """
    before = members(stack)
    supervisor = [process for process, name in before.items() if name == SUPERVISOR]
    # It ends its programs one after another, each within STOP_S.
    end(supervisor, (len(before) + 1) * STOP_S)
    end(list(members(stack)))
    if remaining := members(stack):
        shown = ", ".join(f"{name} (process {process.pid})" for process, name in remaining.items())
        raise StackError(f"{shown} cannot be ended; look at {stack / 'logs'}")
    return sorted(set(before.values()), key=lambda name: (name != SUPERVISOR, name))


def launch(stack: Path, programs: Sequence[Program]) -> None:
    """Starts supervisord, which starts the programs.

    Raises:
        StackError: a port is taken, or supervisord refuses its configuration.
    """
    for program in programs:
        for port in program.ports:
            _demand_free(program.name, port)
    (stack / "logs").mkdir(exist_ok=True)
    file = configuration_file(stack)
    file.write_text(configuration(stack, programs), encoding="utf-8")
    # It leaves this process's session by itself, and the command ends when it has.
    done = subprocess.run(
        [sys.executable, "-P", "-m", "supervisor.supervisord", "-c", str(file)],
        env={**os.environ, _STACK: str(stack)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise StackError(f"supervisord does not take {file}: {done.stderr.strip() or done.stdout.strip()}")


def configuration_file(stack: Path) -> Path:
    """What supervisord was last started with."""
    return stack / "supervisord.conf"


def wait_until_serving(stack: Path, programs: Sequence[Program], timeout_s: float) -> Iterator[str]:
    """Waits for every program, and gives the name of each as it is found to serve.

    Raises:
        StackError: one of them ended, or does not serve in time; the message has the last lines that it said.
    """
    deadline = time.monotonic() + timeout_s
    waiting = list(programs)
    seen: dict[str, int] = {}
    while True:
        for program in list(waiting):
            if serves(program):
                waiting.remove(program)
                yield program.name
        if not waiting:
            return
        running = leaders(stack)
        for program in waiting:
            now = running.get(program.name)
            first = seen.setdefault(program.name, now) if now is not None else seen.get(program.name)
            if first != now:
                raise StackError(f"{program.name} ended at its start; {_last_words(stack, program.name)}")
        if time.monotonic() > deadline:
            name = waiting[0].name
            raise StackError(f"{name} does not serve after {timeout_s:.0f} seconds; {_last_words(stack, name)}")
        time.sleep(_PAUSE_S)


def serves(program: Program) -> bool:
    """Whether a program answers everywhere that it should."""
    return (program.grpc is None or _healthy(program.grpc)) and all(map(_answers, program.http))


def free_ports(count: int) -> list[int]:
    """Different ports of the loopback that nobody listens on now."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _parent(process: psutil.Process) -> int:
    try:
        return int(process.ppid())
    except psutil.Error:
        return 0


def _signal(process: psutil.Process, force: bool) -> None:
    with suppress(psutil.NoSuchProcess):
        process.kill() if force else process.terminate()


def _healthy(target: str) -> bool:
    with grpc.insecure_channel(target) as channel:
        try:
            check = health_pb2_grpc.HealthStub(channel).Check  # type: ignore[attr-defined]  # it is made at run time
            answer = check(health_pb2.HealthCheckRequest(), timeout=_ANSWER_S)
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def _answers(url: str) -> bool:
    try:
        # Loopback addresses of our own: a proxy of the environment has no part in them.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(url, timeout=_ANSWER_S) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def _demand_free(name: str, port: int) -> None:
    with socket.socket() as attempt:
        # As servers do: connections of an ended one that are still closing are no hindrance.
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            attempt.bind(("127.0.0.1", port))
        except OSError as error:
            raise StackError(
                f"port {port}, for {name}, is taken by {_holder(port)} ({error.strerror}); end that, or use "
                "--free-ports in a workspace that had no stack yet"
            ) from error


def _holder(port: int) -> str:
    for connection in psutil.net_connections("tcp"):
        listens = connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port
        if listens and connection.pid is not None:
            try:
                return f"process {connection.pid} ({shlex.join(psutil.Process(connection.pid).cmdline())[:200]})"
            except psutil.Error:
                break
    return "a process that is not yours"


def _last_words(stack: Path, name: str) -> str:
    file = log_file(stack, name)
    try:
        with open(file, encoding="utf-8", errors="replace") as lines:
            said = "".join(deque(lines, maxlen=_LAST_LINES)).rstrip()
    except FileNotFoundError:
        said = ""
    return f"the end of {file}:\n{said}" if said else f"{file} says nothing"
