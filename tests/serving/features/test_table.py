"""Plans read what they ask for, alone and together, over every table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from serving.features import MemoryTable, SqliteTable
from serving.features.table import Plan, Range, Row, Table, drive, one, together

ROWS = [(bytes([number]), b"v%d" % number) for number in range(1, 8)]


@pytest.fixture(params=["memory", "sqlite"])
def table(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Table]:
    made: Table = MemoryTable() if request.param == "memory" else SqliteTable(tmp_path / "table.sqlite")
    with closing(made):
        with made.transaction():
            made.write(ROWS, [])
        yield made


def test_ranges_are_read_from_either_end_up_to_a_limit(table: Table) -> None:
    with table.transaction():
        found = table.read(
            [
                Range(b"\x02", b"\x05"),
                Range(b"\x02", b"\x05", 2),
                Range(b"\x02", b"\x05", 2, last=True),
                Range(b"\x02", b"\x05", 0, last=True),
                one(b"\x03"),
                one(b"\x03\x00"),
                Range(b"", b"\xff", last=True),
            ]
        )
    assert found == [ROWS[1:4], ROWS[1:3], [ROWS[3], ROWS[2]], [], [ROWS[2]], [], ROWS[::-1]]


def test_plans_together_ask_in_as_few_turns_as_the_longest(table: Table) -> None:
    turns: list[int] = []

    class Counting(MemoryTable):
        def read(self, ranges: Sequence[Range]) -> list[list[Row]]:
            turns.append(len(ranges))
            return table.read(ranges)

    def chain(*keys: int) -> Plan[list[bytes]]:
        values = []
        for key in keys:
            [[(_, value)]] = yield [one(bytes([key]))]
            values.append(value)
        return values

    def pair() -> Plan[int]:
        first, second = yield [Range(b"\x01", b"\x03"), Range(b"\x03", b"\x08")]
        return len(first) * 10 + len(second)

    def nothing() -> Plan[str]:
        yield from ()
        return "nothing"

    with table.transaction():
        found = drive(Counting(), together([chain(1, 2, 3), nothing(), pair(), chain(4)]))
    assert found == [[b"v1", b"v2", b"v3"], "nothing", 25, [b"v4"]]
    assert turns == [4, 1, 1]
    assert drive(Counting(), together([])) == []


def test_what_a_plan_raises_reaches_the_caller(table: Table) -> None:
    def failing() -> Plan[None]:
        yield [one(b"\x01")]
        raise KeyError("event_time")

    with table.transaction(), pytest.raises(KeyError, match="event_time"):
        drive(table, together([failing()]))
