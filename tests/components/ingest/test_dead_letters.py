import re
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.ingest import ingest
from schemas.masking import mask
from schemas.tokens import card_token
from tests.components.ingest.logs import KEY, mapping, row, write

NUMBER = "4556737586899855"
FORMS: list[Any] = [NUMBER, "4556 7375 8689 9855", "4556-7375-8689-9855", int(NUMBER), float(NUMBER)]


def shows_the_number(text: str) -> bool:
    return "455673" in re.sub(r"[^0-9a-zA-Z]", "", text) or "899855" in re.sub(r"[^0-9a-zA-Z]", "", text)


@pytest.mark.parametrize("card", FORMS)
@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_no_output_holds_a_card_number(card: Any, ending: str, tmp_path: Path) -> None:
    rows = [
        row(id="t1", card=card),
        row(id="t1", card=card),  # a duplicate
        row(id="t2", card=card, paid="-1"),
        row(id=str(card), card=card, shop=""),  # the number also where it does not belong
        row(id="t3", card=card, cur=str(card)),
        row(id="t4", card=card, at=str(card)),
        row(id="t5", card=card, paid=str(card)),
        row(id="t6", card="m1", shop=str(card)),
    ]
    # A Parquet column has one type.
    file = write(tmp_path / f"log.{ending}", rows[: len(rows) if isinstance(card, str) or ending != "parquet" else -1])
    if ending == "csv":
        with file.open("a") as stream:
            stream.write(f"t7,{card}\n")
    if ending == "jsonl":
        with file.open("a") as stream:
            stream.write(f'{{"card": "{card}"\n{{"id": "t8", "card": {{"pan": ["{card}"]}}}}\n')
    result = ingest(file, mapping(card_id_is="number"), KEY)
    # As text, a number with a fraction is none.
    if not (ending == "csv" and isinstance(card, float)):
        assert result.report.good == 1 and result.report.dead >= 5 and result.report.duplicate == 1
    assert not shows_the_number(str(result.transactions.to_pylist()))
    for letter in result.dead_letters.to_pylist():
        assert not shows_the_number(letter["raw"]), letter
        assert not shows_the_number(letter["message"]), letter
    assert not shows_the_number(result.report.to_json())


def test_a_dead_letter_carries_the_token_under_which_the_card_is_known(tmp_path: Path) -> None:
    file = write(tmp_path / "log.csv", [row(id="t1", card=NUMBER), row(id="t2", card=NUMBER, paid="")])
    result = ingest(file, mapping(card_id_is="number"), KEY)
    assert orjson.loads(result.dead_letters["raw"][0].as_py())["card"] == card_token(NUMBER, KEY)
    assert result.transactions["card_id"].to_pylist() == [card_token(NUMBER, KEY)]


def test_a_source_of_tokens_keeps_its_rows_as_they_are(tmp_path: Path) -> None:
    file = write(tmp_path / "log.csv", [row(card="17", paid="x", note="not read")])
    with file.open("a") as stream:
        stream.write("t2,4711\n")
    result = ingest(file, mapping(), KEY)
    first, second = (orjson.loads(raw) for raw in result.dead_letters["raw"].to_pylist())
    assert first == row(card="17", paid="x")
    assert second == "t2,4711"


def test_a_malformed_line_says_what_is_wrong_with_it(tmp_path: Path) -> None:
    file = write(tmp_path / "log.csv", [row()])
    with file.open("ab") as stream:
        stream.write(b'a,b\n"\n\xff\n')
    messages = ingest(file, mapping(), None).dead_letters["message"].to_pylist()
    assert messages[0] == "the line has 2 fields where the header has 10"
    assert "stray quote" in messages[1]
    assert messages[2] == "the line is not UTF-8 text"


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("card 4556737586899855.", "card ################."),
        ("4556-7375 86899855", "####-#### ########"),
        ("604162071854", "############"),
        ("2024-03-01 12:00:00.123456", "2024-03-01 12:00:00.123456"),
        ("t1234567890", "t1234567890"),
    ],
)
def test_masking_hides_numbers_of_cards_and_leaves_times_legible(text: str, masked: str) -> None:
    assert mask(text) == masked


def test_values_that_json_cannot_hold_are_written_as_text(tmp_path: Path) -> None:
    table = pa.Table.from_pylist([row()])
    table = table.set_column(table.column_names.index("paid"), "paid", pa.array([b"\x00\xff"]))
    table = table.set_column(table.column_names.index("shop"), "shop", pa.array([["m1"]]))
    table = table.set_column(table.column_names.index("at"), "at", pa.array([2**62], pa.timestamp("ms")))
    pq.write_table(table, tmp_path / "log.parquet")
    result = ingest(tmp_path / "log.parquet", mapping(), None)
    assert result.report.reasons == {"bad_time": 1}
    assert orjson.loads(result.dead_letters["raw"][0].as_py())["shop"] == "<list<element: string>>"
