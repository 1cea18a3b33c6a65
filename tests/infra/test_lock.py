"""The locks are complete, hashed, agree with each other and say nothing about the machine that they were made on."""

import configparser
import itertools
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from infra.bootstrap import read_lock

ROOT = Path(__file__).parents[2]
PINS = ROOT / "infra" / "python"
# The extras that each lock holds: a checkout's, and those of the two images.
EXTRAS = {
    "lock.txt": ("pipeline", "kubeflow", "dev"),
    "pipeline.lock": ("pipeline", "kubeflow", "postgresql"),
    "serving.lock": (),
}


def requirements(text: str) -> list[Requirement]:
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return [Requirement(line) for line in lines if line]


def declared(extras: tuple[str, ...]) -> list[Requirement]:
    """What setup.cfg and the overrides ask for; an override takes the place of what is asked for there."""
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(ROOT / "setup.cfg")
    asked = requirements(setup["options"]["install_requires"])
    for extra in extras:
        asked += requirements(setup["options.extras_require"][extra])
    overrides = {canonicalize_name(one.name): one for one in requirements((PINS / "overrides.txt").read_text())}
    return [overrides.get(canonicalize_name(one.name), one) for one in asked]


def locked(lock: str) -> dict[str, str]:
    """Versions by canonical name; every entry has a hash, or this raises."""
    return {name: entry.version for name, entry in read_lock((PINS / lock).read_text()).items()}


@pytest.mark.parametrize(
    ("lock", "requirement"), [(lock, one) for lock, extras in EXTRAS.items() for one in declared(extras)], ids=str
)
def test_a_lock_holds_what_is_declared(lock, requirement):
    held = locked(lock)
    name = canonicalize_name(requirement.name)
    assert name in held, f"{name} is not in {lock}: make lock"
    assert requirement.specifier.contains(held[name]), f"{name} {held[name]} is in {lock}: make lock"


def test_what_is_in_two_locks_has_one_version():
    for first, second in itertools.combinations(EXTRAS, 2):
        ours, theirs = locked(first), locked(second)
        differing = [name for name in ours.keys() & theirs.keys() if ours[name] != theirs[name]]
        assert not differing, f"{first} and {second} differ: make lock"


def test_all_that_an_image_holds_is_what_the_tests_ran_with():
    driver = {canonicalize_name(one.name) for one in declared(("postgresql",))} - {
        canonicalize_name(one.name) for one in declared(())
    }
    assert locked("serving.lock").keys() <= locked("lock.txt").keys()
    assert locked("pipeline.lock").keys() - driver <= locked("lock.txt").keys()


def test_the_serving_lock_is_without_what_trains():
    heavy = {"tensorflow", "keras", "tfx", "apache-beam", "tensorflow-serving-api", "mlflow", "pandas", "numba", "pip"}
    assert not heavy & locked("serving.lock").keys()


def test_no_image_holds_what_only_development_needs():
    for lock in ("pipeline.lock", "serving.lock"):
        assert not {"pytest", "ruff", "mypy", "import-linter"} & locked(lock).keys()


@pytest.mark.parametrize("lock", EXTRAS)
def test_a_lock_names_no_index_host_or_folder(lock):
    text = (PINS / lock).read_text()
    assert not re.search(r"://|@ |(?m:^\s*-)(?!-hash=)|--(extra-)?index-url|--find-links|--trusted-host", text)
    assert not re.search(r"(^|[\s=])(/|~)", text)
