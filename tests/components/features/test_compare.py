import math

import pyarrow as pa
import pytest

from components.features.compare import compare
from schemas.errors import ArtifactError


def table(**columns: list[object]) -> pa.Table:
    size = len(next(iter(columns.values())))
    return pa.table({"transaction_id": [f"t{number}" for number in range(size)], **columns})


def test_equal_tables_agree_whatever_their_order() -> None:
    first = table(mean=[1.5, math.nan], last=["a", ""])
    assert compare(first, first.take([1, 0])).agree


def test_means_may_differ_by_a_billionth_and_counts_not_at_all() -> None:
    assert compare(table(mean=[1e10 + 0.5]), table(mean=[1e10 + 0.75])).agree
    assert not compare(table(mean=[1.5]), table(mean=[1.5 + 1e-8])).agree
    assert compare(table(mean=[0.0, 0.5]), table(mean=[1e-13, 0.5])).agree
    assert not compare(table(count=[1e10]), table(count=[1e10 + 1])).agree


@pytest.mark.parametrize("value", [0.0, math.inf])
def test_missing_agrees_only_with_missing(value: float) -> None:
    difference = compare(table(mean=[0.5, math.nan]), table(mean=[0.5, value])).features["mean"]
    assert (difference.disagreements, difference.example) == (1, "t1")


def test_infinity_agrees_with_no_other_number() -> None:
    assert not compare(table(mean=[0.5, math.inf]), table(mean=[0.5, 1e300])).agree
    assert compare(table(mean=[0.5, math.inf]), table(mean=[0.5, math.inf])).agree


def test_the_largest_difference_is_told_per_feature() -> None:
    found = compare(table(mean=[1.5, 2.5], count=[1.0, 1.0]), table(mean=[1.5, 4.75], count=[1.0, 1.0]))
    assert {name: feature.largest for name, feature in found.features.items()} == {"mean": 2.25, "count": 0.0}


def test_vectors_and_texts_are_compared_by_row() -> None:
    vectors = pa.array([[1.5, 2.0], [3.0, math.nan]], pa.list_(pa.float64(), 2))
    others = pa.array([[1.5, 2.0], [3.0, 4.0]], pa.list_(pa.float64(), 2))
    first = table(city=["Beijing", ""]).append_column("recent", vectors)
    second = table(city=["Wuhan", ""]).append_column("recent", others)
    found = compare(first, second)
    assert {name: (f.disagreements, f.example) for name, f in found.features.items()} == {
        "city": (1, "t0"),
        "recent": (1, "t1"),
    }


def test_rows_and_columns_in_one_table_only_are_a_disagreement() -> None:
    found = compare(table(count=[1.0, 2.0], more=[1, 2]), table(count=[1.0]))
    assert (found.rows, found.only_first, found.only_second) == (1, 1, 0)
    assert found.columns_only_in_one == ("more (int64)",)
    assert not found.agree


def test_tables_without_a_row_in_common_do_not_agree() -> None:
    assert not compare(table(count=[1.0]).slice(1), table(count=[1.0]).slice(1)).agree


def test_a_table_that_cannot_be_matched_is_refused() -> None:
    with pytest.raises(ArtifactError, match="transaction_id"):
        compare(pa.table({"count": [1.0]}), table(count=[1.0]))
    with pytest.raises(ArtifactError, match="'t0' more than once"):
        compare(pa.concat_tables([table(count=[1.0])] * 2), table(count=[1.0]))
