import pytest

from components.expectations.suites import load_suite, parse_suite
from schemas.errors import ConfigurationError
from schemas.sources import known, load
from tests.components.expectations.plausible import SIMULATED


@pytest.mark.parametrize("source", known())
@pytest.mark.parametrize("suite", ["transactions", "features"])
def test_the_suites_that_ship_can_be_read_for_any_source(suite, source):
    tables = load_suite(suite, load(source)).tables
    assert all(expectation.message and expectation.columns for entries in tables.values() for expectation in entries)


def test_placeholders_are_filled_from_the_mapping():
    entry = "{type: t, column: rows, max_value: $amount_limit, regex: '^a$$', message: $observed of $source}"
    (expectation,) = parse_suite(f"{{suite: transactions, log: [{entry}]}}", SIMULATED, "s.yaml").tables["log"]
    assert expectation.arguments == {"column": "rows", "max_value": 100_000, "regex": "^a$"}
    assert expectation.message == "$observed of simulated"
    assert expectation.limit == "max_value: 100000, regex: ^a$"


def test_an_expectation_stops_unless_it_says_that_it_warns():
    entries = "[{type: t, column: rows, message: m}, {type: t, column: rows, message: m, severity: warn}]"
    log = parse_suite(f"{{suite: transactions, log: {entries}}}", SIMULATED, "s.yaml").tables["log"]
    assert [expectation.severity for expectation in log] == ["stop", "warn"]
    assert all("severity" not in expectation.arguments for expectation in log)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("{suite: transactions, log: [{type: t, column: rows}]}", "message"),
        ("{suite: transactions, log: [{column: rows, message: m}]}", "type"),
        ("{suite: transactions, log: [{type: t, column: rows, max_value: $limit, message: m}]}", "limit"),
        ("{suite: transactions, log: [{type: t, column: rows, message: more than $limit}]}", "limit"),
        ("{suite: transactions, log: [{type: t, column: mean_amount, message: m}]}", "mean_amount"),
        ("{suite: transactions, log: [{type: t, column: rows, message: m, severity: maybe}]}", "maybe"),
        ("{suite: transactions, shops: []}", "shops"),
        ("{suite: trades, log: []}", "trades"),
    ],
)
def test_a_malformed_suite_is_an_error_that_names_the_file_and_the_word(text, named):
    with pytest.raises(ConfigurationError, match=rf"s\.yaml: .*'{named}'"):
        parse_suite(text, SIMULATED, "s.yaml")
