"""Every reason for which a row is refused, in every format that can hold such a row."""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from components.ingest import ingest
from tests.components.ingest.logs import KEY, mapping, row, write

# The reason, the fault, and whether the message must show the value at fault.
FAULTS: list[tuple[str, dict[str, Any], str]] = [
    ("missing_transaction_id", {"id": ""}, "'id' (transaction_id) has no value"),
    ("missing_transaction_id", {"id": None}, "has no value"),
    ("missing_event_time", {"at": None}, "'at' (event_time) has no value"),
    ("missing_card_id", {"card": ""}, "'card' (card_id) has no value"),
    ("missing_merchant_id", {"shop": None}, "'shop' (merchant_id) has no value"),
    ("missing_amount", {"paid": ""}, "'paid' (amount) has no value"),
    ("missing_currency", {"cur": ""}, "'cur' (currency) has no value"),
    ("bad_type_amount", {"paid": "12,34"}, '"12,34", not a number'),
    ("bad_type_amount", {"paid": "nan"}, '"nan", not a number'),
    ("bad_time", {"at": "2023-02-29T12:00:00Z"}, '"2023-02-29T12:00:00Z", not a time from 1970 to 2100'),
    ("bad_time", {"at": "1969-12-31T23:59:59Z"}, "1969"),
    ("bad_time", {"at": "2101-01-01T00:00:00Z"}, "2101"),
    ("bad_time", {"at": "soon"}, "ISO 8601"),
    ("negative_amount", {"paid": "-0.01"}, '"-0.01", not an amount of 0 or more'),
    ("absurd_amount", {"paid": "100000.01"}, 'amount "100000.01" of EUR'),
    ("absurd_amount", {"paid": "1e99"}, "above the limit of 100,000 EUR"),
    ("unknown_currency", {"cur": "EURO"}, '"EURO", not an ISO 4217 code'),
    ("no_rate", {"cur": "CHF"}, "of CHF at"),
    ("no_rate", {"cur": "USD", "at": "2023-12-31T23:59:59Z"}, "has no rate into EUR; add one"),
    ("bad_place", {"lat": "90.01"}, "90.01"),
    ("bad_place", {"lon": "-180.01"}, "-180.01"),
    ("bad_type_latitude", {"lat": "north"}, '"north", not a number'),
    ("bad_type_longitude", {"lon": "11,6"}, '"11,6", not a number'),
    ("bad_label", {"fraud": "2"}, '"2", not a label'),
    ("bad_label", {"fraud": "maybe"}, "maybe"),
    ("bad_label_time", {"known": "2024-03-01T11:59:59Z"}, "not before the event_time"),
    ("bad_label_time", {"known": "2024-02-30"}, "2024-02-30"),
]


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize(("reason", "fault", "said"), FAULTS)
def test_a_bad_row_dies_with_its_reason_position_and_content(
    ending: str, reason: str, fault: dict[str, Any], said: str, tmp_path: Path
) -> None:
    rows = [row(id="t1"), row(id="t2") | fault, row(id="t3")]
    result = ingest(write(tmp_path / f"log.{ending}", rows), mapping(), None)
    (letter,) = result.dead_letters.to_pylist()
    assert (letter["file"], letter["reason"]) == (f"log.{ending}", reason)
    assert letter["position"] == (3 if ending == "csv" else 2)
    assert said in letter["message"]
    for value in fault.values():
        assert not value or value in letter["raw"]
    assert result.transactions["transaction_id"].to_pylist() == ["t1", "t3"]


@pytest.mark.parametrize(
    ("reason", "fault"),
    [
        ("bad_type_transaction_id", {"id": True}),
        ("bad_type_transaction_id", {"id": 1.5}),
        ("bad_type_card_id", {"card": {"number": 1}}),
        ("bad_type_merchant_id", {"shop": ["m1"]}),
        ("bad_type_event_time", {"at": 1_709_294_400}),
        ("bad_type_amount", {"paid": True}),
        ("bad_type_amount", {"paid": [1]}),
        ("bad_type_currency", {"cur": {}}),
        ("bad_label", {"fraud": 0.5}),
        ("bad_type_label_time", {"known": 1_709_294_400}),
        ("bad_type_latitude", {"lat": False}),
    ],
)
def test_a_wrong_json_type_dies_alone_or_among_its_like(reason: str, fault: dict[str, Any], tmp_path: Path) -> None:
    alone = ingest(write(tmp_path / "alone.jsonl", [row() | fault]), mapping(), None)
    among = ingest(write(tmp_path / "among.jsonl", [row(), row(id="t2") | fault]), mapping(), None)
    assert alone.dead_letters["reason"].to_pylist() == among.dead_letters["reason"].to_pylist() == [reason]
    assert among.transactions["transaction_id"].to_pylist() == ["t1"]


def test_amounts_of_parquet_that_are_not_finite_die(tmp_path: Path) -> None:
    rows = [row(id=str(paid), paid=paid) for paid in (1.0, float("inf"), float("nan"), None)]
    result = ingest(write(tmp_path / "log.parquet", rows), mapping(), None)
    assert result.dead_letters["reason"].to_pylist() == ["non_finite_amount", "non_finite_amount", "missing_amount"]
    assert '"paid":"inf"' in result.dead_letters["raw"][0].as_py()


def test_the_first_fault_found_is_the_reason(tmp_path: Path) -> None:
    bad = row(id="", at="", card="", paid="-1", fraud="x")
    result = ingest(write(tmp_path / "log.csv", [bad]), mapping(), None)
    assert result.report.reasons == {"missing_transaction_id": 1}


def test_a_good_row_becomes_canonical_columns_in_order(tmp_path: Path) -> None:
    result = ingest(write(tmp_path / "log.csv", [row(cur="JPY", paid="1000", fraud="1")]), mapping(), None)
    (found,) = result.transactions.to_pylist()
    assert found == {
        "transaction_id": "t1",
        "event_time": datetime(2024, 3, 1, 12, tzinfo=UTC),
        "card_id": "c1",
        "merchant_id": "m1",
        "amount_minor": 1000,
        "amount_base_minor": 640,
        "currency": "JPY",
        "latitude": 48.1,
        "longitude": 11.6,
        "is_fraud": True,
        "label_time": datetime(2024, 3, 4, 12, tzinfo=UTC),
    }
    assert list(found) == result.transactions.column_names


def test_zero_is_an_amount_and_poles_are_places(tmp_path: Path) -> None:
    result = ingest(write(tmp_path / "log.csv", [row(paid="0", lat="-90", lon="180")]), mapping(), None)
    assert result.report.good == 1
    assert result.transactions["amount_base_minor"].to_pylist() == [0]


def test_optional_values_may_be_missing(tmp_path: Path) -> None:
    for ending in ("csv", "jsonl", "parquet"):
        rows = [row(id="t1", lat=None, lon=None, fraud=None), row(id="t2", lat=None, lon="1", known=None)]
        result = ingest(write(tmp_path / f"log.{ending}", rows), mapping(), None)
        assert result.transactions.select(["latitude", "longitude", "is_fraud", "label_time"]).to_pylist() == [
            {"latitude": None, "longitude": None, "is_fraud": None, "label_time": None},
            {"latitude": None, "longitude": 1.0, "is_fraud": False, "label_time": datetime(2024, 3, 6, 12, tzinfo=UTC)},
        ]


def test_without_label_times_labels_come_after_the_delay_of_the_mapping(tmp_path: Path) -> None:
    file = write(tmp_path / "log.csv", [row(id="t1"), row(id="t2", fraud="")])
    result = ingest(file, mapping(without=("label_time",), label_delay="90s"), None)
    assert result.transactions["label_time"].to_pylist() == [datetime(2024, 3, 1, 12, 1, 30, tzinfo=UTC), None]
    assert result.report.unread_columns == ("known",)


def test_without_labels_there_are_no_label_columns(tmp_path: Path) -> None:
    file = write(tmp_path / "log.csv", [row()])
    result = ingest(file, mapping(without=("label_time", "is_fraud", "latitude", "longitude")), None)
    assert result.transactions.column_names == [
        "transaction_id", "event_time", "card_id", "merchant_id", "amount_minor", "amount_base_minor", "currency",
    ]  # fmt: skip


def test_constants_fill_their_columns(tmp_path: Path) -> None:
    file = write(tmp_path / "log.csv", [row(), row(id="t2")])
    settings = mapping(without=("currency",), constants={"currency": "USD", "country": "US"})
    result = ingest(file, settings, None)
    assert (
        result.transactions.select(["currency", "country", "amount_base_minor"]).to_pylist()
        == [{"currency": "USD", "country": "US", "amount_base_minor": 1123}] * 2
    )


def test_local_times_are_in_the_time_zone_of_the_mapping(tmp_path: Path) -> None:
    file = write(tmp_path / "log.csv", [row(at="2024-07-01 02:00:00", known="2024-07-02")])
    result = ingest(file, mapping(time_zone="Asia/Shanghai"), None)
    assert result.transactions["event_time"].to_pylist() == [datetime(2024, 6, 30, 18, tzinfo=UTC)]
    assert result.transactions["label_time"].to_pylist() == [datetime(2024, 7, 1, 16, tzinfo=UTC)]


def test_a_card_number_must_look_like_one(tmp_path: Path) -> None:
    cards = ["4556737586899855", "4556 7375-8689 9855", "12345678", "1234567", "m1", "45567375868998551234"]
    file = write(tmp_path / "log.csv", [row(id=f"t{at}", card=card) for at, card in enumerate(cards)])
    result = ingest(file, mapping(card_id_is="number"), KEY)
    tokens = result.transactions["card_id"].to_pylist()
    assert len(tokens) == 3 and tokens[0] == tokens[1] != tokens[2]
    assert all(token.startswith("k1_") for token in tokens)
    assert result.report.reasons == {"bad_type_card_id": 3}


def test_dates_as_json_text_of_parquet_are_legible(tmp_path: Path) -> None:
    rows = [row(at=datetime(2024, 3, 1, 12), known=date(2024, 2, 1))]
    result = ingest(write(tmp_path / "log.parquet", rows), mapping(), None)
    assert '"known":"2024-02-01"' in result.dead_letters["raw"][0].as_py()
    assert '"at":"2024-03-01 12:00:00.000000"' in result.dead_letters["raw"][0].as_py()
