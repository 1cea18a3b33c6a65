"""Readers under bytes that nobody wrote for them: no crash, no hang, and no good row lost.

Examples are small, blocks and lines are made smaller still, so that every seam between blocks is met often.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.ingest import IngestResult, ingest, readers
from schemas.errors import FraudOpsError
from tests.components.ingest.logs import mapping, row

LINE_BYTES = 2_000
MAPPING = mapping()
IN_FOLDER = settings(max_examples=80, suppress_health_check=list(HealthCheck))


def csv_line(values: dict[str, Any]) -> bytes:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="").writerow(values.values())
    return stream.getvalue().encode()


def json_line(values: dict[str, Any]) -> bytes:
    return json.dumps(values, ensure_ascii=False).encode()


ENCODE = {"csv": csv_line, "jsonl": json_line}
HEADS = {"csv": [",".join(row()).encode()], "jsonl": []}
SHOPS = ["m1", 'Rack, Lock & "Sons"', "Łódź", '"', "", "x" * 900]
# What damages a line without ending it.
INSERTS = [
    b'"', b'""', b"'", b",", b"\r", b"\0", b"\xff", b"\xef\xbb\xbf", b"\xe9", b"{", b"}", b"[", b":", b"\\", b" ", b"-",
    b"1e999", b"9" * 400, b"x" * 3_000, b"[" * 300 + b"]" * 300, b"[" * 1_100, b"\xe2\x80\xa8", b"\\ud800", b"null",
]  # fmt: skip
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=12),
    st.sampled_from(["9" * 400, "0." + "1" * 400, "1e99", "-0", "2024-02-30", "1969-12-31T23:59:59Z", "USD", "XXX"]),
    st.recursive(st.none(), lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner)),
    st.integers(250, 260).map(lambda depth: json.loads("[" * depth + "]" * depth)),
)


@st.composite
def damaged(draw: st.DrawFn, ending: str) -> bytes:
    """A line that was good before something cut it, spliced it, or wrote into it."""
    line = bytearray(
        ENCODE[ending](row(id=draw(st.sampled_from(["j1", "j2", "j3"])), shop=draw(st.sampled_from(SHOPS))))
    )
    for _ in range(draw(st.integers(1, 3))):
        begin, end = sorted(draw(st.tuples(st.integers(0, len(line)), st.integers(0, len(line)))))
        change = draw(st.sampled_from(("cut", "insert", "flip", "repeat", "drop")))
        if change == "cut":
            del line[begin:]
        elif change == "insert":
            line[begin:begin] = draw(st.sampled_from(INSERTS))
        elif change == "flip" and begin < len(line):
            line[begin] ^= draw(st.integers(1, 255))
        elif change == "repeat":
            line[end:end] = line[begin:end]
        else:
            del line[begin:end]
    return bytes(line)


def odd_row(ending: str) -> st.SearchStrategy[bytes]:
    """A line that is whole and holds values that no such column should hold."""
    changes = st.dictionaries(st.sampled_from(list(row())), VALUES, max_size=3)
    return changes.map(lambda changed: ENCODE[ending](row(id="j4") | changed)).filter(lambda line: b"\n" not in line)


def junk(ending: str) -> st.SearchStrategy[bytes]:
    """A line of whatever: the bytes between two line ends."""
    other = next(encode for name, encode in ENCODE.items() if name != ending)
    lines = st.one_of(
        damaged(ending),
        odd_row(ending) if ending == "jsonl" else st.nothing(),
        # CSV parsers differ in what they make of these.
        st.sampled_from(['"m1"x', '""m1', 'm"1"', '"m""1"""x', '"m1" ', ' "m1"']).map(
            lambda shop: ENCODE[ending](row(id="j8", shop="SHOP")).replace(b"SHOP", shop.encode())
        ),
        st.binary(max_size=60),
        st.sampled_from(SHOPS).map(lambda shop: other(row(id="j5", shop=shop))),
        st.sampled_from(["utf-16", "utf-32", "latin-1", "cp037"]).map(lambda name: "é,{}\r".encode(name)),
        st.just(b'{"id": "j6", "id": "j7", ' + json_line(row())[1:]),
    )
    return lines.map(lambda line: line.replace(b"\n", b"\x0b"))


def lines(ending: str) -> st.SearchStrategy[list[tuple[bytes, bool]]]:
    """Lines in any order, and which of them are good; no two good ones have one id."""
    good = st.tuples(st.sampled_from(SHOPS), st.booleans())
    mixed = st.lists(junk(ending) | good, max_size=12)

    def made(parts: list[bytes | tuple[str, bool]]) -> list[tuple[bytes, bool]]:
        made = []
        for number, part in enumerate(parts):
            if isinstance(part, bytes):
                made.append((part, False))
            else:
                shop, amount_is_number = part
                values = row(id=f"good{number}", shop=shop or "m", **({"paid": 7} if amount_is_number else {}))
                made.append((ENCODE[ending](values), True))
        return made

    return mixed.map(made)


@contextmanager
def small_blocks(block: int) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readers, "BLOCK_BYTES", block)
        patch.setattr(readers, "LINE_BYTES", LINE_BYTES)
        yield


def adds_up(result: IngestResult) -> None:
    report, letters = result.report, result.dead_letters
    assert report.read == report.good + report.dead + report.duplicate
    assert (len(result.transactions), len(letters)) == (report.good, report.dead + report.duplicate)
    assert report.reasons == dict(Counter(letters["reason"].to_pylist()))
    places = list(zip(letters["file"].to_pylist(), letters["position"].to_pylist(), strict=True))
    assert places == sorted(set(places))


def ingested(file: Path, content: bytes) -> IngestResult | None:
    """What the file's rows came to, in counts that add up, or nothing where it is refused, by an error of ours."""
    file.write_bytes(content)
    try:
        result = ingest(file, MAPPING, None)
    except FraudOpsError as error:
        assert str(file) in str(error)
        assert len(str(error)) < 20_000
        return None
    adds_up(result)
    return result


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "jsonl", "ndjson.gz", "parquet"])
@given(content=st.binary(max_size=600) | st.text(alphabet='",:{}[]\n\r\0ié1-', max_size=200).map(str.encode))
@IN_FOLDER
def test_arbitrary_bytes_end_in_an_error_of_ours_or_in_counts_that_add_up(
    ending: str, content: bytes, tmp_path: Path
) -> None:
    head = b"\n".join([*HEADS.get(ending.removesuffix(".gz"), []), b""])
    for written in (content, head + content):
        result = ingested(tmp_path / f"log.{ending}", gzip.compress(written, 1) if ending.endswith("gz") else written)
        assert result is None or result.report.good == 0


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
@given(data=st.data(), block=st.integers(3, LINE_BYTES))
@IN_FOLDER
def test_good_lines_come_out_whatever_stands_between_them(
    ending: str, data: st.DataObject, block: int, tmp_path: Path
) -> None:
    chosen = [(ENCODE[ending](row(id="first")), True), *data.draw(lines(ending))]
    ends = data.draw(st.lists(st.sampled_from([b"\n", b"\r\n"]), min_size=len(chosen), max_size=len(chosen)))
    content = b"".join(line + end for (line, _), end in zip(chosen, ends, strict=True))
    head = b"".join(line + b"\n" for line in HEADS[ending])
    if data.draw(st.booleans()):
        content = content.removesuffix(ends[-1])
    with small_blocks(block):
        result = ingested(
            tmp_path / f"log.{ending}", data.draw(st.sampled_from([b"", b"\xef\xbb\xbf"])) + head + content
        )
    alone = ingested(tmp_path / f"log.{ending}", head + b"".join(line + b"\n" for line, good in chosen if good))
    assert result is not None and alone is not None
    assert alone.report.dead == alone.report.duplicate == 0
    rows = result.transactions.filter(
        pa.array([name.startswith(("good", "first")) for name in result.transactions["transaction_id"].to_pylist()])
    )
    assert rows.equals(alone.transactions)
    blank = {"csv": lambda line: line in (b"", b"\r"), "jsonl": lambda line: not line.strip()}[ending]
    assert result.report.read == sum(not blank(line) for line in content.split(b"\n"))


def fates(result: IngestResult, skip: int) -> dict[int, str]:
    """Why each line behind the first `skip` died, by its number; a duplicate was good."""
    letters = zip(result.dead_letters["position"].to_pylist(), result.dead_letters["reason"].to_pylist(), strict=True)
    return {position: reason for position, reason in letters if position > skip and reason != "duplicate"}


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
@given(data=st.data(), block=st.integers(3, LINE_BYTES))
@IN_FOLDER
def test_what_becomes_of_a_line_does_not_depend_on_its_neighbours(
    ending: str, data: st.DataObject, block: int, tmp_path: Path
) -> None:
    chosen = data.draw(st.lists(junk(ending), min_size=1, max_size=6))
    head = [*HEADS[ending], ENCODE[ending](row(id="first"))]
    file = tmp_path / f"log.{ending}"
    with small_blocks(block):
        together = ingested(file, b"\n".join([*head, *chosen]))
        assert together is not None
        apart: dict[int, str] = {}
        for number, line in enumerate(chosen):
            # At the same place, behind lines that are blank.
            alone = ingested(file, b"\n".join([*head, *[b""] * number, line]))
            assert alone is not None
            apart |= fates(alone, len(head))
    assert fates(together, len(head)) == apart


PARQUET_TYPES = [
    pa.null(), pa.bool_(), pa.int8(), pa.uint64(), pa.int64(), pa.float16(), pa.float32(), pa.float64(), pa.string(),
    pa.large_string(), pa.binary(), pa.binary(4), pa.date32(), pa.date64(), pa.time32("s"), pa.time64("ns"),
    pa.timestamp("s"), pa.timestamp("ns"), pa.timestamp("us", "UTC"), pa.timestamp("ms", "Europe/Berlin"),
    pa.timestamp("us", "Nowhere/Town"), pa.timestamp("us", "+25:00"), pa.duration("us"), pa.decimal128(38, 0),
    pa.decimal128(20, 10), pa.decimal256(76, 3), pa.list_(pa.int64()), pa.struct([("a", pa.string())]),
    pa.map_(pa.string(), pa.int64()), pa.dictionary(pa.int8(), pa.string()), pa.dictionary(pa.int32(), pa.int64()),
]  # fmt: skip


@given(kinds=st.dictionaries(st.sampled_from(list(row())), st.sampled_from(PARQUET_TYPES), max_size=4), data=st.data())
@IN_FOLDER
def test_parquet_columns_of_any_type_cost_their_rows_at_most(
    kinds: dict[str, pa.DataType], data: st.DataObject, tmp_path: Path
) -> None:
    rows = 3
    table = pa.Table.from_pylist([row(id=f"t{number}") for number in range(rows)])
    for name, kind in kinds.items():
        column = pa.nulls(rows, kind)
        numbers = data.draw(st.lists(st.integers(-(2**62), 2**62), min_size=rows, max_size=rows))
        with suppress(pa.ArrowException):  # not every type can hold a number, or one of this size
            made = pa.array(numbers).cast(kind)
            made.validate(full=True)
            column = made
        table = table.set_column(table.column_names.index(name), name, column)
    stream = io.BytesIO()
    pq.write_table(table, stream)
    result = ingested(tmp_path / "log.parquet", stream.getvalue())
    assert result is not None and result.report.read == rows


DAMAGES = 400
# Arrow reads Parquet in C++, where damage may end the process and not only raise; so this runs in one of its own.
DAMAGED_PARQUET = """
import random, resource, sys
from pathlib import Path
from tests.components.ingest.test_fuzz import damaged_parquet, ingested

resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
file = Path(sys.argv[1]) / "log.parquet"
for seed in range(int(sys.argv[2])):
    print(seed, flush=True)
    ingested(file, damaged_parquet(random.Random(seed)))
"""


def damaged_parquet(rng: random.Random) -> bytes:
    """A Parquet file of a hundred good rows with bits flipped, bytes cut out or doubled, mostly in its metadata."""
    stream = io.BytesIO()
    table = pa.Table.from_pylist([row(id=f"t{number}", shop=f"m{number % 7}") for number in range(100)])
    pq.write_table(table, stream, compression=rng.choice(["none", "snappy", "zstd", "gzip"]), row_group_size=40)
    content = bytearray(stream.getvalue())
    metadata = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(metadata if rng.random() < 0.6 else 0, len(content))
        change = rng.random()
        if change < 0.8:
            content[at] ^= 1 << rng.randrange(8)
        elif change < 0.9:
            del content[at : at + rng.randint(1, 50)]
        else:
            content[at:at] = content[at : at + rng.randint(1, 50)]
    return bytes(content)


def test_a_damaged_parquet_file_ends_neither_the_process_nor_in_a_loop(tmp_path: Path) -> None:
    command = [sys.executable, "-c", DAMAGED_PARQUET, str(tmp_path), str(DAMAGES)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr[-2_000:]
    assert done.stdout.split()[-1] == str(DAMAGES - 1)
