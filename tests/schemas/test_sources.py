from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from schemas.errors import MappingError
from schemas.sources import Rate, SourceMapping, known, load, parse
from schemas.transaction import COLUMN

SIMULATED = (Path(__file__).parents[2] / "schemas" / "sources" / "simulated.yaml").read_text()


def changed(**values: Any) -> SourceMapping:
    return parse(yaml.safe_dump(yaml.safe_load(SIMULATED) | values), "here.yaml")


def columns(**values: Any) -> dict[str, Any]:
    return yaml.safe_load(SIMULATED)["columns"] | values


@pytest.mark.parametrize("source", ["handbook", "simulated", "sparkov"])
def test_a_shipped_mapping_is_well_formed_and_fills_known_columns(source: str) -> None:
    assert source in known()
    mapping = load(source)
    assert mapping.source == source
    assert mapping.provided <= set(COLUMN)
    assert {"amount_minor", "amount_base_minor", "currency", "is_fraud", "label_time"} <= mapping.provided


def test_a_mapping_of_ones_own_is_read_by_its_path(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    with pytest.raises(MappingError, match=r"mine\.yaml does not exist; known sources: handbook, simulated, sparkov"):
        load(str(file))
    file.write_text(SIMULATED.replace("source: simulated", "source: mine"))
    assert load(str(file)).source == "mine"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(MappingError, match=r"mine\.yaml is not UTF-8"):
        load(str(file))


def test_an_unknown_source_is_an_error_that_lists_the_known() -> None:
    with pytest.raises(MappingError, match="'nowhere' is unknown; known: handbook, simulated, sparkov"):
        load("nowhere")


def test_the_digest_changes_with_the_text() -> None:
    assert parse(SIMULATED, "a").digest == parse(SIMULATED, "b").digest != parse(SIMULATED + "\n", "a").digest


def test_rates_are_sorted_by_currency_and_date_and_begin_at_midnight_utc() -> None:
    mapping = changed(rates={"USD": {"2024-07-01": 0.93, "2024-01-01": 0.91}, "JPY": {date(2024, 1, 1): 1}})
    assert mapping.rates == (
        Rate("JPY", date(2024, 1, 1), 1.0),
        Rate("USD", date(2024, 1, 1), 0.91),
        Rate("USD", date(2024, 7, 1), 0.93),
    )
    assert mapping.rates[0].since_us == 1_704_067_200_000_000


def test_label_time_is_filled_by_the_delay_where_the_log_has_none() -> None:
    without = {name: column for name, column in columns().items() if name != "label_time"}
    assert "label_time" in changed(columns=without).provided
    del without["is_fraud"]
    assert not {"label_time", "is_fraud"} & changed(columns=without).provided


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"columns": {"event_time": "t"}}, "columns lack 'transaction_id'"),
        ({"columns": columns(amount_minor="a")}, "'amount_minor' is not one of a transaction"),
        ({"columns": columns(colour="c")}, "'colour' is not one of a transaction"),
        ({"columns": columns(country=False)}, "'country': False, which YAML does not read as text; put it in quotes"),
        ({"columns": ["transaction_id"]}, "malformed value"),
        ({"constants": {"country": False}}, "put it in quotes"),
        ({"constants": {"country": "DE"}}, "'country' is both a column and a constant"),
        ({"columns": {name: name for name in ("transaction_id", "event_time", "card_id", "merchant_id", "amount")}},
         "nothing says the currency"),
        ({"columns": {key: value for key, value in columns().items() if key != "latitude"},
          "constants": {"latitude": "1"}}, "'latitude' is not a text column"),
        ({"columns": {key: value for key, value in columns().items() if key != "is_fraud"}}, "is_fraud is not"),
        ({"columns": columns(device_id="card_id"), "card_id_is": "number"}, "device_id would hold card numbers"),
        ({"columns": {key: value for key, value in columns().items() if key != "currency"},
          "constants": {"currency": "CHF"}}, "'CHF' has no rate into EUR"),
        ({"time_zone": "Mars/Olympus"}, "'Mars/Olympus' is not an IANA name"),
        ({"amount_unit": "cents"}, "'cents'; it must be one of minor, major"),
        ({"card_id_is": "pan"}, "'pan'; it must be one of number, token"),
        ({"base_currency": "EURO"}, "'EURO' is not an ISO 4217 code"),
        ({"label_delay": "a week"}, "'a week'"),
        ({"rates": {"EUR": {"2024-01-01": 1}}}, "rates name the base currency EUR"),
        ({"rates": {"USD": {"2024-01-01": 0}}}, "it must be a number above 0"),
        ({"rates": {"USD": {"2024-01-01": float("inf")}}}, "it must be a number above 0"),
        ({"rates": {"USD": {"soon": 1}}}, "malformed value"),
        ({"rates": {"DOLLAR": {"2024-01-01": 1}}}, "'DOLLAR' is not an ISO 4217 code"),
        ({"amount_limit": 0}, "amount_limit 0.0 is not between 0 and"),
        ({"amount_limit": float("nan")}, "amount_limit nan"),
        ({"bad_rows_limit": 1.5}, "1.5 is not a share"),
        ({"expected_fraud_share": [0.5, 0.1]}, "the first must be below the second"),
        ({"colour": "red"}, r"unknown keys ['colour']"),
    ],
)  # fmt: skip
def test_a_malformed_mapping_is_an_error_that_names_the_file_and_the_value(values: dict[str, Any], said: str) -> None:
    with pytest.raises(MappingError) as error:
        changed(**values)
    assert str(error.value).startswith("here.yaml: ")
    assert said in str(error.value)


@pytest.mark.parametrize(("text", "said"), [("[", "is not YAML"), ("- a", "holds list"), ("", "holds NoneType")])
def test_a_text_that_is_no_mapping_is_an_error(text: str, said: str) -> None:
    with pytest.raises(MappingError, match=said):
        parse(text, "here.yaml")
