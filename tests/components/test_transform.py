"""What the preprocessing function makes of raw features, in TFT and in the layer that every request goes through."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from apache_beam.options.pipeline_options import PipelineOptions

from components.features.table import IN_MEMORY
from components.transform import preprocessing_fn, sources, vocabulary_name
from schemas.features import NIGHT, WEEKEND
from schemas.transaction import DAY_S, LABEL
from tests.components.tiny import read_split

NAN = math.nan
AMOUNT, WEEK = "amount_base_minor", "second_of_week"
MEAN, SPREAD = "card_id_amount_base_minor_mean_30d", "card_id_amount_base_minor_std_30d"
NEW, RECENT = "card_id_merchant_id_first_seen", "card_id_amount_base_minor_recent_16"
WORD, LAST = "merchant_category", "card_id_merchant_category_last"
RAW = {name: tf.io.FixedLenFeature([], tf.float32) for name in (AMOUNT, WEEK, MEAN, SPREAD, NEW, LABEL)}
RAW |= {RECENT: tf.io.FixedLenFeature([16], tf.float32)}
RAW |= {name: tf.io.FixedLenFeature([], tf.string) for name in (WORD, LAST)}


def row(amount=100.0, week=0.0, mean=NAN, spread=NAN, new=NAN, recent=(), word="food", last=""):
    padded = [*recent, *[NAN] * (16 - len(recent))]
    values = {AMOUNT: amount, WEEK: week, MEAN: mean, SPREAD: spread, NEW: new, RECENT: padded, WORD: word, LAST: last}
    return {**values, LABEL: 0.0}


TRAINING = [
    row(100.0, 0.0),
    row(900.0, 3_600.0, 100.0, 0.0, 1.0, [100.0], "food", "food"),
    row(40.0, 90_000.0, 500.0, 400.0, 1.0, [900.0, 100.0], "fuel", "food"),
    row(0.0, 500_000.0, 346.7, 390.0, 0.0, [40.0, 900.0, 100.0], "travel", "fuel"),
    row(7_000.0, 86_400.0, 260.0, 370.0, 0.0, [0.0, 40.0, 900.0, 100.0], "food", "travel"),
]
# Where in `numeric` each derived number is found: standardised values, then flags, then the calendar.
(
    AMOUNT_AT,
    MEAN_AT,
    SPREAD_AT,
    NEW_AT,
    RECENT_AT,
    RATIO_AT,
    DEVIATIONS_AT,
    MEAN_FLAG,
    SPREAD_FLAG,
    NEW_FLAG,
    RECENT_FLAG,
    CALENDAR_AT,
) = (0, 1, 2, 3, slice(4, 20), 20, 21, 22, 23, 24, 25, slice(26, 32))


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the transform graph learned from TRAINING."""
    folder = tmp_path_factory.mktemp("transform") / "graph"
    with (
        beam.Pipeline(options=PipelineOptions(list(IN_MEMORY))) as pipeline,
        tft_beam.Context(temp_dir=str(folder.with_suffix(".scratch"))),
    ):
        metadata = tft.DatasetMetadata.from_feature_spec(RAW)
        learned = (pipeline | beam.Create(TRAINING), metadata) | tft_beam.AnalyzeDataset(preprocessing_fn)
        _ = learned | tft_beam.WriteTransformFn(str(folder))
    return folder


@pytest.fixture(scope="module")
def transform(graph):
    """Applies the graph to rows through TFT's layer, as trainer and SavedModel do."""
    layer = tft.TFTransformOutput(str(graph)).transform_features_layer()

    def apply(rows: list[dict[str, Any]]) -> dict[str, np.ndarray]:
        raw = {
            name: tf.constant([one[name] for one in rows], spec.dtype) for name, spec in RAW.items() if name != LABEL
        }
        return {name: tensor.numpy() for name, tensor in layer(raw).items()}

    return apply


def signed_log(values):
    return np.sign(values) * np.log1p(np.abs(values))


def standardised(training, value):
    known = np.array(training)[~np.isnan(training)]
    return (value - known.mean()) / known.std()


def test_shapes_and_types_are_what_the_network_reads(transform):
    out = transform(TRAINING)
    assert {name: (array.shape, array.dtype) for name, array in out.items()} == {
        "numeric": ((5, 32), np.float32),
        "categorical": ((5, 2), np.int64),
    }


def test_a_missing_number_becomes_zero_and_raises_its_flag_and_no_other_does(transform):
    bare = transform([row()])["numeric"][0]
    assert bare[[MEAN_AT, SPREAD_AT, NEW_AT, RATIO_AT, DEVIATIONS_AT]].tolist() == [0] * 5
    assert bare[RECENT_AT].tolist() == [0] * 16
    assert bare[[MEAN_FLAG, SPREAD_FLAG, NEW_FLAG, RECENT_FLAG]].tolist() == [1] * 4
    full = transform([row(1.0, 0.0, 5.0, 1.0, 0.0, range(1, 17))])["numeric"][0]
    assert full[[MEAN_FLAG, SPREAD_FLAG, NEW_FLAG, RECENT_FLAG]].tolist() == [0] * 4
    assert np.isfinite(full).all() and (full[:RATIO_AT] != 0).all()
    some = transform([row(new=1.0)])["numeric"][0]
    assert some[[MEAN_FLAG, SPREAD_FLAG, NEW_FLAG, RECENT_FLAG]].tolist() == [1, 1, 0, 1]


def test_numbers_are_standardised_over_the_training_rows_that_have_them(transform):
    new = row(250.0, 0.0, 1_000.0, 2.0, 1.0, [10.0, 7.0])
    out = transform([new])["numeric"][0]
    for at, name in ((AMOUNT_AT, AMOUNT), (MEAN_AT, MEAN), (SPREAD_AT, SPREAD)):
        training = signed_log([one[name] for one in TRAINING])
        assert out[at] == pytest.approx(standardised(training, signed_log(new[name])), rel=1e-5), name
    assert out[NEW_AT] == pytest.approx(standardised([one[NEW] for one in TRAINING], 1.0), rel=1e-5), "not a logarithm"
    second = signed_log([one[RECENT][1] for one in TRAINING])
    assert out[RECENT_AT][1] == pytest.approx(standardised(second, signed_log(7.0)), rel=1e-5), "each place of a vector"
    assert out[RECENT_AT].tolist()[2:] == [0] * 14


def test_the_training_rows_themselves_come_out_with_zero_mean_and_unit_variance(transform):
    out = transform(TRAINING)["numeric"]
    for at, flag in ((MEAN_AT, MEAN_FLAG), (SPREAD_AT, SPREAD_FLAG), (NEW_AT, NEW_FLAG)):
        present = out[out[:, flag] == 0, at]
        assert (present.mean(), present.std()) == (pytest.approx(0, abs=1e-6), pytest.approx(1, rel=1e-5))


def test_rows_seen_only_after_training_change_nothing(transform):
    alone = transform([row(250.0)])
    among = transform([row(250.0), *[row(1e6, 0.0, 1e6, 1e6, 1.0, [1e6] * 16, "new")] * 50])
    np.testing.assert_array_equal(among["numeric"][0], alone["numeric"][0])
    np.testing.assert_array_equal(among["categorical"][0], alone["categorical"][0])


def test_a_value_far_outside_stays_within_ten_deviations_and_a_column_without_training_values_within_too(transform):
    out = transform([row(3e38, 0.0, 1e-3, 0.0, 1.0, [3e38] * 16)])["numeric"]
    assert np.isfinite(out).all() and np.abs(out).max() <= 10
    assert out[0][RECENT_AT][4] == 10, "no training row has a fifth value, so that any is far outside"


def test_the_amount_is_set_against_the_cards_own_habit(transform):
    def ratio(amount, mean):
        return math.log1p(amount) - math.log1p(mean)

    def deviations(amount, mean, spread):
        return signed_log((amount - mean) / (spread + 0.01 * mean + 1))

    known = [one for one in TRAINING if not math.isnan(one[MEAN])]
    out = transform([row(1_000.0, 0.0, 10.0, 5.0)])["numeric"][0]
    ratios = [ratio(one[AMOUNT], one[MEAN]) for one in known]
    assert out[RATIO_AT] == pytest.approx(standardised(ratios, ratio(1_000, 10)), rel=1e-4)
    distances = [deviations(one[AMOUNT], one[MEAN], one[SPREAD]) for one in known]
    assert out[DEVIATIONS_AT] == pytest.approx(standardised(distances, deviations(1_000, 10, 5)), rel=1e-4)


def test_ten_times_the_habit_is_the_same_ratio_for_a_poor_and_a_rich_card(transform):
    poor, rich = transform([row(1_000.0, 0.0, 100.0, 5.0), row(100_000.0, 0.0, 10_000.0, 500.0)])["numeric"]
    assert poor[RATIO_AT] == pytest.approx(rich[RATIO_AT], abs=0.02)
    assert poor[AMOUNT_AT] < rich[AMOUNT_AT]


@pytest.mark.parametrize(
    "second_of_week, night, weekend",
    [
        (0, 1, 0),
        (6 * 3_600 - 1, 1, 0),
        (6 * 3_600, 0, 0),
        (2 * DAY_S + 3_600, 1, 0),
        (5 * DAY_S - 1, 0, 0),
        (5 * DAY_S, 1, 1),
        (7 * DAY_S - 1, 0, 1),
    ],
)
def test_the_calendar_is_two_circles_and_flags_for_night_and_weekend(transform, second_of_week, night, weekend):
    out = transform([row(week=float(second_of_week))])["numeric"][0][CALENDAR_AT]
    day, week = (2 * math.pi * second_of_week / period for period in (DAY_S, 7 * DAY_S))
    wanted = [math.sin(day), math.cos(day), math.sin(week), math.cos(week), night, weekend]
    assert out.tolist() == pytest.approx(wanted, abs=1e-5)


def test_frequent_words_come_first_and_unknown_and_missing_ones_share_the_last_id(graph, transform):
    size = tft.TFTransformOutput(str(graph)).vocabulary_size_by_name(vocabulary_name(WORD))
    assert size == 3
    words = [row(word=word) for word in ("food", "fuel", "travel", "never seen", "", "\N{SNOWMAN}")]
    ids = transform(words)["categorical"][:, 0].tolist()
    assert ids[0] == 0
    assert sorted(ids[1:3]) == [1, 2]
    assert ids[3:] == [size] * 3


def test_each_text_input_has_its_own_vocabulary(transform):
    ids = transform([row(word="travel", last="food"), row(word="food", last="travel")])["categorical"]
    assert ids[:, 1].tolist()[0] == 0 < ids[1, 1] < 3


def as_line(out):
    return f"{out['numeric'].tolist()} {out['categorical'].tolist()}"


def test_the_layer_gives_a_row_the_numbers_that_tft_gives_it_in_beam(graph, transform, tmp_path):
    rows = [*TRAINING, row(123.0, 300_000.0, 50.0, 3.0, 1.0, [9.0], "never seen", "fuel")]
    with (
        beam.Pipeline(options=PipelineOptions(list(IN_MEMORY))) as pipeline,
        tft_beam.Context(temp_dir=str(tmp_path / "scratch")),
    ):
        metadata = tft.DatasetMetadata.from_feature_spec(RAW)
        learned = pipeline | tft_beam.ReadTransformFn(str(graph))
        transformed, _ = ((pipeline | beam.Create([rows]) | beam.FlatMap(list), metadata), learned) | (
            tft_beam.TransformDataset()
        )
        as_text = transformed | beam.Map(as_line)
        _ = as_text | beam.io.WriteToText(str(tmp_path / "out"), num_shards=1, shard_name_template="")
    by_beam = sorted((tmp_path / "out").read_text().splitlines())
    out = transform(rows)
    by_layer = sorted(as_line({name: values[i] for name, values in out.items()}) for i in range(len(rows)))
    assert by_beam == by_layer


def test_a_column_changes_with_the_inputs_that_it_is_made_of_and_with_no_other(tiny_examples, tiny_graph):
    spec = tiny_examples.spec
    features, _ = read_split(tiny_examples.root, "test", spec)
    by_day = np.flatnonzero((features[WEEK] < WEEKEND.value) & (features[WEEK] % DAY_S >= NIGHT.value))[0]
    places = [(i.name, place) for i in spec.numeric for place in range(i.width)]
    rows = {
        name: np.repeat(values[by_day : by_day + 1], 1 + 2 * len(places), axis=0) for name, values in features.items()
    }
    for name, _ in places:
        # A row where nothing is missing is rarer than a test's log is long.
        rows[name] = np.where(np.isnan(rows[name]), np.float32(1), rows[name])
    for number, (name, place) in enumerate(places):
        column = rows[name].reshape(len(rows[name]), -1)[:, place]
        column[1 + 2 * number] = NAN
        column[2 + 2 * number] = WEEKEND.value if name == WEEK else 3 * column[0] + 5
    layer = tft.TFTransformOutput(str(tiny_graph)).transform_features_layer()
    numeric = layer({name: tf.constant(values) for name, values in rows.items()})["numeric"].numpy()
    # The same value in another place of a batch may be another in its last digit.
    kept = np.isclose(numeric[1:], numeric[0], rtol=1e-4, atol=1e-5).reshape(len(places), 2, -1).all(axis=1)
    expected = np.array([[source in made_of for made_of in sources(spec)] for source in places])
    np.testing.assert_array_equal(~kept, expected)
