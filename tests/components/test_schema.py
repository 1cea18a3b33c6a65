import math
from importlib import resources

import numpy as np
import pyarrow as pa
import pytest
from tensorflow_metadata.proto.v0 import schema_pb2

from components.comparators import exceeded
from components.examples import to_examples
from components.gate import anomaly_reasons
from components.profiles import LayoutConfig, Support, Thresholds, compare, lay_out, profile
from components.schema import curated_schema, declared_schema
from components.schema_update import possible_range
from schemas.currency import MINOR_UNIT_DECIMALS
from schemas.errors import DeclarationError
from schemas.features import DAY, FEATURES, PROBE, ROW_INPUTS, Feature, RowInput, specify
from schemas.sources import known, load
from schemas.transaction import LABEL

ROWS = 200
DECLARED: tuple[RowInput | Feature, ...] = (*ROW_INPUTS, *FEATURES)
CURATED = {feature.name: feature for feature in declared_schema().feature}
SIMULATED = specify(load("simulated").provided)


def is_never_missing(declaration):
    counts = getattr(declaration, "aggregate", None) in ("count", "distinct", "fraud_count")
    return declaration in ROW_INPUTS or (counts and declaration.key != "device")


def test_the_curated_schema_holds_every_declared_input_and_the_label_and_nothing_else():
    assert [name for name in (*(i.name for i in DECLARED), LABEL) if name not in CURATED] == [], "describe these"
    assert [name for name in CURATED if name not in {*(i.name for i in DECLARED), LABEL}] == [], "remove these"
    assert len(declared_schema().feature) == len(CURATED), "a feature is described twice"


@pytest.mark.parametrize("declaration", DECLARED, ids=lambda declaration: declaration.name)
def test_a_declared_input_has_its_type_its_width_and_its_bounds(declaration):
    feature = CURATED[declaration.name]
    assert feature.type == (schema_pb2.BYTES if declaration.is_text else schema_pb2.FLOAT)
    assert feature.HasField("shape")
    assert [dim.size for dim in feature.shape.dim] == ([declaration.width] if declaration.width > 1 else [])
    assert feature.presence.min_fraction == 1
    if not declaration.is_text:
        domain = feature.float_domain
        assert domain.disallow_inf and domain.HasField("min")
        assert domain.disallow_nan == is_never_missing(declaration)
        least, largest = possible_range(declaration)
        highest = domain.max if domain.HasField("max") else math.inf
        assert (domain.min, highest) == (least, pytest.approx(largest, rel=1e-5))
        assert highest >= largest


FEW_FREQUENT_VALUES = ("channel", "currency", "country")


def comparators(feature):
    """Which measure compares a feature with data of another time, and with what was served."""
    return [
        [(field.name, threshold.threshold) for field, threshold in comparator.ListFields()]
        for comparator in (feature.drift_comparator, feature.skew_comparator)
    ]


@pytest.mark.parametrize("declaration", DECLARED, ids=lambda declaration: declaration.name)
def test_every_input_that_tfdv_can_compare_has_comparators_and_skew_is_the_narrower(declaration):
    drift, skew = comparators(CURATED[declaration.name])
    if not declaration.is_text and not is_never_missing(declaration):
        assert drift == skew == []
        return
    measure = "infinity_norm" if declaration.name in FEW_FREQUENT_VALUES else "jensen_shannon_divergence"
    assert [name for name, _ in (*drift, *skew)] == [measure] * 2
    assert 0 < skew[0][1] < drift[0][1] <= (0.1 if declaration.is_text else 0.3)


def test_the_label_which_no_one_serves_has_no_skew_comparator():
    drift, skew = comparators(CURATED[LABEL])
    assert drift and not skew


def test_currencies_are_those_of_iso_4217_or_not_said():
    (domain,) = (d for d in declared_schema().string_domain if d.name == CURATED["currency"].domain)
    assert sorted(domain.value) == sorted(["", *MINOR_UNIT_DECIMALS])


def test_countries_are_those_of_iso_3166_or_not_said():
    table = (resources.files("tzdata") / "zoneinfo" / "iso3166.tab").read_text(encoding="utf-8")
    codes = [line[:2] for line in table.splitlines() if not line.startswith("#")]
    (domain,) = (d for d in declared_schema().string_domain if d.name == CURATED["country"].domain)
    assert list(domain.value) == ["", *sorted(codes)]


@pytest.mark.parametrize("source", known())
def test_a_sources_schema_has_its_inputs_in_their_order_and_then_the_label(source):
    spec = specify(load(source).provided)
    assert [feature.name for feature in curated_schema(spec).feature] == [*(i.name for i in spec.inputs), LABEL]


def test_an_input_that_nobody_curated_is_an_error_that_names_it():
    spec = specify(load("simulated").provided, (Feature("merchant", "count", DAY, where=PROBE),))
    with pytest.raises(DeclarationError, match="merchant_id_probe_count_24h"):
        curated_schema(spec)


WORDS = {"currency": "EUR", "country": "AT"}


def genuine_features():
    """Rows that are plain but possible: whatever may be missing is missing in every other row."""
    columns = {}
    for i in SIMULATED.inputs:
        if i.is_text:
            words = [[WORDS.get(i.name, "a")] * i.width, [""] * i.width] * (ROWS // 2)
            flat = pa.array([word for row in words for word in row])
        else:
            values = np.ones((ROWS, i.width), np.float32)
            if not is_never_missing(i):
                values[::2] = np.nan
            flat = pa.array(values.ravel())
        columns[i.name] = pa.FixedSizeListArray.from_arrays(flat, i.width) if i.width > 1 else flat
    columns[LABEL] = pa.array([True, False] * (ROWS // 2))
    return pa.table(columns)


def with_value(table, name, value):
    values = table[name].to_pylist()
    values[3] = value
    return table.set_column(table.column_names.index(name), name, pa.array(values, table[name].type))


def statistics_of(examples):
    # Ten seconds to import, which the tests of the file itself do without.
    import tensorflow_data_validation as tfdv
    from tensorflow_data_validation.statistics import stats_impl

    batch = examples.combine_chunks().to_batches()[0]
    return stats_impl.generate_statistics_in_memory(batch, tfdv.StatsOptions(schema=curated_schema(SIMULATED)))


def anomalies_of(examples, environment="TRAINING", schema=None, **others):
    import tensorflow_data_validation as tfdv

    schema = schema or curated_schema(SIMULATED)
    found = tfdv.validate_statistics(statistics_of(examples), schema, environment, **others)
    return {r.subject: r for r in anomaly_reasons(found)}


def test_tfdv_finds_nothing_in_genuine_examples():
    assert anomalies_of(to_examples(genuine_features(), SIMULATED)) == {}


def with_values(name, values):
    features = genuine_features()
    return features.set_column(features.column_names.index(name), name, pa.array(values))


def moved(name, values):
    return to_examples(with_values(name, values), SIMULATED)


def ours(now, then):
    """What our own drift finds of so few rows, with the fixed thresholds."""
    layout = lay_out(then, LayoutConfig())
    thresholds = Thresholds(support=Support(rows_per_bin=10, rows=100))
    return compare(profile(now, layout), profile(then, layout), thresholds).findings


@pytest.mark.parametrize("others", ["previous_statistics", "serving_statistics"])
@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("channel", ["online"] * ROWS),
        ("merchant_category", ["travel"] * ROWS),
        ("amount_base_minor", np.linspace(1, 1e4, ROWS, dtype=np.float32)),
    ],
)
def test_tfdvs_comparators_see_what_moved_from_other_data_and_only_beside_them(name, values, others):
    examples = moved(name, values)
    genuine = statistics_of(to_examples(genuine_features(), SIMULATED))
    assert anomalies_of(examples, **{others: genuine}).keys() == {name}
    assert anomalies_of(examples) == {}


def test_l_infinity_finds_nothing_in_a_number_that_moved_and_ours_does():
    examples = moved("amount_base_minor", np.linspace(1, 1e4, ROWS, dtype=np.float32))
    genuine = to_examples(genuine_features(), SIMULATED)
    schema = curated_schema(SIMULATED)
    for feature in schema.feature:
        feature.drift_comparator.Clear()
        feature.drift_comparator.infinity_norm.threshold = 1e-9
    assert anomalies_of(examples, schema=schema, previous_statistics=statistics_of(genuine)) == {}

    found = ours(with_values("amount_base_minor", np.linspace(1, 1e4, ROWS, dtype=np.float32)), genuine_features())
    assert ("amount_base_minor", "psi") in {(finding.feature, finding.statistic) for finding in found}


def test_tfdv_takes_missing_numbers_for_a_difference_where_ours_finds_data_equal_to_themselves():
    statistics = statistics_of(to_examples(genuine_features(), SIMULATED))
    schema = curated_schema(SIMULATED)
    (feature,) = (f for f in schema.feature if f.name == "card_id_amount_base_minor_last")
    feature.drift_comparator.jensen_shannon_divergence.threshold = 0.3
    anomalies = anomalies_of(to_examples(genuine_features(), SIMULATED), schema=schema, previous_statistics=statistics)
    assert anomalies.keys() == {feature.name}, "TFDV compares missing numbers now: give each its comparators"

    assert ours(genuine_features(), genuine_features()) == ()


def test_what_tfdvs_comparators_find_is_told_with_measure_value_and_threshold():
    now = statistics_of(moved("channel", ["online"] * ROWS)).datasets[0]
    then = statistics_of(to_examples(genuine_features(), SIMULATED)).datasets[0]
    (found,) = exceeded(now, then, curated_schema(SIMULATED))
    assert (found.feature, found.measure) == ("channel", "L-infinity")
    assert found.value > found.threshold == comparators(CURATED["channel"])[0][0][1]
    assert exceeded(then, then, curated_schema(SIMULATED)) == ()


def test_only_the_serving_environment_does_without_the_label():
    unlabelled = to_examples(genuine_features(), SIMULATED).drop_columns([LABEL])
    assert anomalies_of(unlabelled, "SERVING") == {}
    assert anomalies_of(unlabelled, "TRAINING").keys() == {LABEL}


# TFDV takes the mean over the infinite value too.
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
def test_tfdv_stops_on_each_value_that_cannot_be_and_names_its_feature():
    recent = "card_id_amount_base_minor_recent_16"
    faults = {
        "amount_base_minor": -1.0,
        "second_of_week": 604_800.0,
        "currency": "XXX",
        "country": "Austria",
        "card_id_count_1h": float("nan"),
        "card_id_fraud_count_30d": float("inf"),
        "card_id_merchant_id_distinct_24h": 17.0,
        "card_id_distance_km_since_last": 20_100.0,
        "device_id_fraud_rate_30d": 1.5,
        recent: [1.0, -1.0, *[1.0] * 14],
    }
    features = genuine_features()
    for name, value in faults.items():
        features = with_value(features, name, value)
    anomalies = anomalies_of(to_examples(features, SIMULATED))
    assert anomalies.keys() == faults.keys()
    assert {reason.severity for reason in anomalies.values()} == {"stop"}


def test_a_dropped_column_is_named():
    examples = to_examples(genuine_features(), SIMULATED).drop_columns(["channel"])
    assert anomalies_of(examples).keys() == {"channel"}


def test_transform_reads_every_input_as_a_dense_tensor():
    from tfx_bsl.tfxio import tensor_adapter, tensor_representation_util

    batch = to_examples(genuine_features(), SIMULATED).combine_chunks().to_batches()[0]
    representations = tensor_representation_util.InferTensorRepresentationsFromSchema(curated_schema(SIMULATED))
    adapter = tensor_adapter.TensorAdapter(tensor_adapter.TensorAdapterConfig(batch.schema, representations))
    shapes = {name: tuple(tensor.shape) for name, tensor in adapter.ToBatchTensors(batch).items()}
    assert shapes == {i.name: (ROWS, i.width) if i.width > 1 else (ROWS,) for i in SIMULATED.inputs} | {LABEL: (ROWS,)}
