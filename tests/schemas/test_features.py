import dataclasses
import json
from typing import Any

import pytest

from schemas import sources
from schemas.errors import ArtifactError, DeclarationError
from schemas.features import (
    DAY,
    FEATURES,
    HOUR,
    LOOK_BACK,
    MONTH,
    PROBE,
    WEEK,
    Feature,
    FeatureSpec,
    Filter,
    RowInput,
    specify,
    window,
)
from schemas.transaction import COLUMN


@pytest.mark.parametrize(
    ("declared", "complaint"),
    [
        ({"key": "customer", "aggregate": "count"}, "unknown key 'customer'"),
        ({"key": "card", "aggregate": "median", "column": "amount_minor"}, "unknown aggregate 'median'"),
        ({"key": "card", "aggregate": "sum", "column": "amuont"}, "unknown column 'amuont'"),
        ({"key": "card", "aggregate": "sum"}, "give the column"),
        ({"key": "card", "aggregate": "count", "column": "amount_minor"}, "takes no column"),
        ({"key": "card", "aggregate": "mean", "column": "latitude"}, "no integer one"),
        ({"key": "card", "aggregate": "distinct", "column": "city"}, "needs a cap"),
        ({"key": "card", "aggregate": "distinct", "column": "city", "cap": 0}, "needs a cap"),
        ({"key": "card", "aggregate": "distinct", "column": "latitude", "cap": 3}, "fractions"),
        ({"key": "card", "aggregate": "first_seen", "column": "longitude"}, "fractions"),
        ({"key": "card", "aggregate": "count", "cap": 3}, "cap"),
        ({"key": "card", "aggregate": "recent", "column": "city"}, "needs k"),
        ({"key": "card", "aggregate": "last", "column": "city", "k": 2}, "needs k"),
        ({"key": "card", "aggregate": "last", "column": "city", "window": DAY}, "looks back 30d"),
        ({"key": "card", "aggregate": "seconds_since_last", "where": PROBE}, "filters"),
        ({"key": "card", "aggregate": "fraud_count", "where": PROBE}, "filters"),
        ({"key": "card", "aggregate": "last", "column": "is_fraud"}, "use fraud_count"),
        ({"key": "card", "aggregate": "recent", "column": "label_time", "k": 2}, "use fraud_count"),
    ],
)
def test_a_wrong_feature_is_refused_where_it_is_declared(declared: dict[str, Any], complaint: str) -> None:
    with pytest.raises(DeclarationError, match=complaint):
        Feature(**declared)


@pytest.mark.parametrize(("length", "hop"), [("1h", "7min"), ("0h", "1h"), ("1h", "0s")])
def test_a_hop_has_to_divide_its_window(length: str, hop: str) -> None:
    with pytest.raises(DeclarationError, match="divide"):
        window(length, hop)


@pytest.mark.parametrize("column", ["city", "is_fraud", "latitude", "hour"])
def test_a_filter_reads_integers_only(column: str) -> None:
    with pytest.raises(DeclarationError, match=column):
        Filter("odd", column, "<", 1)


def test_a_filter_compares_in_one_of_two_ways() -> None:
    with pytest.raises(DeclarationError, match=">"):
        Filter("odd", "amount_minor", ">", 1)  # type: ignore[arg-type]


@pytest.mark.parametrize("column", ["is_fraud", "label_time", "transaction_id", "event_time", "hour"])
def test_no_model_sees_the_label_or_the_name_of_a_row(column: str) -> None:
    with pytest.raises(DeclarationError, match=column):
        RowInput(column)


def test_names_are_derived() -> None:
    assert [
        feature.name
        for feature in (
            Feature("card", "count", HOUR),
            Feature("card", "count", DAY, where=PROBE),
            Feature("card_merchant", "mean", WEEK, "amount_minor"),
            Feature("device", "last", column="city"),
            Feature("card", "seconds_since_last"),
            Feature("card", "recent", column="city", k=4),
            Feature("card", "recent_seconds_between", k=4),
            Feature("merchant", "fraud_rate", MONTH),
        )
    ] == [
        "card_id_count_1h",
        "card_id_probe_count_24h",
        "card_id_merchant_id_amount_minor_mean_7d",
        "device_id_city_last",
        "card_id_seconds_since_last",
        "card_id_city_recent_4",
        "card_id_recent_seconds_between_4",
        "merchant_id_fraud_rate_30d",
    ]


def test_all_declared_names_differ() -> None:
    names = [declared.name for declared in specify(COLUMN).inputs]
    assert len(set(names)) == len(names)


def test_two_inputs_with_one_name_are_refused() -> None:
    other = Filter("probe", "amount_base_minor", "<", 900)
    with pytest.raises(DeclarationError, match="card_id_probe_count_1h"):
        specify(COLUMN, (Feature("card", "count", HOUR, where=PROBE), Feature("card", "count", HOUR, where=other)))


def test_what_a_source_lacks_is_left_out_and_named() -> None:
    spec = specify(sources.load("handbook").provided)
    assert len(spec.inputs) + len(spec.left_out) == len(specify(COLUMN).inputs)
    assert {"device_id_count_1h", "card_id_distance_km_since_last", "merchant_category"} <= set(spec.left_out)
    assert {"merchant_id_fraud_rate_7d", "card_id_amount_base_minor_recent_16"} <= {i.name for i in spec.inputs}


def test_no_label_feature_without_labels() -> None:
    spec = specify(set(COLUMN) - {"label_time"})
    assert not {feature.aggregate for feature in spec.features} & {"fraud_count", "fraud_rate"}


def test_every_source_that_ships_provides_what_the_project_promises() -> None:
    promised = {"card_id_count_1h", "merchant_id_fraud_rate_30d", "card_id_probe_count_1h"}
    for source in sources.known():
        assert promised <= {i.name for i in specify(sources.load(source).provided).inputs}, source


def test_a_specification_survives_json() -> None:
    spec = specify(COLUMN)
    again = FeatureSpec.from_json(spec.to_json())
    assert again == spec
    assert again.digest == spec.digest


def test_any_change_of_a_feature_changes_the_digest() -> None:
    spec = specify(COLUMN)
    longer = dataclasses.replace(FEATURES[0], window=LOOK_BACK)
    assert specify(COLUMN, (longer, *FEATURES[4:])).digest != specify(COLUMN, (FEATURES[0], *FEATURES[4:])).digest
    assert specify(COLUMN, FEATURES[::-1]).digest != spec.digest


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", '{"row_inputs": [], "features": [{}], "left_out": []}'])
def test_what_is_no_specification_is_refused(text: str) -> None:
    with pytest.raises(ArtifactError, match="retrain"):
        FeatureSpec.from_json(text)


def test_a_feature_of_another_version_is_refused() -> None:
    raw = json.loads(specify(COLUMN).to_json())
    raw["features"][0]["aggregate"] = "median"
    with pytest.raises(ArtifactError, match="median"):
        FeatureSpec.from_json(json.dumps(raw))


def test_widths_count_every_value_of_a_vector() -> None:
    vectors = (Feature("card", "recent", column="amount_minor", k=5), Feature("card", "recent", column="city", k=3))
    spec = specify(COLUMN, vectors, (RowInput("amount_minor"), RowInput("country")))
    assert (spec.numeric_width, spec.categorical_width) == (6, 4)
    assert [i.name for i in spec.numeric] == ["amount_minor", "card_id_amount_minor_recent_5"]
    assert [i.name for i in spec.categorical] == ["country", "card_id_city_recent_3"]
