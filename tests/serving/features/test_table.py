"""Plans read what they ask for, alone and together, over every table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing

import pytest

from schemas.errors import FeatureStoreError
from serving.features import MemoryTable
from serving.features.keys import AFTER, entity
from serving.features.table import Conflict, Plan, Range, Row, Table, drive, one, together, transact

CARD, DEVICE = sorted([entity("card", ["c"]), entity("device", ["d"])])
ROWS = [(bytes([number]), b"v%d" % number) for number in range(1, 8)]
NAMES = [b"\0", b"\0\0", b"\0\1", b"\0\2", b"\1", b"\1\0", b"\1\0\0", b"\1\1", b"a", b"a\0b", b"b", b"\xfe\xff"]
VALUES = [b"", b"\0", b"\0\0", b"\0\1", b"\xff", b"a\0\0b"]


@pytest.fixture
def table(new_table: Callable[[], Table]) -> Iterator[Table]:
    with closing(new_table()) as made:
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


def test_rows_of_an_entity_are_in_the_order_of_their_bytes_whatever_they_hold(table: Table) -> None:
    rows = [
        (prefix + name, value)
        for prefix in (CARD, DEVICE)
        for name, value in zip(sorted(NAMES), VALUES * 2, strict=True)
    ]
    with table.transaction():
        table.write(rows, [])
    for inside in ("one", "another"):
        of_card = rows[: len(NAMES)]
        with table.transaction():
            assert table.read([one(key) for key, _ in rows]) == [[row] for row in rows], inside
            assert table.read([Range(CARD, CARD + AFTER), Range(CARD, CARD + AFTER, 3, last=True)]) == [
                of_card,
                of_card[::-1][:3],
            ]
            for begin in range(len(NAMES)):
                for end in range(begin, len(NAMES)):
                    wanted = Range(of_card[begin][0], of_card[end][0])
                    assert table.read([wanted]) == [of_card[begin:end]]
            table.write([(key, value + b"!") for key, value in rows], [])
        rows = [(key, value + b"!") for key, value in rows]


def test_a_transaction_sees_what_it_has_written_and_others_see_it_afterwards(table: Table) -> None:
    rows = [(CARD + b"%d" % number, b"old %d" % number) for number in range(8)]
    with table.transaction():
        table.write([*rows, (b"a1", b"answer"), (b"x1", b"")], [])

    def seen() -> list[list[Row]]:
        return table.read(
            [
                Range(CARD, CARD + AFTER),
                Range(CARD + b"1", CARD + b"7", 2),
                Range(CARD + b"1", CARD + b"7", 2, last=True),
                Range(b"x", b"x" + AFTER),
                one(b"a1"),
                one(b"a2"),
                Range(b"a", b"b"),
            ]
        )

    with table.transaction():
        seen()
        table.write([(CARD + b"3", b"new"), (b"a2", b"answer"), (b"x2", b"")], [(CARD + b"1", CARD + b"3")])
        table.write([(CARD + b"6", b"put and gone")], [(b"a1", b"a1\0"), (b"x1", b"x1\0")])
        table.write([(CARD + b"2", b"again")], [(CARD + b"5", CARD + b"7")])
        within = seen()
    kept = [rows[0], (CARD + b"2", b"again"), (CARD + b"3", b"new"), rows[4], rows[7]]
    answer = (b"a2", b"answer")
    assert within == [kept, kept[1:3], kept[3:1:-1], [(b"x2", b"")], [], [answer], [answer]]
    with table.transaction():
        assert seen() == within


def test_an_error_undoes_what_was_written(table: Table) -> None:
    with pytest.raises(RuntimeError), table.transaction():
        table.write([(CARD + b"k", b"v")], [(b"\x01", b"\x01\0")])
        raise RuntimeError
    with table.transaction():
        assert table.read([one(CARD + b"k"), one(b"\x01")]) == [[], [ROWS[0]]]


def test_a_transaction_that_others_come_between_is_begun_again_but_not_without_an_end() -> None:
    class Busy(MemoryTable):
        conflicts = 3

        def write(self, rows: object, deleted: object) -> None:
            self.conflicts -= 1
            if self.conflicts >= 0:
                raise Conflict

    table, tries = Busy(), []

    def work() -> str:
        tries.append(1)
        table.write([], [])
        return "done"

    assert transact(table, work) == "done"
    assert len(tries) == 4
    table.conflicts = 1_000_000
    with pytest.raises(FeatureStoreError, match="by others in each of"):
        transact(table, work)


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
