"""The environment is made from the lock, repaired where it is not as locked, and left alone otherwise.

Small wheels made on the spot stand for the package index, so that nothing is downloaded.
"""

import base64
import hashlib
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from infra import bootstrap
from infra.bootstrap import BootstrapError, Project

UV = pytest.param("uv", marks=pytest.mark.skipif(shutil.which("uv") is None, reason="uv is not installed"))
FASTEST = "uv" if shutil.which("uv") else "pip"

BACKEND = """
import pathlib, shutil

def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    (wheel,) = pathlib.Path("prebuilt").glob("*.whl")
    shutil.copy(wheel, wheel_directory)
    return wheel.name
"""


def write_wheel(folder: Path, name: str, version: str, files: Mapping[str, str]) -> Path:
    """Writes a pure wheel and returns its path."""
    info = f"{name}-{version}.dist-info"
    contents = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(
        f"{path},sha256={base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b'=').decode()},"
        f"{len(text.encode())}\n"
        for path, text in contents.items()
    )
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in {**contents, f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}.items():
            archive.writestr(path, text)
    return wheel


@dataclass
class Checkout:
    """A tiny project with its lock, the index that it is locked against, and what bootstrap said."""

    root: Path
    index: Path
    said: list[str] = field(default_factory=list)

    @property
    def project(self) -> Project:
        return Project(self.root)

    def declare(self, version: str) -> None:
        """Gives the project a version."""
        (self.root / "setup.cfg").write_text(f"[metadata]\nname = tiny_project\nversion = {version}\n")
        shutil.rmtree(self.root / "prebuilt", ignore_errors=True)
        write_wheel(self.root / "prebuilt", "tiny_project", version, {"tiny_project.pth": f"{self.root}\n"})

    def lock(self, **versions: str) -> None:
        """Locks distributions, each of two modules, one of which knows its version."""
        lines = ["# a comment\n"]
        for name, version in versions.items():
            module = f"VERSION = {version!r}\n"
            wheel = write_wheel(self.index, name, version, {f"{name}/__init__.py": module, f"{name}/part.py": module})
            lines.append(f"{name}=={version} \\\n    --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n")
            lines.append("    # via tiny-project\n")
        self.project.lock.write_text("".join(lines))

    def ensure(self, installer: str = FASTEST) -> bool:
        self.said.clear()
        return bootstrap.ensure(self.project, [sys.executable], installer, self.said.append)

    def version_of(self, name: str) -> str:
        """The version that the environment's own interpreter imports."""
        code = f"import {name}, {name}.part; print({name}.VERSION)"
        command = [str(self.project.python), "-I", "-c", code]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    made = Checkout(root=tmp_path.resolve() / "checkout", index=tmp_path / "index")
    made.project.lock.parent.mkdir(parents=True)
    made.index.mkdir()
    (made.root / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    (made.root / "backend.py").write_text(BACKEND)
    made.declare("1.0")
    made.lock(alpha="1.0", beta="2.0")
    for variable, value in {
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(made.index),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "UV_OFFLINE": "1",
        "UV_FIND_LINKS": str(made.index),
        "UV_CACHE_DIR": str(tmp_path / "uv-cache"),
    }.items():
        monkeypatch.setenv(variable, value)
    return made


@pytest.mark.parametrize("installer", [UV, "pip"])
def test_a_fresh_checkout_gets_what_is_locked_and_then_is_left_alone(checkout, installer):
    assert checkout.ensure(installer)
    assert (checkout.version_of("alpha"), checkout.version_of("beta")) == ("1.0", "2.0")
    assert bootstrap.examine(checkout.project).sound

    before = checkout.project.stamp.stat().st_mtime_ns
    for cache in checkout.project.site.glob("*/__pycache__"):  # may come and go
        shutil.rmtree(cache)
    assert not checkout.ensure(installer)
    assert checkout.project.stamp.stat().st_mtime_ns == before
    assert checkout.said == []


def test_pip_repairs_what_uv_made(checkout):
    checkout.ensure()
    checkout.lock(alpha="1.1")
    (checkout.project.site / "tiny_project.pth").unlink()
    assert checkout.ensure("pip")
    assert checkout.version_of("alpha") == "1.1"
    assert not (checkout.project.site / "beta").exists()


def test_an_empty_lock_installs_the_project_alone(checkout):
    checkout.lock()
    assert checkout.ensure()
    assert bootstrap.examine(checkout.project).sound
    assert (checkout.project.site / "tiny_project.pth").is_file()


def remove_interpreter(project):
    for name in ("python", "python3", "python3.11"):
        (project.venv / "bin" / name).unlink(missing_ok=True)


def leave_a_dangling_interpreter(project):
    remove_interpreter(project)
    project.python.symlink_to("/no/such/python")


def put_another_python(project):
    remove_interpreter(project)
    project.python.write_text(f"#!/bin/sh\nprintf '3.12\\n/usr/bin/python3.12\\n{project.venv}\\n'\n")
    project.python.chmod(0o755)


def forget_that_it_is_an_environment(project):
    (project.venv / "pyvenv.cfg").unlink()


def remove_stamp(project):
    project.stamp.unlink()


def cut_stamp_short(project):
    project.stamp.write_text(project.stamp.read_text()[:20])


def put_a_file_in_its_place(project):
    shutil.rmtree(project.venv)
    project.venv.write_text("")


@pytest.mark.parametrize(
    "kill",
    [
        remove_interpreter,
        leave_a_dangling_interpreter,
        put_another_python,
        forget_that_it_is_an_environment,
        remove_stamp,
        cut_stamp_short,
        put_a_file_in_its_place,
    ],
)
def test_what_is_dead_or_unknown_is_made_anew(checkout, kill: Callable[[Project], None]):
    checkout.ensure()
    if kill is not put_a_file_in_its_place:
        (checkout.project.venv / "left over").touch()
    kill(checkout.project)
    assert bootstrap.examine(checkout.project).dead
    assert checkout.ensure()
    assert checkout.said[0].startswith("making .venv")
    assert not (checkout.project.venv / "left over").exists()
    assert checkout.version_of("alpha") == "1.0"


def test_a_moved_checkout_is_made_anew_because_its_scripts_name_the_old_place(checkout, tmp_path):
    checkout.ensure()
    old = checkout.root
    checkout.root = tmp_path.resolve() / "moved"
    old.rename(checkout.root)
    assert str(old) in bootstrap.examine(checkout.project).dead
    assert checkout.ensure()
    assert bootstrap.examine(checkout.project).sound


def test_a_failed_installation_is_told_and_taken_up_where_it_stopped(checkout):
    checkout.lock(alpha="1.0")
    checkout.ensure()
    (checkout.project.site / "alpha" / "kept").touch()
    checkout.lock(alpha="1.0", beta="2.0")
    wheel = next(checkout.index.glob("beta-*"))
    hidden = wheel.rename(checkout.root / wheel.name)
    with pytest.raises(BootstrapError, match="beta"):
        checkout.ensure()
    assert bootstrap.examine(checkout.project).unfinished

    hidden.rename(wheel)
    assert checkout.ensure()
    assert checkout.version_of("beta") == "2.0"
    assert (checkout.project.site / "alpha" / "kept").exists()


def test_a_wheel_that_does_not_have_the_locked_hash_is_refused(checkout):
    text = checkout.project.lock.read_text()
    hashes = re.findall("sha256:([0-9a-f]{64})", text)
    checkout.project.lock.write_text(text.replace(hashes[0], hashes[1]))
    with pytest.raises(BootstrapError, match=r"(?i)hash"):
        checkout.ensure()


def test_another_lock_changes_what_differs_and_nothing_else(checkout):
    checkout.lock(alpha="1.0", beta="2.0", gamma="3.0")
    checkout.ensure()
    own = write_wheel(checkout.index, "mine", "1", {"mine.py": ""})
    with zipfile.ZipFile(own) as archive:
        archive.extractall(checkout.project.site)
    (checkout.project.site / "alpha" / "kept").touch()

    checkout.lock(alpha="1.0", beta="2.1")
    assert checkout.ensure()
    assert checkout.version_of("beta") == "2.1"
    assert not list(checkout.project.site.glob("gamma*"))
    assert (checkout.project.site / "alpha" / "kept").exists()
    assert (checkout.project.site / "mine.py").exists()


def remove_a_module(site):
    (site / "alpha" / "part.py").unlink()


def cut_a_module_short(site):
    (site / "alpha" / "part.py").write_text("")


def remove_the_package(site):
    shutil.rmtree(site / "alpha")


def remove_the_distribution_information(site):
    shutil.rmtree(site / "alpha-1.0.dist-info")


def remove_the_record(site):
    (site / "alpha-1.0.dist-info" / "RECORD").unlink()


def leave_a_second_distribution_information(site):
    shutil.copytree(site / "alpha-1.0.dist-info", site / "alpha-0.9.dist-info")


def put_another_version(site):
    remove_the_package(site)
    remove_the_distribution_information(site)
    with zipfile.ZipFile(write_wheel(site, "alpha", "0.9", {"alpha/old.py": ""})) as archive:
        archive.extractall(site)


@pytest.mark.parametrize(
    "damage",
    [
        remove_a_module,
        cut_a_module_short,
        remove_the_package,
        remove_the_distribution_information,
        remove_the_record,
        leave_a_second_distribution_information,
        put_another_version,
    ],
)
def test_a_damaged_distribution_is_installed_again_alone(checkout, damage: Callable[[Path], None]):
    checkout.ensure()
    (checkout.project.site / "beta" / "kept").touch()
    damage(checkout.project.site)
    assert bootstrap.examine(checkout.project).wrong == ("alpha",)
    assert checkout.ensure()
    assert checkout.version_of("alpha") == "1.0"
    assert not (checkout.project.site / "alpha" / "old.py").exists()
    assert (checkout.project.site / "beta" / "kept").exists()


def test_a_file_that_two_distributions_bring_is_no_damage(checkout):
    locked = []
    for name, text in (("alpha", ""), ("beta", "# longer\n")):
        wheel = write_wheel(checkout.index, name, "1.0", {"shared.py": text, f"{name}.py": ""})
        locked.append(f"{name}==1.0 --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n")
    checkout.project.lock.write_text("".join(locked))
    assert checkout.ensure()
    assert not checkout.ensure()


def lose_the_link_to_the_project(checkout):
    (checkout.project.site / "tiny_project.pth").unlink()


def declare_another_version(checkout):
    checkout.declare("1.1")


def declare_another_build(checkout):
    with (checkout.root / "pyproject.toml").open("a") as file:
        file.write("# changed\n")


@pytest.mark.parametrize("change", [lose_the_link_to_the_project, declare_another_version, declare_another_build])
def test_the_project_is_installed_again_where_its_metadata_or_link_changed(checkout, change):
    checkout.ensure()
    change(checkout)
    condition = bootstrap.examine(checkout.project)
    assert condition.project_stale
    assert condition.wrong == ()
    assert checkout.ensure()
    assert (checkout.project.site / "tiny_project.pth").is_file()


def test_a_tool_setting_is_no_change_of_the_project(checkout):
    checkout.ensure()
    with (checkout.root / "setup.cfg").open("a") as file:
        file.write("[mypy]\nfiles = tests\n")
    assert not checkout.ensure()


def test_two_calls_at_once_do_not_disturb_each_other(checkout):
    command = [sys.executable, bootstrap.__file__, "--root", str(checkout.root), "--installer", FASTEST]
    calls = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(3)]
    said = [call.communicate(timeout=120)[0] for call in calls]
    assert [call.returncode for call in calls] == [0, 0, 0], said
    assert sum("making .venv with" in text for text in said) == 1
    assert bootstrap.examine(checkout.project).sound


def test_without_a_python_3_11_the_message_names_what_was_tried(checkout):
    with pytest.raises(BootstrapError, match=r"no Python 3\.11 found \(/no/such/python does not run\)"):
        bootstrap.ensure(checkout.project, ["/no/such/python"], FASTEST, checkout.said.append)
    assert not checkout.project.venv.exists()


def test_the_python_of_an_environment_stands_for_the_one_behind_it(tmp_path):
    subprocess.run([sys.executable, "-I", "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    found = Path(bootstrap.find_python([str(tmp_path / "venv" / "bin" / "python")]))
    assert tmp_path not in found.parents


def test_a_broken_uv_is_passed_over(checkout, tmp_path, monkeypatch):
    broken = tmp_path / "bin" / "uv"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\nexit 127\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(broken.parent), prepend=":")
    assert bootstrap.choose_installer("auto", checkout.project).name == "pip"


@pytest.mark.parametrize("line", ["alpha>=1.0 --hash=sha256:00", "alpha==1.0", "--index-url https://example.org"])
def test_a_lock_entry_without_a_version_or_a_hash_is_refused(line):
    with pytest.raises(BootstrapError, match="make lock"):
        bootstrap.read_lock(line + "\n")


def test_a_missing_lock_is_an_error_without_a_traceback(checkout, capsys):
    checkout.project.lock.unlink()
    assert bootstrap.main(["--root", str(checkout.root)]) == 1
    assert "lock.txt" in capsys.readouterr().err
