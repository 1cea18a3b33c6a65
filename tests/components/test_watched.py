"""What drift watches is what the examples hold, beside the transaction's own columns."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.examples import ROWS_PER_BATCH, read_features, read_rows
from components.splits import SPLITS
from components.watched import event_times_us, sample, watched
from schemas.errors import ArtifactError
from schemas.transaction import LABEL
from tests.components.tiny import ExampleSet


def test_every_row_comes_once_with_its_features_its_label_and_its_own_columns(tiny_examples: ExampleSet) -> None:
    table = pa.concat_tables(watched(tiny_examples.root, SPLITS, tiny_examples.spec))
    rows = pa.concat_tables(read_rows(tiny_examples.root, split) for split in SPLITS)
    for name in ("event_time", "card_id", "merchant_id", "device_id"):
        assert table[name].equals(rows[name])
    features = pa.concat_tables(read_features(tiny_examples.root, split, tiny_examples.spec) for split in SPLITS)
    assert str(table.select(features.column_names).slice(0, 50).to_pylist()) == str(features.slice(0, 50).to_pylist())
    by_id = dict(zip(*(tiny_examples.log[name].to_pylist() for name in ("transaction_id", LABEL)), strict=True))
    assert table[LABEL].to_pylist() == [by_id[one] for one in rows["transaction_id"].to_pylist()]
    assert np.array_equal(event_times_us(tiny_examples.root, SPLITS), rows["event_time"].cast(pa.int64()).to_numpy())


def many_groups(tiny_examples: ExampleSet, folder: Path, rows: int) -> Path:
    """The training split in many small row groups."""
    shutil.copytree(tiny_examples.root / "rows", folder / "rows")
    examples = pq.read_table(tiny_examples.root / "Split-train")
    (folder / "Split-train").mkdir()
    pq.write_table(examples, folder / "Split-train" / "examples.parquet", rows, use_compliant_nested_type=False)
    return folder


def test_a_sample_comes_from_all_over_the_split(tiny_examples: ExampleSet, tmp_path: Path) -> None:
    root = many_groups(tiny_examples, tmp_path, 100)
    times_us = event_times_us(root, ["train"])
    assert len(times_us) > 40 * 100
    taken = sample(root, "train", tiny_examples.spec)
    assert 1_600 <= taken.num_rows <= 3_200 < len(times_us)
    quarters = np.searchsorted(
        np.quantile(times_us, [0.25, 0.5, 0.75]), taken["event_time"].cast(pa.int64()).to_numpy()
    )
    assert min(np.bincount(quarters)) > taken.num_rows / 6
    assert sample(tiny_examples.root, "test", tiny_examples.spec).num_rows < ROWS_PER_BATCH


def test_what_a_source_does_not_have_is_not_watched(tiny_examples: ExampleSet, tmp_path: Path) -> None:
    root = many_groups(tiny_examples, tmp_path, 10_000)
    pq.write_table(read_rows(root, "train").drop_columns("device_id"), root / "rows" / "train.parquet")
    names = next(watched(root, ["train"], tiny_examples.spec)).column_names
    assert "device_id" not in names and {"card_id", "merchant_id"} <= {*names}


@pytest.mark.parametrize(("change", "said"), [(-1, "fewer"), (1, "more")])
def test_rows_that_are_not_those_of_the_examples_are_refused(
    tiny_examples: ExampleSet, tmp_path: Path, change: int, said: str
) -> None:
    root = many_groups(tiny_examples, tmp_path, 10_000)
    rows = read_rows(root, "train")
    other = rows.slice(0, rows.num_rows - 1) if change < 0 else pa.concat_tables([rows, rows.slice(0, 1)])
    pq.write_table(other, root / "rows" / "train.parquet")
    with pytest.raises(ArtifactError, match=rf"train\.parquet has {said} rows"):
        list(watched(root, ["train"], tiny_examples.spec))
