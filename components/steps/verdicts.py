"""How verdicts and the reasons of single checks are kept inside artifacts."""

from collections.abc import Iterable
from pathlib import Path

from tfx.types.artifact import Artifact

from components.gate import Reason, Verdict, decide
from components.steps.artifacts import GateVerdict, path_of

_FILE = "verdict.json"


def write_reasons(artifact: Artifact, reasons: Iterable[Reason]) -> Verdict:
    """Keeps what a check found beside its report."""
    verdict = decide(reasons)
    (path_of(artifact) / _FILE).write_text(verdict.to_json(), encoding="utf-8")
    return verdict


def write_verdict(artifact: GateVerdict, reasons: Iterable[Reason]) -> None:
    """Decides, and keeps the verdict with its reasons; conditions read the property `passed`."""
    artifact.passed = int(write_reasons(artifact, reasons).passed)


def read_verdict(folder: str) -> Verdict:
    """The verdict below an artifact's URI."""
    return Verdict.from_json((Path(folder) / _FILE).read_text(encoding="utf-8"))
