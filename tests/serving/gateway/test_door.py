"""The door for calls lets in what the door for files lets in, and makes the same of it."""

from __future__ import annotations

import logging
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.ingest import ingest
from schemas import scoring_pb2, sources
from schemas.errors import ConfigurationError, RefusedTransaction
from schemas.sources import SourceMapping
from schemas.tokens import CardKey, card_token
from schemas.transaction import END_US, SECOND_US
from serving.gateway.door import MAX_TEXT, Door
from tests.components.ingest.logs import KEY, mapping, row, write

MARCH = int(datetime(2024, 3, 1, 12, tzinfo=UTC).timestamp()) * SECOND_US
NOW = MARCH + 60 * SECOND_US
LATE = END_US + SECOND_US
CARD = "4556 7375-8689 9855"
TEXTS = ["transaction_id", "card_id", "merchant_id", "merchant_category", "channel", "device_id", "ip", "city"]
TRANSACTION: dict[str, Any] = {
    "transaction_id": "t1",
    "event_time": MARCH,
    "card_id": "c1",
    "merchant_id": "m1",
    "amount_minor": 1234,
    "currency": "EUR",
}


def source(number: bool = False, **changes: Any) -> SourceMapping:
    """The mapping of a log whose columns are those of the scoring API, in minor units."""
    names = ["event_time", "currency", "latitude", "longitude", "country", *TEXTS]
    columns = {name: name for name in names} | {"amount": "amount_minor"}
    settings = {"columns": columns, "amount_unit": "minor", "card_id_is": "number" if number else "token"}
    return mapping(**settings | changes)


def message(**changes: Any) -> scoring_pb2.Transaction:
    """A good transaction with some fields changed; None takes a field away."""
    fields: dict[str, Any] = TRANSACTION | changes
    return scoring_pb2.Transaction(**{name: value for name, value in fields.items() if value is not None})


def admit(
    transaction: scoring_pb2.Transaction, of: SourceMapping | None = None, now_us: int = NOW, key: CardKey = KEY
) -> dict[str, Any]:
    return Door(of or source(), key).admit(transaction, now_us)


def refused(of: SourceMapping | None = None, **changes: Any) -> RefusedTransaction:
    with pytest.raises(RefusedTransaction) as raised:
        admit(message(**changes), of)
    return raised.value


def test_a_good_transaction_becomes_canonical_columns() -> None:
    place = {"latitude": 48.1, "longitude": -180.0, "city": "Köln", "country": "DE"}
    found = admit(message(currency="JPY", amount_minor=1000, **place))
    assert found == TRANSACTION | {"currency": "JPY", "amount_minor": 1000, "amount_base_minor": 640, **place}


def test_what_is_missing_is_absent() -> None:
    found = admit(message(city="", latitude=float("nan"), device_id=None))
    assert found == TRANSACTION | {"amount_base_minor": 1234}


def test_what_the_source_does_not_have_is_left_aside() -> None:
    handbook = sources.load("handbook")
    assert admit(message(device_id="d" * 10_000, latitude=99.0), handbook) == TRANSACTION | {"amount_base_minor": 1234}


def test_constants_of_the_source_fill_in_and_may_not_be_contradicted() -> None:
    handbook = sources.load("handbook")
    assert admit(message(currency=None), handbook)["currency"] == "EUR"
    refusal = refused(handbook, currency="USD")
    assert refusal.field == "currency"
    assert "'USD' is not 'EUR'" in str(refusal)


@pytest.mark.parametrize(
    ("changes", "field", "said"),
    [
        ({"transaction_id": None}, "transaction_id", "has no value"),
        ({"transaction_id": ""}, "transaction_id", "has no value"),
        ({"event_time": None}, "event_time", "has no value"),
        ({"card_id": ""}, "card_id", "has no value"),
        ({"merchant_id": None}, "merchant_id", "has no value"),
        ({"amount_minor": None}, "amount_minor", "has no value"),
        ({"currency": None}, "currency", "has no value"),
        ({"event_time": -1}, "event_time", "-1 is not of the years 1970 to 2100"),
        ({"event_time": LATE}, "event_time", "1970 to 2100"),
        ({"amount_minor": -1}, "amount_minor", "-1 is negative"),
        ({"amount_minor": 10_000_001}, "amount_minor", "10000001 of EUR is above the limit of 100,000 EUR"),
        ({"amount_minor": 2**63 - 1}, "amount_minor", "above the limit"),
        ({"currency": "EURO"}, "currency", "'EURO' is not an ISO 4217 code"),
        ({"currency": "CHF"}, "currency", "CHF has no rate into EUR at 2024-03-01T12:00:00Z"),
        ({"currency": "USD", "event_time": 0}, "currency", "no rate into EUR at 1970-01-01T00:00:00Z"),
        ({"latitude": 90.01}, "latitude", "90.01 is no place"),
        ({"longitude": float("-inf")}, "longitude", "-inf is no place"),
        ({"city": "x" * (MAX_TEXT + 1)}, "city", "257 characters"),
        ({"city": "Paris\n"}, "city", "U+000A at position 6"),
        ({"merchant_id": "\x00"}, "merchant_id", "U+0000"),
    ],
)
def test_a_refusal_names_the_field_and_the_value(changes: dict[str, Any], field: str, said: str) -> None:
    refusal = refused(**changes)
    assert refusal.field == field
    assert str(refusal).startswith(field)
    assert said in str(refusal)


def test_text_of_any_language_up_to_the_limit_comes_in() -> None:
    city = ("می\N{ZERO WIDTH NON-JOINER}خواهم\N{NO-BREAK SPACE}東京" * MAX_TEXT)[:MAX_TEXT]
    assert admit(message(city=city))["city"] == city


def test_a_clock_that_runs_fast_is_borne_with_and_one_far_ahead_is_not() -> None:
    door = Door(source(), None, max_ahead_s=300)
    ahead = message(event_time=NOW + 300 * SECOND_US)
    assert door.admit(ahead, NOW)["event_time"] == NOW + 300 * SECOND_US
    with pytest.raises(RefusedTransaction, match="has not come yet") as raised:
        door.admit(ahead, NOW - 1)
    assert "2024-03-01T12:06:00Z" in str(raised.value)
    assert "clock says 2024-03-01T12:00:59Z" in str(raised.value)


def test_a_base_amount_is_taken_only_if_it_is_what_the_rates_make() -> None:
    assert admit(message(currency="USD", amount_minor=1000, amount_base_minor=910))["amount_base_minor"] == 910
    refusal = refused(currency="USD", amount_minor=1000, amount_base_minor=930)
    assert refusal.field == "amount_base_minor"
    assert "930 is not 910" in str(refusal)


def test_card_numbers_become_the_tokens_that_ingest_makes() -> None:
    found = admit(message(card_id=CARD), source(number=True))
    assert found["card_id"] == card_token("4556737586899855", KEY)
    assert refused(source(number=True), card_id="c1").field == "card_id"


def test_a_door_for_card_numbers_needs_a_key() -> None:
    with pytest.raises(ConfigurationError, match="shop"):
        Door(source(number=True), None)
    assert Door(source(), None).admit(message(), NOW)["card_id"] == "c1"


@pytest.mark.parametrize("field", [name for name in TEXTS if name != "card_id"] + ["currency", "country"])
@pytest.mark.parametrize("fault", ["{}", "{}\n", "{} and more than may be" + "!" * MAX_TEXT])
def test_a_card_number_is_never_shown_whatever_field_it_stands_in(
    field: str, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    try:
        admit(message(**{field: fault.format(CARD)}), source(constants={"country": "DE"}, columns=_without("country")))
    except RefusedTransaction as refusal:
        shown = f"{refusal} {refusal!r} {refusal.__dict__} {caplog.text}"
        assert "8689" not in shown


@pytest.mark.parametrize("field", ["event_time", "amount_minor", "amount_base_minor", "card_id"])
@pytest.mark.parametrize("number", ["4556737586899855", "-4556737586899855", "6011000990139424", "30569309025904"])
def test_nor_is_one_that_stands_where_a_number_is_expected(field: str, number: str) -> None:
    value: Any = f"card {number}" if field == "card_id" else int(number)
    limits = {"amount_limit": 1e11}
    with pytest.raises(RefusedTransaction) as raised:
        Door(source(number=field == "card_id", **limits), KEY).admit(message(**{field: value}), 0)
    shown = "".join(letter for letter in f"{raised.value} {raised.value!r}" if letter.isdigit())
    assert number.lstrip("-") not in shown
    door = Door(source(number=True), KEY)
    assert KEY.secret.decode() not in repr(door) + repr(vars(door))


def _without(name: str) -> dict[str, str]:
    return {field: column for field, column in source().columns.items() if field != name}


# Faults and what is nearly one, out of which odd transactions are made.
CARDS = [None, "", "c1", CARD, "1234567", "12345678", " 1234-5678 ", "1" * 19, "1" * 20, "१२३४५६७८९"]
AMOUNTS = [0, 9_999_999, 10_000_000, 10_000_001, 15_625_000, 15_625_001, 2**53 - 1, 2**53]
WORDS = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=20)
ODD: dict[str, st.SearchStrategy[Any]] = {
    "event_time": st.none() | st.integers(-1, END_US + 10) | st.sampled_from([0, END_US - 1, END_US, MARCH]),
    "amount_minor": st.none()
    | st.integers(-2, 2 * 10**7)
    | st.integers(-(2**63), 2**63 - 1)
    | st.sampled_from(AMOUNTS),
    "currency": st.sampled_from([None, "", "EUR", "eur", "JPY", "KWD", "USD", "CHF", "EURO"]),
    "latitude": st.none() | st.floats(-91, 91) | st.sampled_from([90.0, -90.0, 90.00000000000001]),
    "longitude": st.none() | st.floats(-181, 181) | st.just(180.0),
    "card_id": st.sampled_from(CARDS),
    **{name: st.none() | st.just("") | WORDS for name in ("merchant_id", "device_id", "city", "country")},
}
# Of which fields ingest's reasons speak, where they do not end in the name of one.
FIELDS = {
    "bad_time": {"event_time"},
    "missing_amount": {"amount_minor"},
    "negative_amount": {"amount_minor"},
    "absurd_amount": {"amount_minor"},
    "no_rate": {"currency"},
    "bad_place": {"latitude", "longitude"},
}


def check_alike(changes: list[dict[str, Any]], of: SourceMapping) -> list[bool]:
    """Sends transactions, good but for some changes, through both doors; says which came in."""
    good = TRANSACTION | ({"card_id": CARD} if of.card_id_is == "number" else {})
    transactions = [good | changed | {"transaction_id": f"t{line}"} for line, changed in enumerate(changes, 1)]
    with tempfile.TemporaryDirectory() as folder:
        result = ingest(write(Path(folder) / "log.jsonl", [_as_logged(fields) for fields in transactions]), of, KEY)
    reasons = {letter["position"]: letter["reason"] for letter in result.dead_letters.to_pylist()}
    let_in = {found["transaction_id"]: found for found in result.transactions.to_pylist()}
    door = Door(of, KEY)
    for line, fields in enumerate(transactions, 1):
        try:
            admitted = door.admit(message(**fields), END_US)
        except RefusedTransaction as refusal:
            reason = reasons[line]
            named = {refusal.field} if reason.endswith(refusal.field) else set()
            assert refusal.field in FIELDS.get(reason, named)
        else:
            found = let_in[fields["transaction_id"]]
            found["event_time"] = _micros(found["event_time"])
            assert admitted == {name: value for name, value in found.items() if value is not None}
    return [line not in reasons for line in range(1, len(transactions) + 1)]


@settings(max_examples=50)
@given(st.lists(st.fixed_dictionaries({}, optional=ODD), min_size=1, max_size=8), st.booleans())
def test_both_doors_judge_alike_and_make_the_same_of_what_they_let_in(odd: list[dict[str, Any]], number: bool) -> None:
    check_alike(odd, source(number))


YEN = {"currency": "JPY"}
EDGES: list[tuple[SourceMapping, dict[str, Any], str, list[Any], list[Any]]] = [
    (source(), {}, "amount_minor", [0, 10_000_000], [-1, 10_000_001, 2**53]),
    (source(), YEN, "amount_minor", [15_625_000], [15_625_001]),
    (source(amount_limit=1e11, rates={"JPY": {"2024-01-01": 1e-6}}), YEN, "amount_minor", [2**53 - 1], [2**53]),
    (source(), {}, "event_time", [0, END_US - 1], [-1, END_US]),
    (source(), {}, "latitude", [-90.0, 90.0], [-90.00000000000001, 90.00000000000001]),
    (source(), {}, "longitude", [-180.0, 180.0], [-180.00000000000003, 180.00000000000003]),
    (source(), {}, "currency", ["USD", "KWD"], [None, "", "CHF", "usd"]),
    (source(number=True), {}, "card_id", ["12345678", " 1234-5678 ", "1" * 19], ["1234567", "1" * 20, "१२३४५६७८९"]),
]


@pytest.mark.parametrize(("of", "fixed", "field", "inside", "outside"), EDGES)
def test_both_doors_have_the_same_edges(
    of: SourceMapping, fixed: dict[str, Any], field: str, inside: list[Any], outside: list[Any]
) -> None:
    came_in = check_alike([fixed | {field: value} for value in inside + outside], of)
    assert came_in == [True] * len(inside) + [False] * len(outside)


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_a_log_in_major_units_comes_to_the_same(ending: str, tmp_path: Path) -> None:
    written = row(cur="USD", paid="12.34", lat="", fraud="")
    (found,) = ingest(write(tmp_path / f"log.{ending}", [written]), mapping(), None).transactions.to_pylist()
    admitted = admit(message(currency="USD", longitude=11.6), mapping())
    found["event_time"] = _micros(found["event_time"])
    assert admitted == {name: value for name, value in found.items() if value is not None}


def _as_logged(fields: dict[str, Any]) -> dict[str, Any]:
    """The row of a log that says the same; every column is there, as a log must have it."""
    time_us = fields["event_time"]
    if time_us is not None and time_us >= 0:
        at: Any = datetime.fromtimestamp(time_us // SECOND_US, UTC).replace(microsecond=time_us % SECOND_US).isoformat()
    else:
        at = None if time_us is None else "1969-12-31T23:59:59.999999Z"
    return {**dict.fromkeys(source().columns.values()), **fields, "event_time": at}


def _micros(time: datetime) -> int:
    return int(time.timestamp()) * SECOND_US + time.microsecond
