import json

import numpy as np
import pyarrow as pa
import pytest

from components.profiles import ALL, Layout, LayoutConfig, lay_out
from schemas.errors import ArtifactError, ConfigurationError
from tests.components.profiles.rows import COUNT, MEAN, RECENT, draw, put

LAYOUT = lay_out(draw(0), LayoutConfig())


def test_a_smooth_number_is_cut_at_its_deciles_and_each_of_them_in_four():
    values = draw(0)[MEAN].to_numpy()
    edges = LAYOUT.numbers[MEAN]
    deciles = np.quantile(values[~np.isnan(values)], np.arange(1, 10) / 10, method="inverted_cdf")
    assert [edges.fine[i] for i in edges.coarse] == deciles.tolist()
    assert len(edges.fine) == 39


def test_a_number_with_few_values_has_one_bin_for_each():
    edges = LAYOUT.numbers[COUNT]
    assert set(edges.fine) <= set(range(10))
    assert [edges.name(i, wide=False) for i in (0, 1)] == ["(-inf, 0]", "(0, 1]"]
    assert edges.name(len(edges.fine) + 1, wide=False) == "missing"


def test_vectors_and_text_are_laid_out_and_what_names_the_row_is_not():
    assert len(LAYOUT.numbers[RECENT].fine) == 39
    assert LAYOUT.texts["channel"] == ("online", "chip")
    assert not {"event_time", "is_fraud"} & {*LAYOUT.numbers, *LAYOUT.texts}


def test_segments_are_all_rows_the_frequent_values_and_bands_of_the_amount():
    assert LAYOUT.segments[:4] == (ALL, "channel=online", "channel=chip", "channel=(rest)")
    assert len([s for s in LAYOUT.segments if s.startswith("amount_base_minor=")]) == 5


def test_segments_are_bounded_however_many_values_a_column_has():
    many = put(draw(0), "country", [f"c{n}" for n in range(6_000)])
    assert len(lay_out(many, LayoutConfig(segments_per_column=3)).segments) == 1 + 3 + 4 + 5


def test_rows_in_another_order_give_the_same_layout():
    table = draw(0)
    assert lay_out(table.take(np.random.default_rng(1).permutation(table.num_rows)), LayoutConfig()) == LAYOUT


def test_a_column_without_values_has_no_edges():
    table = put(draw(0), MEAN, pa.nulls(6_000, pa.float64()))
    assert lay_out(table, LayoutConfig()).numbers[MEAN].fine == ()


def test_a_layout_is_read_back_from_json():
    assert Layout.from_dict(json.loads(json.dumps(LAYOUT.to_dict()))) == LAYOUT


def test_what_is_no_layout_is_refused():
    with pytest.raises(ArtifactError, match="numbers"):
        Layout.from_dict({})


def test_settings_out_of_range_are_refused():
    with pytest.raises(ConfigurationError, match="bins is 1"):
        LayoutConfig(bins=1)
