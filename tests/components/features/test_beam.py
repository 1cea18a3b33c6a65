from pathlib import Path

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from hypothesis import given, settings
from hypothesis import strategies as st

from components.features.beam import ComputeFeatures, batch_name, routes
from components.features.engine import compute_features
from components.features.shuffle import Shuffle
from components.features.table import IN_MEMORY
from schemas.errors import DeclarationError
from schemas.features import specify
from schemas.transaction import COLUMN
from tests.components.features.logs import log, logs
from tests.components.features.test_engine import EVERYTHING, UNUSUAL, assert_equal


def transformed(transactions: pa.Table, transform: ComputeFeatures, batch_rows: int, folder: Path) -> list[pa.Table]:
    """What the transform makes of a table cut into batches, which is one table per batch, in no order."""
    folder.mkdir()

    def keep(batch: pa.RecordBatch) -> None:
        pq.write_table(pa.Table.from_batches([batch]), folder / batch_name(batch).hex())

    with beam.Pipeline(options=PipelineOptions(list(IN_MEMORY))) as pipeline:
        batches = pipeline | beam.Create(transactions.to_batches(max_chunksize=batch_rows))
        _ = batches | transform | beam.Map(keep)
    return [pq.read_table(file) for file in folder.iterdir()]


@settings(max_examples=8)
@given(transactions=logs(min_size=1), batch_rows=st.integers(1, 12), partition_rows=st.sampled_from([1, 3, 30]))
def test_the_transform_gives_what_one_pass_over_the_whole_log_gives(
    transactions: pa.Table, batch_rows: int, partition_rows: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    transform = ComputeFeatures(EVERYTHING, partition_rows=partition_rows)
    parts = transformed(transactions, transform, batch_rows, tmp_path_factory.mktemp("parts") / "parts")
    computed = pa.concat_tables(parts)
    assert computed.num_rows == transactions.num_rows
    # A batch's own rows stay together and in order; batches come in any order.
    batches = [batch["transaction_id"].to_pylist() for batch in transactions.to_batches(max_chunksize=batch_rows)]
    assert sorted(part["transaction_id"].to_pylist() for part in parts) == sorted(batches)
    in_order = [
        computed["transaction_id"].to_pylist().index(name) for name in transactions["transaction_id"].to_pylist()
    ]
    assert_equal(_unnamed(computed.take(pa.array(in_order))), compute_features(transactions, EVERYTHING))


def _unnamed(table: pa.Table) -> pa.Table:
    """The table with lists' values named as in memory: Parquet renames them."""
    return table.cast(compute_features(log([]), EVERYTHING).schema)


def test_vectors_of_text_and_filtered_deviations_cross_the_shuffle(tmp_path: Path) -> None:
    rows = [{"event_time": n, "device_id": ("d", None)[n % 3 == 2], "city": ("Beijing", None)[n % 2]} for n in range(9)]
    parts = transformed(log(rows), ComputeFeatures(UNUSUAL), 4, tmp_path / "parts")
    computed = pa.concat_tables(parts).sort_by("event_time")
    expected = compute_features(log(rows), UNUSUAL)
    assert_equal(computed.cast(expected.schema), expected)


def test_carried_columns_come_out_as_they_are(tmp_path: Path) -> None:
    rows = [{"event_time": n, "is_fraud": (True, False, None)[n % 3], "label_time": n + 5} for n in range(7)]
    parts = transformed(log(rows), ComputeFeatures(EVERYTHING, ("is_fraud", "label_time")), 3, tmp_path / "parts")
    computed = pa.concat_tables(parts).sort_by("event_time")
    assert computed.column_names[-2:] == ["is_fraud", "label_time"]
    assert computed.select(["is_fraud", "label_time"]).equals(log(rows).select(["is_fraud", "label_time"]))


def test_rows_without_stateful_features_come_out_too(tmp_path: Path) -> None:
    own = specify(COLUMN, ())
    [computed] = transformed(log([{}, {}]), ComputeFeatures(own), 2, tmp_path / "parts")
    assert_equal(computed, compute_features(log([{}, {}]), own))


def test_carrying_a_column_that_is_an_input_already_is_refused() -> None:
    with pytest.raises(DeclarationError, match="currency"):
        ComputeFeatures(EVERYTHING, ("currency",))


def test_the_same_transactions_in_two_batches_are_refused(tmp_path: Path) -> None:
    twice = pa.concat_tables([log([{}]), log([{}])])
    with pytest.raises(Exception, match="ids must be unique"):
        transformed(twice, ComputeFeatures(EVERYTHING), 1, tmp_path / "parts")


def test_a_key_of_two_columns_shares_the_partitions_of_the_first() -> None:
    assert set(routes(EVERYTHING)) == {"card_id", "device_id", "merchant_id"}
    assert {feature.key for feature in routes(EVERYTHING)["card_id"].features} == {"card", "card_merchant"}


def test_a_piece_does_not_take_the_buffers_behind_its_rows_along() -> None:
    rows = log([{"card_id": f"c{number}", "event_time": number} for number in range(4_000)])
    assert len(Shuffle().put(rows.slice(2_000, 1))) < 10_000
