"""Row counts: every part is there, and they add up, or the run ends."""

from __future__ import annotations

import pytest

from components.rows import RowFlow, outcomes, row_flows
from components.splits import Part
from schemas.errors import ArtifactError

READ = {"read": 100, "good": 90, "dead": 7, "duplicate": 3}
PARTS: dict[Part, int] = {"warm_up": 20, "train": 40, "immature": 10, "validation": 8, "test": 12}


def test_a_run_that_got_through_tells_where_every_row_ended() -> None:
    flows = row_flows(READ | {"files": 3}, PARTS)
    assert [(flow.step, flow.rows_in) for flow in flows] == [("ingest", 100), ("examples", 90)]
    ended = outcomes(flows)
    assert ended == {"read": 100, "dead": 7, "duplicate": 3} | {str(part): rows for part, rows in PARTS.items()}
    assert ended.pop("read") == sum(ended.values())


def test_a_run_that_ingest_has_stopped_tells_what_it_read() -> None:
    assert outcomes(row_flows(READ, None)) == READ


@pytest.mark.parametrize("name", READ)
def test_a_log_whose_rows_do_not_add_up_is_a_fault(name: str) -> None:
    with pytest.raises(ArtifactError, match="step ingest"):
        row_flows({**READ, name: READ[name] + 1}, None)


@pytest.mark.parametrize("name", PARTS)
def test_a_part_that_is_missing_or_wrong_is_a_fault(name: Part) -> None:
    with pytest.raises(ArtifactError, match="step examples"):
        row_flows(READ, {**PARTS, name: PARTS[name] - 1})
    with pytest.raises(ArtifactError, match=f"did not count its rows as {name}"):
        row_flows(READ, {part: rows for part, rows in PARTS.items() if part != name})


def test_counts_that_only_cancel_out_are_a_fault() -> None:
    with pytest.raises(ArtifactError, match="-1 lost"):
        RowFlow("ingest", 10, {"good": 11, "lost": -1})
