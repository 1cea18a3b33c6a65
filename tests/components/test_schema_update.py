import math

import numpy as np
import pyarrow as pa
import pytest
from google.protobuf import text_format

from components.schema import curated_schema, curated_text, parse_schema
from components.schema_update import NewValue, Survey, WiderBound, possible_range, text_diff, updated_text
from schemas.errors import ArtifactError
from schemas.features import DAY, MONTH, Feature, FeatureSpec, RowInput

AMOUNTS = Feature("card", "recent", column="amount_base_minor", k=2)
SPEC = FeatureSpec(
    (RowInput("amount_base_minor"), RowInput("channel"), RowInput("country")),
    (Feature("card", "distinct", DAY, "merchant_id", cap=16), AMOUNTS),
    (),
)
TEXT = """# Kept by hand.
feature {
  name: "amount_base_minor"
  type: FLOAT
  float_domain { min: 1 max: 500 disallow_nan: true disallow_inf: true }  # cents
}
feature { name: "channel" type: BYTES }
feature {
  name: "country"
  type: BYTES
  domain: "country"
}
feature {
  name: "card_id_merchant_id_distinct_24h"
  type: FLOAT
  float_domain { min: 0 max: 3 disallow_nan: true }
}
feature {
  name: "card_id_amount_base_minor_recent_2"
  type: FLOAT
  float_domain { max: 500 }
}
feature {
  name: "is_fraud"
  type: FLOAT
}

# Where payments take place.
string_domain {
  name: "country"
  value: ""
  value: "AT"
  value: "DE"  # the most
  value: "US"
}
"""


def rows(**changes):
    columns = {
        "amount_base_minor": [100.0, 500.0, 1.0],
        "channel": ["online", "whatever", ""],
        "country": ["AT", "", "US"],
        "card_id_merchant_id_distinct_24h": [0.0, 3.0, 1.0],
        "card_id_amount_base_minor_recent_2": [[100.0, math.nan], [math.nan, math.nan], [1.0, 500.0]],
    } | changes
    types = {name: pa.string() for name in ("channel", "country")} | {
        "card_id_amount_base_minor_recent_2": pa.list_(pa.float32(), 2)
    }
    return pa.table({name: pa.array(values, types.get(name, pa.float32())) for name, values in columns.items()})


def changes_of(*batches):
    survey = Survey(curated_schema(SPEC, parse_schema(TEXT)), SPEC)
    for batch in batches:
        survey.add(batch)
    assert survey.rows == sum(batch.num_rows for batch in batches)
    return survey.changes()


def test_data_that_keep_to_the_schema_ask_for_nothing():
    assert changes_of(rows(), rows()) == ()
    assert updated_text(TEXT, ()) == TEXT
    assert text_diff(TEXT, TEXT, "fraud.pbtxt") == ""


def test_a_text_that_its_domain_lacks_is_asked_for_with_its_rows_over_all_batches():
    asked = changes_of(rows(country=["XK", "AT", "XK"]), rows(country=["BR", "XK", ""]))
    assert asked == (NewValue("country", "country", "BR", 1), NewValue("country", "country", "XK", 3))


def test_a_bound_is_asked_to_move_to_the_outermost_value_with_the_rows_beyond_it():
    asked = changes_of(
        rows(amount_base_minor=[700.0, 0.5, 900.0]),
        rows(amount_base_minor=[800.0, 0.25, 2.0]),
    )
    assert asked == (
        WiderBound("amount_base_minor", "max", 500, 900, 3),
        WiderBound("amount_base_minor", "min", 1, 0.25, 2),
    )


def test_a_row_counts_once_however_many_values_of_its_vector_are_beyond():
    vectors = [[600.0, 700.0], [math.nan, 501.0], [1.0, 2.0]]
    asked = changes_of(rows(card_id_amount_base_minor_recent_2=vectors))
    assert asked == (WiderBound("card_id_amount_base_minor_recent_2", "max", 500, 700, 2),)


@pytest.mark.parametrize("impossible", [-1.0, math.inf, -math.inf, math.nan])
def test_what_no_source_can_have_is_not_asked_for(impossible):
    assert changes_of(rows(amount_base_minor=[impossible, 2.0, 3.0])) == ()


def test_a_bound_moves_towards_what_the_declaration_caps_and_never_past_it():
    asked = changes_of(rows(card_id_merchant_id_distinct_24h=[9.0, 17.0, 16.0]))
    assert asked == (WiderBound("card_id_merchant_id_distinct_24h", "max", 3, 16, 2),)


def test_the_proposal_changes_the_lines_that_have_to_change_and_keeps_the_comments():
    changes = (
        NewValue("country", "country", "BR", 1),
        NewValue("country", "country", 'X"K', 1),
        WiderBound("amount_base_minor", "max", 500, float(np.float32(1234.56)), 1),
    )
    proposed = updated_text(TEXT, changes)
    lines = text_diff(TEXT, proposed, "fraud.pbtxt").splitlines()
    assert lines[:2] == ["--- fraud.pbtxt", "+++ fraud.pbtxt (proposed)"]
    assert [line for line in lines[2:] if line[0] in "+-"] == [
        "-  float_domain { min: 1 max: 500 disallow_nan: true disallow_inf: true }  # cents",
        "+  float_domain { min: 1 max: 1234.56 disallow_nan: true disallow_inf: true }  # cents",
        '+  value: "BR"',
        '+  value: "X\\"K"',
    ]
    assert changes_of(rows(country=["BR", 'X"K', "AT"], amount_base_minor=[1234.56, 2.0, 3.0])) != ()
    survey = Survey(curated_schema(SPEC, parse_schema(proposed)), SPEC)
    survey.add(rows(country=["BR", 'X"K', "AT"], amount_base_minor=[1234.56, 2.0, 3.0]))
    assert survey.changes() == ()


def test_the_file_that_ships_can_be_edited():
    changes = (NewValue("country", "country", "XK", 1), NewValue("currency", "currency", "XTS", 1))
    proposed = updated_text(curated_text(), changes)
    assert len(proposed.splitlines()) == len(curated_text().splitlines()) + 2
    lines = proposed.splitlines()
    assert lines[lines.index('  value: "XK"') - 1] == '  value: "WS"'


def test_a_file_in_another_form_is_an_error_and_not_a_wrong_proposal():
    on_one_line = text_format.MessageToString(parse_schema(TEXT), as_one_line=True)
    with pytest.raises(ArtifactError, match="one value of a domain a line"):
        updated_text(on_one_line, [NewValue("country", "country", "XK", 1)])
    with pytest.raises(ArtifactError, match="float_domain on one line"):
        updated_text(
            TEXT.replace("float_domain {", "float_domain: {"), [WiderBound("amount_base_minor", "max", 500, 900, 1)]
        )


@pytest.mark.parametrize(
    ("declaration", "largest"),
    [
        (RowInput("amount_base_minor"), math.inf),
        (RowInput("second_of_week"), 604_799),
        (Feature("card", "count", DAY), math.inf),
        (Feature("card", "distinct", DAY, "city", cap=7), 7),
        (Feature("card", "fraud_rate", MONTH), 1),
        (Feature("card", "first_seen", column="city"), 1),
        (Feature("card", "recent_seconds_between", k=3), 31 * 86_400),
        (Feature("card", "distance_km_since_last"), pytest.approx(20_015.1, abs=0.1)),
        (Feature("card", "speed_km_per_h_since_last"), math.inf),
    ],
)
def test_what_a_number_can_be_follows_from_its_declaration(declaration, largest):
    assert possible_range(declaration) == (0, largest)
