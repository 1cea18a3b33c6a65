"""The lock is complete, hashed and says nothing about the machine that it was made on."""

import configparser
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from infra.bootstrap import read_lock

ROOT = Path(__file__).parents[2]
PINS = ROOT / "infra" / "python"


def requirements(text: str) -> list[Requirement]:
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return [Requirement(line) for line in lines if line]


def declared() -> list[Requirement]:
    """What setup.cfg and the overrides ask for; an override takes the place of what is asked for there."""
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(ROOT / "setup.cfg")
    asked = setup["options"]["install_requires"] + setup["options.extras_require"]["dev"]
    overrides = requirements((PINS / "overrides.txt").read_text())
    overridden = {canonicalize_name(override.name) for override in overrides}
    return overrides + [r for r in requirements(asked) if canonicalize_name(r.name) not in overridden]


@pytest.mark.parametrize("requirement", declared(), ids=str)
def test_the_lock_holds_what_is_declared(requirement):
    locked = read_lock((PINS / "lock.txt").read_text())
    name = canonicalize_name(requirement.name)
    assert name in locked, f"{name} is not locked: make lock"
    assert requirement.specifier.contains(locked[name].version), f"{name} {locked[name].version} is locked: make lock"


def test_the_lock_names_no_index_host_or_folder():
    text = (PINS / "lock.txt").read_text()
    assert not re.search(r"://|@ |(?m:^\s*-)(?!-hash=)|--(extra-)?index-url|--find-links|--trusted-host", text)
    assert not re.search(r"(^|[\s=])(/|~)", text)
