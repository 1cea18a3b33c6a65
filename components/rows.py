"""What became of the rows that went into a step, in numbers that have to add up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from components.splits import PARTS, Part
from schemas.errors import ArtifactError


@dataclass(frozen=True)
class RowFlow:
    """The rows that went into one step, and their number by where they went.

    Raises:
        ArtifactError: they do not add up.
    """

    step: str
    rows_in: int
    rows_out: Mapping[str, int]

    def __post_init__(self) -> None:
        if self.rows_in != sum(self.rows_out.values()) or min(self.rows_out.values()) < 0:
            listed = ", ".join(f"{rows} {name}" for name, rows in self.rows_out.items())
            raise ArtifactError(
                f"of the {self.rows_in} rows that went into step {self.step}, {sum(self.rows_out.values())} came out "
                f"({listed}); none may be lost or made, so this is a fault of the step"
            )


def ingest_flow(report: Mapping[str, int]) -> RowFlow:
    """What became of the rows of a log.

    Args:
        report: the counts of the ingest report, by their names there.

    Raises:
        ArtifactError: a count is missing, or they do not add up.
    """
    return _flow("ingest", report, "read", ("good", "dead", "duplicate"))


def example_flow(good: int, rows_of: Mapping[Part, int]) -> RowFlow:
    """What became of the rows that ingest found good.

    Args:
        good: their number.
        rows_of: their number in each part of the log.

    Raises:
        ArtifactError: a part is missing, or they do not add up.
    """
    counts = {str(part): rows for part, rows in rows_of.items()}
    return _flow("examples", counts | {"good": good}, "good", PARTS)


def row_flows(report: Mapping[str, int], rows_of: Mapping[Part, int] | None) -> tuple[RowFlow, ...]:
    """Both flows of a run, the second where it has got there; see `ingest_flow` and `example_flow`."""
    read = ingest_flow(report)
    return (read,) if rows_of is None else (read, example_flow(read.rows_out["good"], rows_of))


def outcomes(flows: Sequence[RowFlow]) -> dict[str, int]:
    """The rows read, and where each of them ended: the number read is the sum of the others."""
    ended = {name: rows for flow in flows for name, rows in flow.rows_out.items()}
    if len(flows) > 1:
        del ended["good"]  # which went into the second
    return {"read": flows[0].rows_in, **ended}


def _flow(step: str, counts: Mapping[str, int], rows_in: str, rows_out: tuple[str, ...]) -> RowFlow:
    if missing := [name for name in (rows_in, *rows_out) if name not in counts]:
        raise ArtifactError(f"step {step} did not count its rows as {', '.join(missing)}; run it again")
    return RowFlow(step, counts[rows_in], {name: counts[name] for name in rows_out})
