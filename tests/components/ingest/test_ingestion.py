from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.ingest import ingest, ingestion
from schemas.errors import ConfigurationError
from schemas.sources import load
from schemas.tokens import CardKey
from tests.components.ingest.logs import KEY, mapping, row, write


def ids(path: Path) -> list[str]:
    return ingest(path, mapping(), None).transactions["transaction_id"].to_pylist()


def small_log() -> list[dict[str, Any]]:
    return [
        row(id="t3", at="2024-03-01T12:00:00Z", paid="0.015", fraud="true"),
        row(id="t1", at="2024-03-01T12:00:00Z", cur="KWD", paid="1.234"),
        row(id="t2", at="2024-03-01 14:00:00+02:00", cur="JPY", paid="1000", fraud=None),
        row(id="t5", at="2024-02-01", lat=None, lon=None, known=None),
        row(id="t4", at="bad"),
        row(id="t1", paid="99"),
    ]


def test_the_formats_give_identical_tables(tmp_path: Path) -> None:
    results = [
        ingest(write(tmp_path / f"log.{ending}", small_log()), mapping(), None)
        for ending in ("parquet", "csv", "csv.gz", "jsonl", "ndjson.gz")
    ]
    first = results[0]
    assert first.transactions["transaction_id"].to_pylist() == ["t5", "t1", "t2", "t3"]
    for result in results[1:]:
        assert result.transactions.equals(first.transactions)
        assert result.dead_letters.select(["reason", "raw"]).equals(first.dead_letters.select(["reason", "raw"]))
        assert result.report.reasons == first.report.reasons


def test_native_types_give_the_same_transactions_as_text(tmp_path: Path) -> None:
    text = ingest(write(tmp_path / "log.csv", small_log()[:4]), mapping(), None).transactions
    table = pa.Table.from_pylist(small_log()[:4])
    times = ["2024-03-01T12:00:00Z", "2024-03-01T12:00:00Z", "2024-03-01T12:00:00Z", "2024-02-01T00:00:00Z"]
    native = {
        "at": pa.array(times).cast(pa.timestamp("ns", "UTC")),
        "paid": table["paid"].cast(pa.float64()),
        "lat": table["lat"].cast(pa.float64()),
        "lon": table["lon"].cast(pa.float64()),
        "fraud": pa.array([1, 0, None, 0], pa.int8()),
        "card": table["card"].dictionary_encode(),
    }
    for name, column in native.items():
        table = table.set_column(table.column_names.index(name), name, column)
    pq.write_table(table, tmp_path / "log.parquet")
    assert ingest(tmp_path / "log.parquet", mapping(), None).transactions.equals(text)


def test_transactions_are_sorted_by_time_and_then_by_id_as_bytes(tmp_path: Path) -> None:
    later = [row(id=identifier, at="2024-03-02") for identifier in ("b", "B", "é", "a", "ab", "z", "10", "9")]
    earlier = [row(id="zz", at="2024-03-01")]
    assert ids(write(tmp_path / "log.csv", later + earlier)) == ["zz", "10", "9", "B", "a", "ab", "b", "z", "é"]


def test_the_order_of_rows_and_their_spread_over_files_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [row(id=f"t{number:03}", at=f"2024-03-{1 + number * 7 % 28:02}") for number in range(100)]
    whole = ingest(write(tmp_path / "log.parquet", rows), mapping(), None).transactions
    write(tmp_path / "parts" / "b" / "2.csv", rows[50:][::-1])
    write(tmp_path / "parts" / "a.jsonl", rows[20:50])
    write(tmp_path / "parts" / "c.parquet", rows[:20])
    monkeypatch.setattr(ingestion, "_OUTPUT_ROWS", 7)
    parts = ingest(tmp_path / "parts", mapping(), None)
    assert parts.transactions.equals(whole)
    assert parts.report.files == ("a.jsonl", "b/2.csv", "c.parquet")


def test_of_rows_with_one_id_the_first_by_file_and_position_survives(tmp_path: Path) -> None:
    write(tmp_path / "b.csv", [row(id="x", paid="3"), row(id="y", paid="4"), row(id="y", paid="5")])
    write(tmp_path / "a.jsonl", [row(id="x", paid="1", at="2024-03-02"), row(id="x", paid="2")])
    result = ingest(tmp_path, mapping(), None)
    assert result.transactions.select(["transaction_id", "amount_minor"]).to_pylist() == [
        {"transaction_id": "y", "amount_minor": 400},
        {"transaction_id": "x", "amount_minor": 100},
    ]
    letters = result.dead_letters.to_pylist()
    assert [(letter["file"], letter["position"], letter["reason"]) for letter in letters] == [
        ("a.jsonl", 2, "duplicate"),
        ("b.csv", 2, "duplicate"),
        ("b.csv", 4, "duplicate"),
    ]
    assert ["a.jsonl, position 1" in letter["message"] for letter in letters] == [True, True, False]
    assert '"paid":"3"' in letters[1]["raw"] and '"paid":"5"' in letters[2]["raw"]
    report = result.report
    assert (report.read, report.good, report.dead, report.duplicate, report.reasons) == (5, 2, 0, 3, {"duplicate": 3})


def test_a_bad_row_takes_no_id_from_a_good_one(tmp_path: Path) -> None:
    file = write(tmp_path / "log.csv", [row(id="x", paid="-1"), row(id="x", paid="2")])
    report = ingest(file, mapping(), None).report
    assert (report.good, report.dead, report.duplicate) == (1, 1, 0)


def test_a_log_of_card_numbers_needs_a_key(tmp_path: Path) -> None:
    file = write(tmp_path / "log.csv", [row(card="4556737586899855")])
    with pytest.raises(ConfigurationError, match="give the card key"):
        ingest(file, mapping(card_id_is="number"), None)
    first = ingest(file, mapping(card_id_is="number"), KEY).transactions["card_id"]
    other = ingest(file, mapping(card_id_is="number"), CardKey(2, KEY.secret)).transactions["card_id"]
    assert first.to_pylist()[0].startswith("k1_") and other.to_pylist()[0].startswith("k2_")


def test_a_log_without_a_good_row_has_no_first_event(tmp_path: Path) -> None:
    result = ingest(write(tmp_path / "log.csv", [row(paid="x")] * 3), mapping(), None)
    assert (result.report.read, result.report.dead, result.report.first_event) == (3, 3, None)
    assert len(result.transactions) == 0
    assert "amount_base_minor" in result.transactions.column_names


_JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**40), 2**40), st.floats(), st.text(max_size=8),
    st.sampled_from(["t1", "-5", "1e9", "2024-02-30", '"', "a,b", "\n", "\r", ",", "USD", "CHF", "true", "", "\x00"]),
)  # fmt: skip
_CORRUPT = st.lists(st.dictionaries(st.sampled_from(list(row())), _JUNK, max_size=3), min_size=1, max_size=12)


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
@given(changes=_CORRUPT, data=st.data())
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_corruption_of_rows_loses_a_row(
    ending: str, changes: list[dict[str, Any]], data: st.DataObject, tmp_path: Path
) -> None:
    rows = [row(id=f"t{at}") | change for at, change in enumerate(changes)]
    file = tmp_path / f"log.{ending}"
    if ending == "parquet":
        write(file, [{name: None if value is None else str(value) for name, value in row.items()} for row in rows])
        lines = len(rows)
    else:
        write(file, [row(id="good"), *rows])
        body = bytearray(file.read_bytes())
        start = body.index(b"\n", body.index(b"good")) + 1
        for at in data.draw(st.lists(st.integers(start, len(body) - 1), max_size=4)):
            body[at] = data.draw(st.sampled_from(b'",\n\r{}x7\xff'))
        file.write_bytes(body)
        content = body.split(b"\n")[(1 if ending == "csv" else 0) :]
        blank = (b"", b"\r") if ending == "csv" else (b"", b"\r", b" ")
        lines = sum(line not in blank for line in content)
        if b"\x00" in body:
            return
    result = ingest(file, mapping(), None)
    report = result.report
    assert report.read == lines
    assert report.read == report.good + report.dead + report.duplicate
    assert len(result.transactions) == report.good
    assert len(result.dead_letters) == report.dead + report.duplicate
    assert report.reasons == dict(Counter(result.dead_letters["reason"].to_pylist()))
    places = list(
        zip(result.dead_letters["file"].to_pylist(), result.dead_letters["position"].to_pylist(), strict=True)
    )
    assert places == sorted(set(places))
    assert pc.count_distinct(result.transactions["transaction_id"]).as_py() == report.good


@pytest.mark.slow
def test_the_handbook_log_is_good_from_the_first_row_to_the_last(handbook_log: Path) -> None:
    report = ingest(handbook_log, load("handbook"), None).report
    assert (report.read, report.good, report.unread_columns) == (1_754_155, 1_754_155, ())


@pytest.mark.slow
def test_the_sparkov_log_is_good_and_shows_no_card_number(sparkov_log: Path) -> None:
    result = ingest(sparkov_log, load("sparkov"), KEY)
    assert (result.report.read, result.report.good) == (1_843_906, 1_843_906)
    assert pc.all(pc.starts_with(result.transactions["card_id"], "k1_")).as_py()
    assert pc.count_distinct(result.transactions["card_id"]).as_py() == 999
