import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.expectations import reading
from components.expectations.features import FeatureSummary, Relation, relations
from schemas.errors import ArtifactError
from schemas.features import DAY, HOUR, MONTH, WEEK, Feature, RowInput, specify, window
from schemas.transaction import COLUMN
from tests.components.expectations.plausible import SIMULATED, features

AMOUNT = "amount_base_minor"


def floats(values):
    return np.array(values, np.float32)


def named(*declared):
    spec = specify(COLUMN, declared, ())
    return {(relation.larger, relation.smaller) for relation in relations(spec)}


def test_a_longer_window_has_at_least_as_much_and_at_most_as_small():
    count, least = [Feature("card", "count", w) for w in (WEEK, HOUR, DAY)], Feature("card", "min", HOUR, AMOUNT)
    assert named(*count) == {("card_id_count_24h", "card_id_count_1h"), ("card_id_count_7d", "card_id_count_24h")}
    longer = Feature("card", "min", MONTH, AMOUNT)
    assert named(least, longer) == {(least.name, longer.name)}


def test_windows_whose_tails_may_cross_are_not_compared():
    # The tail of the first lies up to an hour before its length, so that it may hold what the second does not.
    assert (
        named(Feature("card", "count", window("2h", "1h")), Feature("card", "count", window("150min", "1min"))) == set()
    )


def test_what_is_counted_differently_is_not_compared():
    assert named(Feature("card", "count", HOUR), Feature("merchant", "count", DAY)) == set()
    kept = Feature("card", "mean", HOUR, AMOUNT), Feature("card", "mean", DAY, AMOUNT)
    assert named(*kept) == set()


def test_aggregates_of_one_window_are_in_order():
    of_window = [Feature("card", a, DAY, AMOUNT) for a in ("sum", "max", "mean", "min", "std")]
    name = "card_id_amount_base_minor_{}_24h".format
    assert named(*of_window) == {
        (name("mean"), name("min")),
        (name("max"), name("mean")),
        (name("sum"), name("max")),
        (name("max"), name("std")),
    }


def test_the_whole_declaration_has_its_relations():
    found = {(relation.larger, relation.smaller) for relation in relations(specify(COLUMN))}
    assert {
        ("card_id_count_1h", "card_id_probe_count_1h"),
        ("card_id_count_24h", "card_id_merchant_id_distinct_24h"),
        ("card_id_count_30d", "card_id_merchant_id_count_30d"),
        ("merchant_id_count_30d", "card_id_merchant_id_count_30d"),
        ("device_id_fraud_count_30d", "device_id_fraud_rate_30d"),
        ("merchant_id_card_id_distinct_24h", "merchant_id_card_id_distinct_1h"),
    } <= found
    assert len(found) > 50 and not any(larger == smaller for larger, smaller in found)


def test_a_declared_number_of_each_kind_is_asked_what_follows():
    spec = specify(SIMULATED.provided)
    rows = FeatureSummary(spec)
    rows.add(features(spec))
    frame = rows.tables(600)["features"].frame.set_index("feature")
    # A law that does not concern a feature has no value there.
    assert frame.loc["card_id_amount_base_minor_mean_24h", ["fractions"]].isna().all()
    assert frame.loc["card_id_distance_km_since_last", ["lost", "made_up"]].isna().all()
    assert frame.loc["card_id_merchant_id_distinct_24h", "highest_possible"] == 16
    judged = frame[["impossible", "fractions", "lost", "made_up"]]
    assert judged.fillna(0).to_numpy().sum() == 0
    assert len(frame) == len(spec.numeric) and judged["lost"].notna().sum() > 60


@pytest.mark.parametrize(
    ("feature", "value", "broken"),
    [
        ("card_id_merchant_id_distinct_24h", 17.0, "impossible"),
        ("card_id_merchant_id_first_seen", 2.0, "impossible"),
        ("merchant_id_fraud_rate_24h", -0.1, "impossible"),
        ("card_id_distance_km_since_last", 20_016.0, "impossible"),
        ("card_id_recent_seconds_between_16", -1.0, "impossible"),
        ("card_id_speed_km_per_h_since_last", np.inf, "impossible"),
        ("amount_base_minor", np.nan, "lost"),
        ("merchant_id_card_id_distinct_1h", np.nan, "lost"),
        ("merchant_id_count_1h", 0.5, "fractions"),
        ("card_id_amount_base_minor_recent_16", 0.5, "fractions"),
        ("card_id_amount_base_minor_std_24h", 0.0, "made_up"),
        ("card_id_seconds_since_last", 7.0, "made_up"),
        ("card_id_amount_base_minor_recent_16", 7.0, "made_up"),
    ],
)
def test_each_law_is_broken_by_its_fault(feature, value, broken):
    spec = specify(SIMULATED.provided)
    summary = FeatureSummary(spec)
    summary.add(features(spec, {feature: value}, rows=3))
    frame = summary.tables(600)["features"].frame.set_index("feature")
    assert frame.loc[feature, broken] == 3


def test_a_device_that_is_not_there_has_no_features_and_breaks_no_law():
    spec = specify(SIMULATED.provided)
    gone = {i.name: np.nan for i in spec.numeric if i.name.startswith("device_id")}
    summary = FeatureSummary(spec)
    summary.add(features(spec, gone))
    summary.add(features(spec, gone | {"device_id_count_1h": 0.0}, rows=2))
    frame = summary.tables(600)["features"].frame.set_index("feature")
    assert frame["made_up"].sum() == 2 and frame.loc["device_id_count_1h", "made_up"] == 2
    assert frame["lost"].sum() == 0


def test_lost_values_are_told_from_empty_windows():
    spec = specify(SIMULATED.provided)
    summary = FeatureSummary(spec)
    summary.add(features(spec, {"merchant_id_count_24h": 1.0}))
    frame = summary.tables(600)["features"].frame.set_index("feature")
    assert frame.loc["merchant_id_amount_base_minor_mean_7d", "lost"] == 0
    assert frame.loc["merchant_id_amount_base_minor_sum_24h", "lost"] == 600


def test_violations_are_counted_and_the_first_is_shown():
    spec = specify(COLUMN, tuple(Feature("card", "count", w) for w in (HOUR, DAY)), ())
    summary = FeatureSummary(spec)
    summary.add({"card_id_count_1h": floats([1, 3, 2]), "card_id_count_24h": floats([1, 2, np.nan])})
    summary.add({"card_id_count_1h": floats([9]), "card_id_count_24h": floats([0])})
    (row,) = summary.tables(600)["relations"].frame.to_dict("records")
    relation = Relation("card_id_count_24h", "card_id_count_1h", "the longer window holds the shorter one")
    assert row == vars(relation) | {
        "relation": "card_id_count_24h >= card_id_count_1h", "violations": 2, "example": "2 below 3",
    }  # fmt: skip


@settings(max_examples=20)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.integers(0, 2**32 - 1))
def test_batches_of_any_size_come_to_the_same_tables(sizes, seed):
    spec = specify(SIMULATED.provided, row_inputs=())
    rng, rows = np.random.default_rng(seed), sum(sizes)
    whole = {
        i.name: rng.choice(floats([np.nan, 0, 0.5, 1, 7, 70]), (rows, i.width) if i.is_vector else rows)
        for i in spec.numeric
    }
    cut, uncut = FeatureSummary(spec), FeatureSummary(spec)
    uncut.add(whole)
    for end, size in zip(np.cumsum(sizes), sizes, strict=True):
        cut.add({name: values[end - size : end] for name, values in whole.items()})
    for name, table in uncut.tables(rows).items():
        assert table.frame.equals(cut.tables(rows)[name].frame)


def test_no_rows_make_no_tables():
    assert FeatureSummary(specify(SIMULATED.provided)).tables(0) == {}


def test_examples_are_read_in_batches_of_a_bounded_size(tiny_examples, monkeypatch):
    spec = tiny_examples.spec
    whole = list(reading.numbers(tiny_examples.root, "train", spec).batches)
    monkeypatch.setattr(reading, "FEATURE_ROWS", 1_000)
    source = reading.numbers(tiny_examples.root, "train", spec)
    cut = list(source.batches)
    assert max(len(batch["card_id_count_1h"]) for batch in cut) == 1_000
    for declaration in spec.numeric:
        together = np.concatenate([batch[declaration.name] for batch in cut])
        np.testing.assert_array_equal(together, np.concatenate([batch[declaration.name] for batch in whole]))
        assert together.shape == (source.rows, *((declaration.width,) if declaration.is_vector else ()))


def test_of_many_examples_row_groups_at_equal_distances_are_read(tmp_path, monkeypatch):
    spec = specify(COLUMN, (), (RowInput("amount_base_minor"),))
    (tmp_path / "Split-train").mkdir()
    for file in range(2):
        values = pa.array([[float(100 * file + row)] for row in range(70)], pa.large_list(pa.float32()))
        pq.write_table(pa.table({AMOUNT: values}), tmp_path / f"Split-train/{file}.parquet", row_group_size=10)
    monkeypatch.setattr(reading, "MOST_FEATURE_ROWS", 50)
    source = reading.numbers(tmp_path, "train", spec)
    begins = [value for batch in source.batches for value in batch[AMOUNT] if value % 10 == 0]
    assert (source.rows, begins) == (140, [0, 30, 60, 120, 150])


def test_a_split_without_examples_is_an_error(tmp_path):
    with pytest.raises(ArtifactError, match="no examples of split train"):
        reading.numbers(tmp_path, "train", specify(COLUMN))
