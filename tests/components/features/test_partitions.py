from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.metrics import MetricsFilter
from apache_beam.options.pipeline_options import PipelineOptions

from components.features.beam import ComputeFeatures, routes
from components.features.engine import compute_features
from components.features.partitions import CONTEXT, ROW, SLOTS, add, count, plan, slots_of, split
from components.features.table import IN_MEMORY
from schemas.features import MONTH, Feature, specify
from schemas.transaction import COLUMN
from tests.components.features.logs import DAY_US, SECOND_US, log
from tests.components.features.test_engine import EVERYTHING, assert_equal

# The longest window and its hop, then the delay of the labels.
REACH_US, DELAY_US = 31 * DAY_US, 3 * DAY_US


def skewed(rows: int, days: int) -> pa.Table:
    """A log in which one merchant has 30 % of all traffic, with labels after a few days."""
    random = np.random.default_rng(7)
    times = np.sort(random.integers(0, days * DAY_US // SECOND_US, rows)) * SECOND_US
    return log(
        [
            {
                "event_time": int(time),
                "transaction_id": f"t{number:06}",
                "card_id": f"c{random.integers(rows // 10)}",
                "merchant_id": "large" if random.random() < 0.3 else f"m{random.integers(rows // 20)}",
                "device_id": (None, f"d{random.integers(rows // 10)}")[number % 3 > 0],
                "amount_base_minor": int(random.integers(100_000)),
                "city": ("Beijing", "Shenzhen")[number % 2],
                "latitude": float(random.integers(90)),
                "longitude": float(random.integers(90)),
                "is_fraud": bool(random.random() < 0.1),
                "label_time": int(time + random.integers(DELAY_US)),
            }
            for number, time in enumerate(times)
        ]
    )


@pytest.fixture(scope="module")
def transactions() -> pa.Table:
    return skewed(6_000, 300)


def busiest(transactions: pa.Table, column: str, span_us: int) -> int:
    """The most rows that one slot of keys has in any span of that length."""
    slots = slots_of(transactions[column])
    times = transactions["event_time"].cast(pa.int64()).to_numpy()
    of_slots = [np.sort(times[slots == slot]) for slot in np.unique(slots[slots >= 0])]
    return max(int((np.searchsorted(own, own + span_us) - np.arange(own.size)).max()) for own in of_slots)


def test_a_merchant_with_a_third_of_the_traffic_is_computed_in_bounded_partitions(
    transactions: pa.Table, tmp_path: Path
) -> None:
    partition_rows = 100

    def keep(batch: pa.RecordBatch) -> None:
        pq.write_table(pa.Table.from_batches([batch]), tmp_path / batch["transaction_id"][0].as_py())

    pipeline = beam.Pipeline(options=PipelineOptions(list(IN_MEMORY)))
    batches = pipeline | beam.Create(transactions.to_batches(max_chunksize=1_000))
    _ = batches | ComputeFeatures(EVERYTHING, partition_rows=partition_rows) | beam.Map(keep)
    result = pipeline.run()
    result.wait_until_finish()

    expected = compute_features(transactions, EVERYTHING)
    computed = pa.concat_tables([pq.read_table(tmp_path / name) for name in sorted(f.name for f in tmp_path.iterdir())])
    assert_equal(computed.cast(expected.schema), expected)
    found = result.metrics().query(MetricsFilter().with_name("partition_rows"))["distributions"]
    largest = max(step.committed.max for step in found)
    context = max(busiest(transactions, column, REACH_US + DELAY_US) for column in routes(EVERYTHING))
    assert largest <= 2 * max(partition_rows, context)
    # Without cuts in time all of the merchant's rows, 1,800, would be in one.
    assert largest < 600


@pytest.mark.parametrize("partition_rows", [50, 400])
def test_partitions_hold_what_was_stated_and_context_at_most_doubles_the_work(
    transactions: pa.Table, partition_rows: int
) -> None:
    specs = routes(EVERYTHING)
    batches = [pa.Table.from_batches([batch]) for batch in transactions.to_batches(max_chunksize=1_000)]
    plans = plan(add(count(batch, specs) for batch in batches), specs, partition_rows)
    numbered = transactions.append_column(ROW, pa.array(np.arange(transactions.num_rows)))
    for column, spec in specs.items():
        plan_of = plans[column]
        parts = dict(split(numbered, column, spec, plan_of, None))
        own = {number: int((part[ROW].to_numpy() != CONTEXT).sum()) for number, part in parts.items()}
        of_slots = [[plan_of.first[slot] + n for n in range(len(cuts) + 1)] for slot, cuts in plan_of.cuts.items()]
        of_cuts = {number for numbers in of_slots for number in numbers}
        context = {number: part.num_rows - own[number] for number, part in parts.items()}
        whole = parts.keys() - of_cuts
        assert all(context[number] == 0 and own[number] <= partition_rows for number in whole)
        day, days = (busiest(transactions, column, span) for span in (DAY_US, DAY_US + DELAY_US))
        assert all(own[number] <= max(partition_rows, context[number], day) for number in of_cuts)
        # What is left for the last segment of a slot may be little.
        assert all(context[number] <= own[number] + days for numbers in of_slots for number in numbers[:-1])
        # Every row with the key comes out of exactly one partition.
        numbers = np.concatenate([part[ROW].to_numpy() for part in parts.values()])
        assert np.array_equal(np.sort(numbers[numbers != CONTEXT]), np.flatnonzero(slots_of(transactions[column]) >= 0))


def test_features_of_labels_alone_are_not_cut_finer_than_their_context(transactions: pa.Table) -> None:
    specs = {"merchant_id": specify(COLUMN, (Feature("merchant", "fraud_rate", MONTH),), ())}
    [large] = slots_of(pa.chunked_array([["large"]]))
    cuts = plan(count(transactions, specs), specs, 10)["merchant_id"].cuts[int(large)]
    # 300 days in segments that grow to a month; of ten rows each it would be 180.
    assert 5 < len(cuts) < 20


def test_before_the_time_asked_for_there_are_no_segments_and_only_what_matters(transactions: pa.Table) -> None:
    specs = {"merchant_id": routes(EVERYTHING)["merchant_id"]}
    plans = plan(count(transactions, specs), specs, 100)["merchant_id"]
    since = 200 * DAY_US
    times = transactions["event_time"].cast(pa.int64()).to_numpy()
    numbers = pa.array(np.where(times >= since, np.arange(times.size), CONTEXT))
    rows = transactions.append_column(ROW, numbers)
    pieces = dict(split(rows, "merchant_id", specs["merchant_id"], plans, since))
    [slot] = slots_of(pa.chunked_array([["large"]]))
    segments = [plans.first[slot] + segment for segment in range(len(plans.cuts[slot]) + 1)]
    assert [number in pieces for number in segments] == sorted(number in pieces for number in segments)
    assert segments[0] not in pieces
    earliest = min(piece["event_time"].cast(pa.int64()).to_numpy().min() for piece in pieces.values())
    assert earliest >= since - REACH_US - DELAY_US


def test_equal_keys_share_a_slot_in_every_batch_and_missing_ones_have_none() -> None:
    first = slots_of(pa.chunked_array([["a", None, "b"], ["a"]]))
    assert first[0] == first[3] == slots_of(pa.chunked_array([["x", "a"]]))[1]
    assert first[1] == -1
    assert 0 <= first[2] < SLOTS
