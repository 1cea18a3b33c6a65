"""`fraudops doctor`: says what is installed, missing or mismatched."""

import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import click
import psutil

from pipelines import console, doctor

if TYPE_CHECKING:
    from rich.console import RenderableType

# Optional programs, and the names that they go by.
PROGRAMS: Mapping[str, Sequence[str]] = {
    "redis-server": ("redis-server",),
    "docker": ("docker",),
    "chromium": ("chromium", "chromium-browser", "google-chrome"),
}


@click.command()
@click.option("--deep", is_flag=True, help="Also import TensorFlow and count the devices that it sees (10 s or more).")
@console.workspace_option
@console.json_option
def command(deep: bool, workspace: Path) -> console.Reply:
    """Say what is installed, missing or mismatched."""
    devices, error = _tensorflow_devices() if deep else (None, None)
    diagnosis = doctor.Diagnosis(
        python=sys.version_info[:3],
        packages=_packages(Path(__file__).resolve().parents[2] / "infra" / "python"),
        machine=_machine(workspace),
        tensorflow_devices=devices,
        tensorflow_error=error,
    )
    return console.Reply(diagnosis.fields(), _rendered(diagnosis), passed=not diagnosis.problems)


def _packages(pins: Path) -> tuple[doctor.Package, ...]:
    """Direct dependencies and overridden ones, compared with the lock where this is a checkout."""
    # A damaged distribution has no name.
    installed = {doctor.canonical(found.name): found.version for found in metadata.distributions() if found.name}
    overrides, lock = pins / "overrides.txt", pins / "lock.txt"
    names = list(doctor.requirement_names(metadata.requires("fraudops") or [], extras={"pipeline"}))
    if overrides.is_file():
        names += doctor.requirement_names(overrides.read_text(encoding="utf-8").splitlines())
    locked = doctor.locked_versions(lock.read_text(encoding="utf-8").splitlines()) if lock.is_file() else {}
    return doctor.compare(names, installed, locked)


def _machine(workspace: Path) -> doctor.Machine:
    existing = workspace.resolve()
    while not existing.exists():
        existing = existing.parent
    memory = psutil.virtual_memory()
    return doctor.Machine(
        cpus=len(os.sched_getaffinity(0)),
        gpus=sum(re.fullmatch(r"nvidia\d+", device) is not None for device in os.listdir("/dev")),
        memory_total=memory.total,
        memory_available=memory.available,
        disk_free=shutil.disk_usage(existing).free,
        workspace=str(workspace),
        workspace_writable=existing.is_dir() and os.access(existing, os.W_OK | os.X_OK),
        programs={name: next(filter(None, map(shutil.which, names)), None) for name, names in PROGRAMS.items()},
    )


def _tensorflow_devices() -> tuple[dict[str, int] | None, str | None]:
    try:
        import tensorflow as tf
    except Exception as error:  # a damaged package fails in any way, and to say so is what this is for
        return None, f"{type(error).__name__}: {error}"
    return {kind: len(tf.config.list_physical_devices(kind)) for kind in ("CPU", "GPU")}, None


def _rendered(diagnosis: doctor.Diagnosis) -> "RenderableType":
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    packages = Table("package", "installed", "locked", "state", box=None)
    for package in diagnosis.packages:
        style = {"ok": "", "unlocked": "dim"}.get(package.state, "bold red")
        packages.add_row(package.name, package.installed or "-", package.locked or "-", package.state, style=style)

    machine = Table.grid(padding=(0, 2))
    machine.add_row("Python", doctor.dotted(diagnosis.python))
    machine.add_row("processors", f"{diagnosis.machine.cpus} CPU, {diagnosis.machine.gpus} GPU")
    if diagnosis.tensorflow_devices is not None:
        seen = ", ".join(f"{count} {kind}" for kind, count in diagnosis.tensorflow_devices.items())
        machine.add_row("TensorFlow sees", seen)
    available, total = diagnosis.machine.memory_available / doctor.GIB, diagnosis.machine.memory_total / doctor.GIB
    machine.add_row("memory", f"{available:.1f} of {total:.1f} GiB available")
    machine.add_row("disk", f"{diagnosis.machine.disk_free / doctor.GIB:.1f} GiB free")
    machine.add_row("workspace", Text(diagnosis.machine.workspace))
    for name, path in diagnosis.machine.programs.items():
        machine.add_row(name, Text(path or "not installed (optional)"))

    verdict = [Text(problem, style="bold red") for problem in diagnosis.problems] or [
        Text("all is well", style="green")
    ]
    return Group(packages, Text(), machine, Text(), *verdict)
