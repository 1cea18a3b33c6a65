"""Examples on disk: what goes in comes out, row by row, and stock TFX reads the same."""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from components.examples import (
    ROW_COLUMNS,
    pack,
    read_batches,
    read_features,
    read_rows,
    to_examples,
    write_examples,
    write_split,
)
from components.features import to_float32
from components.splits import SPLITS, SplitConfig
from components.transform_graph import parquet_source
from schemas.errors import ArtifactError, LogError
from schemas.features import Feature, RowInput, specify
from schemas.transaction import COLUMN, LABEL
from tests.components import tiny

RECENT = Feature("card", "recent", column="amount_base_minor", k=3)
RECENT_WORDS = Feature("card", "recent", column="merchant_category", k=2)
LAST = Feature("card", "last", column="merchant_category")
SPEC = specify(COLUMN, (RECENT, RECENT_WORDS, LAST), (RowInput("amount_base_minor"), RowInput("channel")))


def feature_rows(rows):
    """Rows of SPEC's inputs and the label as a table of what the engines compute, at float32."""
    kinds = {i.name: pa.string() if i.is_text else pa.float32() for i in SPEC.inputs}
    kinds |= {i.name: pa.list_(kinds[i.name], i.width) for i in SPEC.inputs if i.width > 1}
    return pa.Table.from_pylist(rows, pa.schema([*kinds.items(), (LABEL, pa.bool_())]))


def floats(values):
    return np.array(values, np.float32)


THREE = feature_rows(
    [
        {
            "amount_base_minor": 1.0,
            "channel": "chip",
            RECENT.name: [3.0, 2.0, float("nan")],
            RECENT_WORDS.name: ["food", ""],
            LAST.name: "food",
            LABEL: False,
        },
        {
            "amount_base_minor": 2.5,
            "channel": "",
            RECENT.name: [float("nan")] * 3,
            RECENT_WORDS.name: ["", ""],
            LAST.name: "",
            LABEL: True,
        },
        {
            "amount_base_minor": 3.0,
            "channel": "größe",
            RECENT.name: [0.0, -1.0, 1e30],
            RECENT_WORDS.name: ["fuel", "food"],
            LAST.name: "fuel",
            LABEL: False,
        },
    ]
)


def test_what_is_written_is_read_again_with_missing_values_and_vectors(tmp_path):
    write_split(tmp_path, "train", to_examples(THREE, SPEC), pa.table({"transaction_id": ["a", "b", "c"]}))
    features, labels = tiny.read_split(tmp_path, "train", SPEC)
    assert list(features) == [i.name for i in SPEC.inputs]
    np.testing.assert_array_equal(features["amount_base_minor"], floats([1, 2.5, 3]))
    nan = np.nan
    np.testing.assert_array_equal(features[RECENT.name], floats([[3, 2, nan], [nan, nan, nan], [0, -1, 1e30]]))
    assert features["channel"].tolist() == [b"chip", b"", "größe".encode()]
    assert features[RECENT_WORDS.name].tolist() == [[b"food", b""], [b"", b""], [b"fuel", b"food"]]
    assert features["amount_base_minor"].dtype == features[RECENT.name].dtype == labels.dtype == np.float32
    assert labels.tolist() == [0, 1, 0]
    assert read_rows(tmp_path, "train").to_pydict() == {"transaction_id": ["a", "b", "c"]}


def test_the_features_of_a_split_come_back_as_the_table_that_they_were(tmp_path):
    write_split(tmp_path, "train", to_examples(THREE, SPEC), pa.table({"transaction_id": ["a", "b", "c"]}))
    again = read_features(tmp_path, "train", SPEC)
    assert again.schema.types == THREE.drop_columns([LABEL]).schema.types
    for name in again.column_names:
        assert str(again[name].to_pylist()) == str(THREE[name].to_pylist())


def test_a_packed_row_holds_each_input_in_the_order_of_the_specification(tmp_path):
    write_split(tmp_path, "train", to_examples(THREE, SPEC), pa.table({"transaction_id": ["a", "b", "c"]}))
    features, _ = tiny.read_split(tmp_path, "train", SPEC)
    # Whatever order the mapping has.
    numeric, text = pack(dict(reversed(features.items())), SPEC)
    assert (numeric.dtype, numeric.shape) == (np.float32, (3, SPEC.numeric_width))
    np.testing.assert_array_equal(numeric[2], floats([3, 0, -1, 1e30]))
    assert text.shape == (3, SPEC.categorical_width)
    assert text[0].tolist() == [b"chip", b"food", b"", b"food"]


def test_without_text_inputs_the_packed_text_has_no_columns_but_its_rows():
    spec = specify(COLUMN, (RECENT,), (RowInput("amount_base_minor"),))
    numeric, text = pack({"amount_base_minor": np.ones(5, np.float32), RECENT.name: np.ones((5, 3), np.float32)}, spec)
    assert (numeric.shape, text.shape) == ((5, 4), (5, 0))


def test_a_log_without_devices_has_rows_without_them(tiny_examples, tmp_path):
    log = tiny_examples.log.drop_columns("device_id")
    spec = specify(set(log.column_names), (), (RowInput("amount_base_minor"),))
    features = tiny_examples.features.select(["transaction_id", *(i.name for i in spec.inputs)])
    write_examples(tmp_path, log, features.to_batches(), spec, tiny.SPLITS, tiny_examples.label_delay_s)
    assert read_rows(tmp_path, "train").column_names == [name for name in ROW_COLUMNS if name != "device_id"]


def test_every_split_holds_its_rows_with_their_own_features_labels_and_keys(tiny_examples):
    by_id = {one: row for row, one in enumerate(tiny_examples.log["transaction_id"].to_pylist())}
    narrow = to_float32(tiny_examples.features)
    assert sum(tiny_examples.rows.values()) == tiny_examples.log.num_rows
    for split in SPLITS:
        keys = read_rows(tiny_examples.root, split)
        features, labels = tiny.read_split(tiny_examples.root, split, tiny_examples.spec)
        assert keys.column_names == list(ROW_COLUMNS)
        assert keys.num_rows == len(labels) == tiny_examples.rows[split] > 0
        rows = pa.array([by_id[one] for one in keys["transaction_id"].to_pylist()])
        assert pc.all(pc.equal(tiny_examples.log[LABEL].take(rows), pa.array(labels.astype(bool)))).as_py()
        assert keys.equals(tiny_examples.log.select(ROW_COLUMNS).take(rows))
        for declaration in tiny_examples.spec.inputs:
            wanted = narrow[declaration.name].take(rows).combine_chunks()
            found = features[declaration.name].reshape(-1)
            flat = wanted.flatten() if declaration.width > 1 else wanted
            if declaration.is_text:
                assert [word.decode() for word in found] == flat.to_pylist()
            else:
                np.testing.assert_array_equal(found, flat.to_numpy())


def test_batches_are_the_split_in_pieces_of_a_row_group(tmp_path, monkeypatch):
    monkeypatch.setattr("components.examples.ROWS_PER_BATCH", 2)
    write_split(tmp_path, "train", to_examples(THREE, SPEC), pa.table({"transaction_id": ["a", "b", "c"]}))
    pieces = list(read_batches(tmp_path, "train", SPEC))
    assert [(piece["amount_base_minor"].tolist(), labels.tolist()) for piece, labels in pieces] == [
        ([1.0, 2.5], [0, 1]),
        ([3.0], [0]),
    ]
    assert [piece[RECENT.name].shape for piece, _ in pieces] == [(2, 3), (1, 3)]


def test_stock_tfx_reads_the_examples_as_the_curated_schema_has_them(tiny_examples):
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

    from components.features.table import IN_MEMORY

    source = parquet_source(tiny_examples.root, "test", tiny_examples.spec)
    seen = tiny_examples.root.parent / "as_tfx_read_them"
    seen.mkdir()

    def keep(batch):
        pq.write_table(pa.Table.from_batches([batch]), seen / "batch.parquet")

    # One batch: the split is smaller than it.  A schema that differs from the file's raises in here.
    with beam.Pipeline(options=PipelineOptions(list(IN_MEMORY))) as pipeline:
        _ = pipeline | source.BeamSource(batch_size=100_000) | beam.Map(keep)
    batch = pq.read_table(seen / "batch.parquet")
    assert batch.column_names == [*(i.name for i in tiny_examples.spec.inputs), LABEL]
    assert batch.num_rows == tiny_examples.rows["test"]
    features, labels = tiny.read_split(tiny_examples.root, "test", tiny_examples.spec)
    np.testing.assert_array_equal(batch[LABEL].combine_chunks().flatten().to_numpy(), labels)
    name = "card_id_amount_base_minor_recent_16"
    np.testing.assert_array_equal(batch[name].combine_chunks().flatten().to_numpy(), features[name].reshape(-1))
    tensors = source.TensorAdapter().ToBatchTensors(batch.combine_chunks().to_batches()[0])
    assert {name: tuple(tensor.shape[1:]) for name, tensor in tensors.items()} == {
        **{i.name: () if i.width == 1 else (i.width,) for i in tiny_examples.spec.inputs},
        LABEL: (),
    }


def test_a_log_without_good_rows_is_refused(tiny_examples, tmp_path):
    with pytest.raises(LogError, match="no row of the log is good"):
        write(tiny_examples, tmp_path, tiny_examples.log.slice(0, 0), tiny_examples.features.slice(0, 0))


def test_a_log_without_labels_is_refused_and_says_where_its_rows_went(tiny_examples, tmp_path):
    place = tiny_examples.log.column_names.index(LABEL)
    unlabelled = tiny_examples.log.set_column(place, LABEL, pa.nulls(tiny_examples.log.num_rows, pa.bool_()))
    with pytest.raises(LogError, match=r"into train or validation or test .*0 train, \d+ immature"):
        write(tiny_examples, tmp_path, unlabelled, tiny_examples.features)


def test_features_in_another_order_than_the_log_are_refused(tiny_examples, tmp_path):
    order = np.arange(tiny_examples.log.num_rows)
    order[[10, 11]] = order[[11, 10]]
    with pytest.raises(ArtifactError, match="order of the log's rows"):
        write(tiny_examples, tmp_path, tiny_examples.log, tiny_examples.features.take(order))
    with pytest.raises(ArtifactError, match="order of the log's rows"):
        write(tiny_examples, tmp_path, tiny_examples.log, tiny_examples.features.slice(1))


def test_the_files_are_the_same_whatever_batches_the_features_come_in(tiny_examples, tmp_path):
    rows_of = {}
    for size in (777, 40_000):
        rows_of[size] = write(tiny_examples, tmp_path / str(size), tiny_examples.log, tiny_examples.features, size=size)
    assert rows_of[777] == rows_of[40_000] == tiny_examples.rows
    for file in sorted((tmp_path / "777").rglob("*.parquet")):
        assert file.read_bytes() == (tmp_path / "40000" / file.relative_to(tmp_path / "777")).read_bytes(), file


def test_a_log_shorter_than_its_warm_up_is_refused(tiny_examples, tmp_path):
    long = dataclasses.replace(tiny.SPLITS, warm_up_s=60 * 86_400)
    with pytest.raises(LogError, match="too little to split by time"):
        write(tiny_examples, tmp_path, tiny_examples.log, tiny_examples.features, long)


def write(examples, root, log, features, config: SplitConfig = tiny.SPLITS, size=1_000):
    return write_examples(root, log, features.to_batches(size), examples.spec, config, examples.label_delay_s)
