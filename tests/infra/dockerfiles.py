"""The instructions of the project's Dockerfiles, for tests that look at them or follow them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
IMAGES = ("pipeline", "serving")


@dataclass(frozen=True)
class Instruction:
    """One instruction: its word, and what follows it."""

    word: str
    rest: str

    @property
    def copied(self) -> tuple[list[str], str]:
        """Sources and target of a COPY."""
        *sources, target = self.rest.split()
        return sources, target


def stages(image: str) -> list[list[Instruction]]:
    """The stages of an image's Dockerfile; each begins with its FROM."""
    text = (ROOT / "infra" / "docker" / f"{image}.Dockerfile").read_text(encoding="utf-8")
    lines = re.sub(r"\\\n", " ", re.sub(r"(?m)^#.*\n", "", text)).splitlines()
    found: list[list[Instruction]] = []
    for line in filter(None, lines):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            found.append([])
        found[-1].append(Instruction(word, rest))
    return found


def from_context(image: str) -> list[str]:
    """What the image is built from: paths in the repository."""
    return [
        source.rstrip("/")
        for stage in stages(image)
        for instruction in stage
        if instruction.word == "COPY" and not instruction.rest.startswith("--from")
        for source in instruction.copied[0]
    ]
