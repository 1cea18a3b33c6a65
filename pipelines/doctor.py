"""What this machine and its environment are like, and what of that is not as the lock says."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

REQUIRED_PYTHON = (3, 11)
GIB = 1024**3


@dataclass(frozen=True)
class Package:
    """A distribution: the version that is installed and the one that is locked, None where there is none."""

    name: str
    installed: str | None
    locked: str | None

    @property
    def state(self) -> str:
        """`ok`, `missing`, `mismatched`, or `unlocked` where there is nothing to compare with."""
        if self.installed is None:
            return "missing"
        if self.locked is None:
            return "unlocked"
        return "ok" if self.installed == self.locked else "mismatched"


@dataclass(frozen=True)
class Machine:
    """What the machine offers to this process; sizes in bytes."""

    cpus: int
    gpus: int
    memory_total: int
    memory_available: int
    disk_free: int
    workspace: str
    workspace_writable: bool
    programs: Mapping[str, str | None]  # optional programs, and where they are


@dataclass(frozen=True)
class Diagnosis:
    """All that `fraudops doctor` tells."""

    python: tuple[int, int, int]
    packages: tuple[Package, ...]
    machine: Machine
    tensorflow_devices: Mapping[str, int] | None = None  # by kind; None where TensorFlow was not asked
    tensorflow_error: str | None = None  # why it does not import

    @property
    def problems(self) -> tuple[str, ...]:
        """What has to be put right, a sentence each; empty where all is well."""
        found = []
        if self.python[:2] != REQUIRED_PYTHON:
            found.append(
                f"Python is {dotted(self.python)}, and {dotted(REQUIRED_PYTHON)} is needed: run `make install`"
            )
        for package in self.packages:
            if package.state == "missing":
                found.append(f"{package.name} is missing: run `make install`")
            elif package.state == "mismatched":
                found.append(
                    f"{package.name} is {package.installed}, and {package.locked} is locked: run `make install`"
                )
        if self.tensorflow_error:
            found.append(f"TensorFlow does not import ({self.tensorflow_error}): run `make install`")
        if not self.machine.workspace_writable:
            found.append(f"the workspace {self.machine.workspace} cannot be written: choose another with --workspace")
        return tuple(found)

    def fields(self) -> dict[str, object]:
        """The object that `--json` prints; sizes in GiB."""
        machine = self.machine
        return {
            "python": dotted(self.python),
            "packages": [
                {"name": p.name, "installed": p.installed, "locked": p.locked, "state": p.state} for p in self.packages
            ],
            "cpus": machine.cpus,
            "gpus": machine.gpus,
            "tensorflow_devices": self.tensorflow_devices,
            "memory_gib": {
                "total": round(machine.memory_total / GIB, 1),
                "available": round(machine.memory_available / GIB, 1),
            },
            "disk_free_gib": round(machine.disk_free / GIB, 1),
            "workspace": {"path": machine.workspace, "writable": machine.workspace_writable},
            "programs": machine.programs,
            "problems": self.problems,
        }


def dotted(version: tuple[int, ...]) -> str:
    """A version as people write it: (3, 11) is 3.11."""
    return ".".join(map(str, version))


def canonical(name: str) -> str:
    """The one spelling of a distribution's name (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def requirement_names(lines: Iterable[str], extras: Collection[str] = ()) -> tuple[str, ...]:
    """Canonical names of the requirements in some lines, in order and once each; comments and options are passed over.

    Requirements under an extra (`; extra == "dev"`) are left out, unless it is one of `extras`.
    """
    names: dict[str, None] = {}
    for line in lines:
        match = re.match(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)", line)
        extra = re.search(r";.*\bextra\s*==\s*[\"']([^\"']+)", line)
        if match and (extra is None or extra[1] in extras):
            names[canonical(match[1])] = None
    return tuple(names)


def locked_versions(lines: Iterable[str]) -> dict[str, str]:
    """Version by canonical name, from the lines of a lock."""
    matches = (re.match(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;\\]+)", line) for line in lines)
    return {canonical(match[1]): match[2] for match in matches if match}


def compare(names: Iterable[str], installed: Mapping[str, str], locked: Mapping[str, str]) -> tuple[Package, ...]:
    """The packages of some canonical names, sorted, with what is installed and what is locked of each."""
    return tuple(Package(name, installed.get(name), locked.get(name)) for name in sorted(set(names)))
