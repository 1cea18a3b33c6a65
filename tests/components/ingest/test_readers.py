import gzip
import os
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.ingest import ingest, readers
from schemas.errors import LogColumnsError, LogError
from schemas.sources import SourceMapping
from tests.components.ingest.logs import KEY, mapping, row, write

ENDINGS = ("parquet", "csv", "csv.gz", "jsonl", "ndjson.gz")


def renamed(rows: list[dict[str, str]], **names: str) -> list[dict[str, str]]:
    return [{names.get(name, name): value for name, value in row.items()} for row in rows]


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_file_of_no_bytes_is_an_error_that_names_it(ending: str, tmp_path: Path) -> None:
    file = tmp_path / f"log.{ending}"
    file.touch()
    with pytest.raises(LogError, match=rf"log\.{ending} holds no rows"):
        ingest(file, mapping(), None)


def test_a_file_without_rows_is_an_error_also_among_others(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", [row()])
    (tmp_path / "b.csv").write_text((tmp_path / "a.csv").read_text().splitlines()[0] + "\n")
    with pytest.raises(LogError, match=r"b\.csv holds no rows"):
        ingest(tmp_path, mapping(), None)
    pq.write_table(pa.Table.from_pylist([row()]).slice(0, 0), tmp_path / "b.parquet")
    with pytest.raises(LogError, match=r"b\.parquet holds no rows"):
        ingest(tmp_path / "b.parquet", mapping(), None)
    (tmp_path / "c.jsonl").write_text("\n \n")
    with pytest.raises(LogError, match=r"c\.jsonl holds no rows"):
        ingest(tmp_path / "c.jsonl", mapping(), None)


@pytest.mark.parametrize("ending", ["parquet", "csv.gz", "ndjson.gz"])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.99])
def test_a_truncated_file_is_an_error_that_names_it(ending: str, kept: float, tmp_path: Path) -> None:
    rows = [row(id=f"t{number}", shop=f"m{random.Random(number).random()}") for number in range(500)]
    file = write(tmp_path / f"log.{ending}", rows)
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(LogError, match=rf"log\.{ending} is truncated, corrupt or not"):
        ingest(file, mapping(), None)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("size", [10, 1_000, 200_000])
def test_random_bytes_are_an_error_whatever_the_ending(ending: str, size: int, tmp_path: Path) -> None:
    file = tmp_path / f"log.{ending}"
    for seed in range(5):
        file.write_bytes(random.Random(seed).randbytes(size))
        with pytest.raises(LogError, match=rf"log\.{ending}"):
            ingest(file, mapping(), None)


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_a_format_under_the_ending_of_another_is_an_error(ending: str, tmp_path: Path) -> None:
    parquet = write(tmp_path / "log.parquet", [row()])
    packed = write(tmp_path / "log.csv.gz", [row()])
    for source in (parquet, packed):
        file = tmp_path / f"disguised.{ending}"
        file.write_bytes(source.read_bytes())
        with pytest.raises(LogError, match="disguised"):
            ingest(file, mapping(), None)


def test_a_corrupt_page_of_parquet_is_an_error(tmp_path: Path) -> None:
    table = pa.Table.from_pylist([row(id=f"t{number}") for number in range(1_000)])
    file = tmp_path / "log.parquet"
    pq.write_table(table, file, write_page_checksum=True)
    content = bytearray(file.read_bytes())
    content[200] ^= 0xFF
    file.write_bytes(bytes(content))
    with pytest.raises(LogError, match=r"log\.parquet is truncated, corrupt or not Parquet"):
        ingest(file, mapping(), None)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read_is_an_error(tmp_path: Path) -> None:
    file = write(tmp_path / "log.csv", [row()])
    file.chmod(0)
    with pytest.raises(LogError, match="Permission denied"):
        ingest(file, mapping(), None)


@pytest.mark.parametrize("ending", ENDINGS)
def test_all_lost_columns_are_named_at_once_with_the_closest_that_is_there(ending: str, tmp_path: Path) -> None:
    file = write(tmp_path / f"log.{ending}", renamed([row()], card="CARD_", fraud="is_swindle"))
    with pytest.raises(LogColumnsError) as error:
        ingest(file, mapping(), None)
    message = str(error.value)
    assert f"log.{ending} lacks columns that source shop maps" in message
    assert "'card' (for card_id, perhaps now 'CARD_')" in message
    assert "'fraud' (for is_fraud)" in message
    assert "it has CARD_, at, cur, id, is_swindle, known, lat, lon, paid, shop" in message


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_column_that_is_there_twice_is_an_error(ending: str, tmp_path: Path) -> None:
    file = tmp_path / f"log.{ending}"
    if ending == "csv":
        file.write_text(",".join([*row(), "paid"]) + "\n" + ",".join([*row().values(), "1"]) + "\n")
    else:
        pq.write_table(pa.table([[value] for value in (*row().values(), "1")], names=[*row(), "paid"]), file)
    with pytest.raises(LogError, match="more than one column named paid"):
        ingest(file, mapping(), None)


def test_a_key_that_only_later_lines_have_is_no_lost_column(tmp_path: Path) -> None:
    without = {name: value for name, value in row(id="t1").items() if name != "known"}
    result = ingest(write(tmp_path / "log.jsonl", [without, row(id="t2")]), mapping(), None)
    assert result.report.good == 2


def test_a_required_key_that_the_first_block_lacks_ends_the_run_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "BLOCK_BYTES", 1 << 10)
    file = write(tmp_path / "log.jsonl", renamed([row() for _ in range(100)], card="pan"))
    with file.open("a") as stream:
        stream.write('{"card": "c1"}\n')
    with pytest.raises(LogColumnsError, match="'card'"):
        ingest(file, mapping(), None)


def dead(file: Path, mapping_: SourceMapping) -> list[tuple[int, str]]:
    letters = ingest(file, mapping_, None).dead_letters
    return list(zip(letters["position"].to_pylist(), letters["reason"].to_pylist(), strict=True))


def test_lines_that_cannot_be_taken_apart_die_alone(tmp_path: Path) -> None:
    lines = [",".join(row())]
    lines += [",".join(row(id=f"t{number}").values()) for number in range(2, 12)]
    lines[2] = lines[2].replace("m1", '"m1')  # a quote that never closes
    lines[4] += ",more"
    lines[6] = "t7"
    lines[8] = ""
    (tmp_path / "log.csv").write_bytes("\r\n".join(lines).encode() + b"\r\nt13,\xff\xfe,,,,,,,,\r\n")
    report = ingest(tmp_path / "log.csv", mapping(), None).report
    assert dead(tmp_path / "log.csv", mapping()) == [(at, "malformed") for at in (3, 5, 7, 12)]
    assert (report.read, report.good, report.dead) == (10, 6, 4)


@pytest.mark.parametrize("line", ['{"id": "t', "[1]", "17", "null", '"x"', '{"paid": NaN}', "{}{}", "\ufffe"])
def test_a_line_that_is_no_json_object_dies_alone(line: str, tmp_path: Path) -> None:
    file = write(tmp_path / "log.jsonl", [row(id="t1")])
    good = file.read_text()
    file.write_text(good + line + "\n\n" + good.replace("t1", "t2"))
    assert dead(file, mapping()) == [(2, "malformed")]
    assert ingest(file, mapping(), None).report.good == 2


def test_small_blocks_change_neither_rows_nor_positions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [row(id=f"t{number}", paid="x" if number % 7 == 0 else "1.5") for number in range(200)]
    for ending in ("csv", "jsonl.gz", "parquet"):
        file = write(tmp_path / f"log.{ending}", rows)
        whole = ingest(file, mapping(), None)
        with monkeypatch.context() as patch:
            patch.setattr(readers, "BLOCK_BYTES", 700)
            patch.setattr(readers, "PARQUET_ROWS", 9)
            parts = ingest(file, mapping(), None)
        assert parts.transactions.equals(whole.transactions)
        assert parts.dead_letters.equals(whole.dead_letters)
        assert parts.report == whole.report


@pytest.mark.parametrize("block", [100, 500, 1_000])
@pytest.mark.parametrize("length", [1_000, 1_001, 1_999, 2_001, 10_000])
@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_a_line_beyond_the_limit_dies_alone_and_fills_no_memory(
    ending: str, length: int, block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "BLOCK_BYTES", block)
    monkeypatch.setattr(readers, "LINE_BYTES", 1_000)
    file = write(tmp_path / f"log.{ending}", [row(id="t1"), row(id="t2")])
    *before, last = file.read_bytes().splitlines()
    long = b"x" * length
    file.write_bytes(b"\n".join([*before, long, last, long]))
    result = ingest(file, mapping(), None)
    assert result.transactions["transaction_id"].to_pylist() == ["t1", "t2"]
    assert result.dead_letters["position"].to_pylist() == [len(before) + 1, len(before) + 3]
    said_so = ["more than 1,000 bytes" in message for message in result.dead_letters["message"].to_pylist()]
    assert said_so == [length > 1_000] * 2
    assert max(map(len, result.dead_letters["raw"].to_pylist())) < 1_100


def test_an_error_about_columns_stays_short_whatever_a_file_offers_for_names(tmp_path: Path) -> None:
    file = tmp_path / "log.csv"
    file.write_text(",".join(["x" * 100_000, *(f"column{number}" for number in range(20_000))]) + "\n1,2\n")
    with pytest.raises(LogColumnsError) as error:
        ingest(file, mapping(), None)
    assert "19,951 more" in str(error.value) and len(str(error.value)) < 5_000


def test_a_byte_order_mark_and_missing_last_line_end_are_harmless(tmp_path: Path) -> None:
    for ending in ("csv", "jsonl"):
        file = write(tmp_path / f"log.{ending}", [row()])
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().rstrip())
        assert ingest(file, mapping(), None).report.good == 1


@pytest.mark.parametrize("block", [3, 1 << 20])
def test_a_byte_order_mark_inside_a_file_is_part_of_the_value(
    block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path / "log.csv", [row(), row(id="t2")])
    file.write_bytes(file.read_bytes().replace(b"\nt2", b"\n\xef\xbb\xbft2"))
    monkeypatch.setattr(readers, "BLOCK_BYTES", block)
    assert ingest(file, mapping(), None).transactions["transaction_id"].to_pylist()[1] == "\ufefft2"


def test_quoted_commas_and_quotes_are_part_of_the_value(tmp_path: Path) -> None:
    names = ['Rack, Lock & "Sons"', "plain", ""]
    file = write(tmp_path / "log.csv", [row(id=f"t{at}", shop=name) for at, name in enumerate(names)])
    result = ingest(file, mapping(), None)
    assert result.transactions["merchant_id"].to_pylist() == names[:2]
    assert result.dead_letters["reason"].to_pylist() == ["missing_merchant_id"]


def test_a_log_without_its_header_does_not_show_card_numbers_in_the_error(tmp_path: Path) -> None:
    number = "4556-7375 86899855"
    (tmp_path / "log.csv").write_text(",".join(row(card=number).values()) + "\n")
    with pytest.raises(LogColumnsError) as error:
        ingest(tmp_path / "log.csv", mapping(card_id_is="number"), KEY)
    assert "86899855" not in str(error.value) and "4556" not in str(error.value)


def test_trailing_garbage_behind_gzip_is_an_error(tmp_path: Path) -> None:
    file = write(tmp_path / "log.csv.gz", [row()])
    file.write_bytes(file.read_bytes() + gzip.compress(b"")[:7])
    with pytest.raises(LogError, match="not gzip"):
        ingest(file, mapping(), None)
