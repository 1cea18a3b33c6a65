import json
import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.profiles import LayoutConfig, Profile, lay_out, merge, profile
from components.profiles.counting import NAMED_VALUES
from components.profiles.sketch import sketch_quantile
from schemas.errors import ArtifactError
from tests.components.profiles.rows import COUNT, MEAN, RECENT, draw, put

TABLE = draw(0)
LAYOUT = lay_out(TABLE, LayoutConfig())
WHOLE = profile(TABLE, LAYOUT)


def as_json(counted: Profile) -> str:
    return json.dumps(counted.to_dict(), sort_keys=True)


def test_bins_count_what_a_loop_over_the_rows_counts():
    rows = TABLE.to_pylist()
    edges = LAYOUT.numbers[MEAN].fine
    segment = LAYOUT.segments.index("country=FR")
    french = [row for row in rows if row["country"] == "FR"]
    expected = Counter(
        len(edges) + 1 if math.isnan(row[MEAN]) else sum(row[MEAN] > edge for edge in edges) for row in french
    )
    counted = WHOLE.numbers[MEAN].bins[segment]
    assert {i: int(n) for i, n in enumerate(counted) if n} == dict(expected)
    labels = Counter(row["is_fraud"] for row in french)
    assert WHOLE.rows[segment].tolist() == [labels[None], labels[False], labels[True]]


def test_the_segments_of_each_column_hold_every_row_once():
    for column in ("channel", "country", "amount_base_minor"):
        of_column = [i for i, name in enumerate(LAYOUT.segments) if name.startswith(f"{column}=")]
        for counts in (WHOLE.rows, WHOLE.half_hours, WHOLE.numbers[RECENT].bins, WHOLE.texts["currency"].bins):
            assert counts[of_column].sum(axis=0).tolist() == counts[0].tolist()


def test_text_is_counted_by_value_and_label_and_the_missing_apart():
    channel = WHOLE.texts["channel"]
    values = Counter(row["channel"] for row in TABLE.to_pylist())
    assert {value: sum(counts) for value, counts in channel.named.items()} == {v: n for v, n in values.items() if v}
    assert channel.missing.sum() == values[""] == channel.bins[0, -1]


@given(st.lists(st.integers(0, TABLE.num_rows), max_size=4).map(sorted))
def test_batches_add_up_to_the_whole_wherever_they_are_cut(cuts):
    bounds = [0, *cuts, TABLE.num_rows]
    batches = [TABLE.slice(a, b - a) for a, b in pairwise(bounds)]
    # A text with more values than are named may lose rare ones when batches are added.
    few = [batch.drop_columns(["card_id", "merchant_id"]) for batch in batches]
    assert as_json(profile(iter(few), LAYOUT)) == as_json(
        profile(TABLE.drop_columns(["card_id", "merchant_id"]), LAYOUT)
    )


def test_a_frequent_value_among_very_many_keeps_its_name_through_batches():
    rare = [f"d{n}" for n in range(TABLE.num_rows)]
    devices = np.where(np.arange(TABLE.num_rows) % 10 == 0, "stuck", rare).tolist()
    table = TABLE.append_column("device_id", pa.array(devices))
    counted = profile((table.slice(first, 500) for first in range(0, table.num_rows, 500)), LAYOUT).texts["device_id"]
    assert sum(counted.named["stuck"]) == table.num_rows // 10
    assert len(counted.named) == NAMED_VALUES
    assert counted.total.sum() == table.num_rows


@given(st.lists(st.floats(-1e12, 1e12).filter(lambda x: x == 0 or abs(x) > 1e-2), min_size=1, max_size=50))
def test_the_sketch_knows_the_median_within_a_fortieth(values):
    table = pa.table({"number": pa.array(values, pa.float64())})
    sketch = profile(table, LAYOUT).numbers["number"].sketch.sum(axis=0)
    median = np.quantile(values, 0.5, method="inverted_cdf")
    assert sketch_quantile(sketch, 0.5) == pytest.approx(median, rel=0.026)


def test_the_sketch_of_nothing_has_no_median_and_infinity_is_but_large():
    nothing = profile(pa.table({"number": pa.array([None, float("nan")], pa.float64())}), LAYOUT).numbers["number"]
    assert math.isnan(sketch_quantile(nothing.sketch.sum(axis=0), 0.5))
    infinite = profile(pa.table({"number": [math.inf]}), LAYOUT).numbers["number"]
    assert sketch_quantile(infinite.sketch.sum(axis=0), 0.5) > 9e14


def test_float32_null_and_boolean_columns_are_numbers_too():
    table = put(TABLE, COUNT, TABLE[COUNT].cast(pa.float32()).combine_chunks())
    assert as_json(profile(table, LAYOUT)) == as_json(WHOLE)
    flags = profile(pa.table({"flag": pa.array([True, False, None])}), LAYOUT).numbers["flag"]
    assert flags.bins[0].tolist() == [2, 1]


def test_no_rows_have_a_profile_and_change_none():
    empty = profile(TABLE.slice(0, 0), LAYOUT)
    assert empty.rows.sum() == 0
    assert as_json(merge([empty, WHOLE])) == as_json(merge([WHOLE, empty])) == as_json(WHOLE)


def test_a_profile_is_read_back_from_json():
    assert as_json(Profile.from_dict(json.loads(as_json(WHOLE)))) == as_json(WHOLE)


@pytest.mark.parametrize("raw", [{}, {"layout": []}, {**WHOLE.to_dict(), "rows": "many"}])
def test_what_is_no_profile_is_refused(raw):
    with pytest.raises(ArtifactError):
        Profile.from_dict(raw)


def test_only_profiles_of_one_layout_and_the_same_columns_add_up():
    with pytest.raises(ArtifactError, match="two layouts"):
        merge([WHOLE, profile(TABLE, lay_out(draw(1), LayoutConfig()))])
    with pytest.raises(ArtifactError, match="only one has channel"):
        merge([WHOLE, profile(TABLE.drop_columns("channel"), LAYOUT)])
    with pytest.raises(ArtifactError, match="no profile to merge"):
        merge([])
