"""Makes `.venv` from the lock, and repairs one that is dead, half made, stale or damaged.

    python3.11 infra/bootstrap.py [--root DIR] [--python PATH] [--installer auto|uv|pip]

Needs a Python 3.11 and a package index, nothing else: the standard library does the checking; uv where present, or the
pip that Python brings, does the installing.  All that is installed comes from `infra/python/lock.txt` with its hash,
build tools included; this project itself follows, editable.

What is there is compared with what is locked, file by file, at every call:

    dead        no interpreter, another Python, moved from another place, or not made here: made anew
    half made   its stamp says that an installation was begun and not ended: what is missing is installed
    stale       made from another lock or other metadata: what differs is installed, what is no longer locked goes
    damaged     a locked distribution lacks its record or one of its files: that distribution is installed again

The stamp is written before anything is installed, as begun, and at the very end, as complete.  Two calls at once wait
for each other.
"""

from __future__ import annotations

import abc
import argparse
import configparser
import contextlib
import csv
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PYTHON_VERSION = "3.11"
BUILD_TOOLS = ("setuptools", "wheel")  # installed before anything that has to be built

# What a caller's own set-up must not decide for the environment.
FOREIGN_VARIABLES = (
    "PIP_PREFIX",
    "PIP_TARGET",
    "PIP_USER",
    "PYTHONHOME",
    "PYTHONPATH",
    "UV_SYSTEM_PYTHON",
    "VIRTUAL_ENV",
)


class BootstrapError(Exception):
    """The environment cannot be made; the message says what to do."""


@dataclass(frozen=True)
class Project:
    """A checkout, by its resolved root folder, and where its lock and its environment are."""

    root: Path

    @property
    def lock(self) -> Path:
        """The hashed lock."""
        return self.root / "infra" / "python" / "lock.txt"

    @property
    def venv(self) -> Path:
        """The environment."""
        return self.root / ".venv"

    @property
    def python(self) -> Path:
        """The interpreter of the environment."""
        return self.venv / "bin" / "python"

    @property
    def site(self) -> Path:
        """Where the environment keeps its distributions."""
        return self.venv / "lib" / f"python{PYTHON_VERSION}" / "site-packages"

    @property
    def stamp(self) -> Path:
        """How the environment was made, as a JSON object: see `stamp_of`."""
        return self.venv / "bootstrap.json"


@dataclass(frozen=True)
class Locked:
    """One entry of the lock: its version, and its lines, requirement and hashes, as an installer reads them."""

    version: str
    lines: str


@dataclass(frozen=True)
class Python:
    """What an interpreter says of itself: `3.11`, the executable it was made from, and its prefix."""

    version: str
    base: str
    prefix: str


@dataclass
class Installed:
    """A distribution on disk: its dist-info folders (one, if all is well) and their versions."""

    folders: list[Path] = field(default_factory=list)
    versions: list[str] = field(default_factory=list)
    broken: bool = False


@dataclass(frozen=True)
class Condition:
    """What is wrong with an environment."""

    dead: str = ""  # why it has to be made anew
    wrong: tuple[str, ...] = ()  # distributions to install, or to install again
    unwanted: tuple[str, ...] = ()  # distributions that were locked once and are no longer
    project_stale: bool = False  # whether this project has to be installed again
    unfinished: bool = False  # whether the stamp does not say that all this is as it should be

    @property
    def sound(self) -> bool:
        """Whether there is nothing to do."""
        return self == Condition()


def canonical(name: str) -> str:
    """The one spelling of a distribution's name (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_lock(text: str) -> dict[str, Locked]:
    """The entries of a lock, by canonical name; every one has to be name==version with at least one hash."""
    entries: dict[str, Locked] = {}
    without_comments = re.sub(r"(?m)^\s*#.*\n?", "", text)
    for entry in re.split(r"(?<!\\)\n", without_comments):
        if not entry.strip():
            continue
        match = re.match(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;\\]+)", entry)
        if match is None or "--hash=" not in entry:
            raise BootstrapError(f"the lock holds {entry.strip()!r}, not a name==version with a hash: run `make lock`")
        entries[canonical(match[1])] = Locked(match[2], entry + "\n")
    return entries


def project_metadata(root: Path) -> tuple[str, str, str]:
    """Canonical name, version, and the SHA-256 of all that decides how this project is installed."""
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(root / "setup.cfg", encoding="utf-8")
    digest = hashlib.sha256((root / "pyproject.toml").read_bytes())
    for section in sorted(setup.sections()):
        if section == "metadata" or section.startswith("options"):
            digest.update(repr((section, sorted(setup.items(section)))).encode())
    return canonical(setup["metadata"]["name"]), setup["metadata"]["version"], digest.hexdigest()


def stamp_of(project: Project) -> dict[str, object]:
    """The stamp of an environment that is complete: its place, the digests it was made from, what was locked."""
    text = project.lock.read_text(encoding="utf-8")
    return {
        "complete": True,
        "place": str(project.venv),
        "lock": hashlib.sha256(text.encode()).hexdigest(),
        "locked": sorted(read_lock(text)),
        "project": project_metadata(project.root)[2],
    }


def probe(executable: str) -> Python | None:
    """What an interpreter says of itself, or None where it does not run."""
    code = "import sys; print('%d.%d' % sys.version_info[:2]); print(sys._base_executable); print(sys.prefix)"
    try:
        answer = subprocess.run([executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    lines = answer.stdout.splitlines()
    return Python(*lines) if len(lines) == 3 else None


def find_python(candidates: Sequence[str]) -> str:
    """The executable of the first candidate that is a Python 3.11: the one behind it where it is an environment's."""
    seen = []
    for candidate in candidates:
        python = probe(candidate)
        if python is not None and python.version == PYTHON_VERSION:
            return python.base
        seen.append(f"{candidate} " + ("does not run" if python is None else f"is {python.version}"))
    raise BootstrapError(
        f"no Python {PYTHON_VERSION} found ({', '.join(seen)}): install it, or say where it is with "
        f"`make PYTHON=/path/to/python{PYTHON_VERSION}`"
    )


def installed(site: Path) -> dict[str, Installed]:
    """Every distribution in a site-packages folder; broken where a recorded file is absent or of another length."""
    found: dict[str, Installed] = {}
    files: list[tuple[Installed, str, str]] = []
    for folder in site.glob("*.dist-info"):
        name, _, version = folder.name.removesuffix(".dist-info").rpartition("-")
        distribution = found.setdefault(canonical(name), Installed())
        distribution.folders.append(folder)
        distribution.versions.append(version)
        try:
            with (folder / "RECORD").open(newline="", encoding="utf-8") as record:
                files += [(distribution, path, size) for path, _, size in csv.reader(record)]
        except (OSError, ValueError, csv.Error):
            distribution.broken = True
    owners = Counter(path for _, path, _ in files)
    for distribution, path, size in files:
        if path.endswith(".pyc"):  # a cache, which may come and go
            continue
        try:
            length = os.stat(f"{site}/{path}").st_size
        except OSError:
            distribution.broken = True
            continue
        # A file that two distributions bring has the length that the later one gave it.
        if size and int(size) != length and owners[path] == 1:
            distribution.broken = True
    return found


def examine(project: Project) -> Condition:
    """What is wrong with the environment of a project; reads only."""
    wanted = stamp_of(project)
    stamp = _read_stamp(project)
    python = probe(str(project.python)) if project.venv.is_dir() else None
    if not project.venv.is_dir():
        return Condition(dead="there is none")
    if python is None:
        return Condition(dead="its Python does not run")
    if python.version != PYTHON_VERSION or python.prefix != str(project.venv):
        return Condition(dead=f"its Python is {python.version} of {python.prefix}")
    if stamp.get("place") != wanted["place"]:
        return Condition(dead=f"it was made at {stamp['place']}" if "place" in stamp else "it has no stamp")

    found = installed(project.site)
    locked = read_lock(project.lock.read_text(encoding="utf-8"))

    def is_installed(name: str, version: str) -> bool:
        return name in found and not found[name].broken and found[name].versions == [version]

    name, version, digest = project_metadata(project.root)
    return Condition(
        wrong=tuple(name for name, entry in locked.items() if not is_installed(name, entry.version)),
        unwanted=tuple(name for name in _once_locked(stamp) if name in found and name not in locked),
        project_stale=stamp.get("project") != digest or not is_installed(name, version),
        unfinished=stamp != wanted,
    )


@dataclass(frozen=True)
class Installer(abc.ABC):
    """The commands that make and fill the environment of a project."""

    project: Project

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """What people call it."""

    @abc.abstractmethod
    def create(self, python: str) -> list[str]:
        """The command that makes the environment with an interpreter."""

    @abc.abstractmethod
    def prepare(self) -> list[str]:
        """The command that has to come before the others in this environment; empty where none has to."""

    @abc.abstractmethod
    def install(self, *what: str, cached: bool = True) -> list[str]:
        """The command that installs what is named and nothing that it depends on, with the build tools that are there.

        cached: whether files may come from the installer's cache.
        """

    @abc.abstractmethod
    def uninstall(self, names: Sequence[str]) -> list[str]:
        """The command that removes distributions."""

    @abc.abstractmethod
    def shown(self, line: str) -> str | None:
        """What to show of a line that the installer prints, if anything."""


class Uv(Installer):
    """Installs with uv."""

    name = "uv"

    def create(self, python: str) -> list[str]:
        return ["uv", "venv", "--python", python, str(self.project.venv)]

    def prepare(self) -> list[str]:
        return []

    def install(self, *what: str, cached: bool = True) -> list[str]:
        options = ["--no-deps", "--no-build-isolation", *([] if cached else ["--no-cache"])]
        return ["uv", "pip", "install", "--python", str(self.project.python), *options, *what]

    def uninstall(self, names: Sequence[str]) -> list[str]:
        return ["uv", "pip", "uninstall", "--python", str(self.project.python), *names]

    def shown(self, line: str) -> str | None:
        return None if line.startswith((" + ", " - ", " ~ ", "Activate with")) else line


class Pip(Installer):
    """Installs with the pip that Python brings, whose cache holds archives and no files that are in use."""

    name = "pip"

    def create(self, python: str) -> list[str]:
        return [python, "-I", "-m", "venv", "--without-pip", str(self.project.venv)]

    def prepare(self) -> list[str]:
        return [] if (self.project.site / "pip").is_dir() else [str(self.project.python), "-I", "-m", "ensurepip"]

    def install(self, *what: str, cached: bool = True) -> list[str]:
        return [str(self.project.python), "-I", "-m", "pip", "install", "--no-deps", "--no-build-isolation", *what]

    def uninstall(self, names: Sequence[str]) -> list[str]:
        return [str(self.project.python), "-I", "-m", "pip", "uninstall", "--yes", *names]

    def shown(self, line: str) -> str | None:
        match = re.match(r"Collecting [^ ]+|Building wheels?|Installing collected packages", line)
        return match[0] if match else None


def choose_installer(name: str, project: Project) -> Installer:
    """The installer of a name; for `auto`, uv where it runs and pip otherwise."""
    if name == "auto":
        try:
            subprocess.run(["uv", "--version"], capture_output=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            return Pip(project)
    return Pip(project) if name == "pip" else Uv(project)


def ensure(project: Project, candidates: Sequence[str], installer: str, say: Callable[[str], None]) -> bool:
    """Makes the environment of a project what its lock says; returns whether anything had to be done.

    candidates: interpreters to make it with, the first Python 3.11 of which is taken.  installer: auto, uv or pip.
    Raises BootstrapError where no such Python is found, where the installer fails, or where its work does not hold.
    """
    if examine(project).sound:
        return False
    with _alone(project.root / ".venv.lock", say):
        tool = choose_installer(installer, project)
        # One round makes the environment, one installs into it, one finds it sound; and one is spare, because to remove
        # a distribution can damage another that shares a file with it.
        for _ in range(4):
            condition = examine(project)
            if condition.sound:
                return True
            if condition.dead:
                _make(project, condition, find_python(candidates), tool, say)
            else:
                _repair(project, condition, tool, say)
    raise BootstrapError(f"{project.venv} does not become as locked ({condition}): remove it and try again")


def _make(project: Project, condition: Condition, python: str, tool: Installer, say: Callable[[str], None]) -> None:
    say(f"making .venv with {python} and {tool.name}, because {condition.dead}")
    if project.venv.is_dir() and not project.venv.is_symlink():
        shutil.rmtree(project.venv)
    else:
        project.venv.unlink(missing_ok=True)
    _run(tool.create(python), tool, say)
    _write_stamp(project, {"complete": False, "place": str(project.venv), "locked": []})


def _repair(project: Project, condition: Condition, tool: Installer, say: Callable[[str], None]) -> None:
    locked = read_lock(project.lock.read_text(encoding="utf-8"))
    found = installed(project.site)
    known = sorted({*_once_locked(_read_stamp(project)), *locked})
    _write_stamp(project, {"complete": False, "place": str(project.venv), "locked": known})
    if preparation := tool.prepare():
        _run(preparation, tool, say)

    leaving = [*condition.wrong, *condition.unwanted]
    if condition.project_stale:  # an installer may hold an editable project for unchanged
        leaving.append(project_metadata(project.root)[0])
    removable = []
    for name in leaving:
        folders = found[name].folders if name in found else []
        if len(folders) == 1 and (folders[0] / "RECORD").is_file():
            removable.append(name)
        else:  # no installer can tell any more which files are its own
            for folder in folders:
                shutil.rmtree(folder)
    if removable:
        say(f"removing {_some(removable)}")
        _run(tool.uninstall(removable), tool, say)

    # uv links files to those in its cache, so that what was changed here was changed there.
    damaged = {name for name in condition.wrong if name in found and found[name].broken}
    tools = [name for name in condition.wrong if name in BUILD_TOOLS]
    others = [name for name in condition.wrong if name not in BUILD_TOOLS]
    for names in (tools, [n for n in others if n in damaged], [n for n in others if n not in damaged]):
        if names:
            say(f"installing {_some(names)}")
            with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as requirements:
                requirements.writelines(locked[name].lines for name in names)
                requirements.flush()
                hashed = ("--require-hashes", "-r", requirements.name)
                _run(tool.install(*hashed, cached=damaged.isdisjoint(names)), tool, say)
    if condition.project_stale:
        say("installing this project")
        _run(tool.install("-e", str(project.root), cached=False), tool, say)
    _write_stamp(project, stamp_of(project))


def _some(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 5 else f"{len(names)} distributions"


def _run(command: Sequence[str], tool: Installer, say: Callable[[str], None]) -> None:
    """Runs a command of an installer and shows its progress; where it fails, the end of what it printed."""
    environment = {name: value for name, value in os.environ.items() if name not in FOREIGN_VARIABLES}
    last: deque[str] = deque(maxlen=40)
    with subprocess.Popen(
        command, env=environment, text=True, errors="replace", stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            last.append(line)
            if shown := tool.shown(line.rstrip()):
                say(f"  {shown}")
    if process.returncode:
        raise BootstrapError(f"{' '.join(command)} failed with {process.returncode}:\n{''.join(last).rstrip()}")


@contextlib.contextmanager
def _alone(path: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Holds the lock file of a project; the kernel lets go of it when the process ends, however it ends."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another call that is making .venv")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _read_stamp(project: Project) -> dict[str, object]:
    try:
        stamp = json.loads(project.stamp.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def _write_stamp(project: Project, stamp: Mapping[str, object]) -> None:
    new = project.stamp.with_suffix(".new")
    new.write_text(json.dumps(stamp, indent=1) + "\n", encoding="utf-8")
    new.replace(project.stamp)


def _once_locked(stamp: Mapping[str, object]) -> list[str]:
    names = stamp.get("locked")
    return [str(name) for name in names] if isinstance(names, list) else []


def main(arguments: Sequence[str] | None = None) -> int:
    """Makes or repairs the environment and returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[1], help="the checkout")
    parser.add_argument("--python", action="append", help="the Python 3.11 to make .venv with")
    parser.add_argument("--installer", choices=["auto", "uv", "pip"], default="auto")
    options = parser.parse_args(arguments)

    def say(line: str) -> None:
        print(f"bootstrap: {line}", flush=True)

    candidates = options.python or [sys.executable, f"python{PYTHON_VERSION}", "python3", "python"]
    try:
        if ensure(Project(options.root.resolve()), candidates, options.installer, say):
            say(".venv is ready")
    except (BootstrapError, OSError, configparser.Error) as error:
        print(f"bootstrap: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bootstrap: interrupted; the next call goes on from here", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
