"""Airflow's lock holds what is declared, hashed, and says nothing about the machine that it was made on."""

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from infra.bootstrap import read_lock

PINS = Path(__file__).parents[2] / "infra" / "airflow"


def declared() -> list[Requirement]:
    lines = (line.partition("#")[0].strip() for line in (PINS / "requirements.txt").read_text().splitlines())
    return [Requirement(line) for line in lines if line]


@pytest.mark.parametrize("requirement", declared(), ids=str)
def test_the_lock_holds_what_is_declared(requirement: Requirement) -> None:
    locked = read_lock((PINS / "lock.txt").read_text())
    name = canonicalize_name(requirement.name)
    assert name in locked, f"{name} is not locked: make lock"
    assert requirement.specifier.contains(locked[name].version), f"{name} {locked[name].version} is locked: make lock"


def test_the_lock_names_no_index_host_or_folder() -> None:
    text = (PINS / "lock.txt").read_text()
    assert not re.search(r"://|@ |(?m:^\s*-)(?!-hash=)|--(extra-)?index-url|--find-links|--trusted-host", text)
    assert not re.search(r"(^|[\s=])(/|~)", text)
