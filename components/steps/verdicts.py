"""How verdicts and the reasons of single checks are kept inside artifacts."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from tfx.types.artifact import Artifact

from components.gate import Reason, Verdict, decide
from components.steps.artifacts import GateVerdict, path_of
from schemas.acceptance import Acceptance

_FILE = "verdict.json"


def write_reasons(artifact: Artifact, reasons: Iterable[Reason]) -> None:
    """Keeps what a check found beside its report."""
    write_file(path_of(artifact), decide(reasons))


def write_verdict(
    artifact: GateVerdict, reasons: Iterable[Reason], acceptances: Sequence[Acceptance], at: datetime
) -> None:
    """Decides, and keeps the verdict with its reasons; conditions read the property `passed`.

    What people have accepted is in ML Metadata too: `accepted` counts the stops, `acceptances` holds the words.

    Args:
        artifact: keeps it.
        reasons: what the checks found.
        acceptances: what people say.
        at: now.
    """
    verdict = decide(reasons, acceptances, at)
    artifact.passed = int(verdict.passed)
    artifact.set_int_custom_property("accepted", sum(reason.accepted is not None for reason in verdict.reasons))
    if verdict.acceptances:
        said = json.dumps([asdict(one) for one in verdict.acceptances], ensure_ascii=False)
        artifact.set_string_custom_property("acceptances", said)
    write_file(path_of(artifact), verdict)


def write_file(folder: Path, verdict: Verdict) -> None:
    """Keeps a verdict in a folder, which is made if it is not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _FILE).write_text(verdict.to_json(), encoding="utf-8")


def read_verdict(folder: str) -> Verdict:
    """The verdict below an artifact's URI."""
    return Verdict.from_json((Path(folder) / _FILE).read_text(encoding="utf-8"))
