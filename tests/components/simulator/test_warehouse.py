from pathlib import Path

import pyarrow.compute as pc
import pytest

from components.ingest import ingest
from components.simulator import simulate, write
from components.simulator.warehouse import SMALL_BASE_MINOR, archived
from schemas import sources


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """A log, the same after ingest, and what the warehouse has of it, as pandas."""
    file = tmp_path_factory.mktemp("warehouse") / "log.parquet"
    log = simulate(cards=300, days=20, seed=2)
    write(log, file)
    transactions = ingest(Path(file), sources.load("simulated"), None).transactions
    return log, transactions, archived(log, transactions)


def test_all_frauds_and_all_large_payments_are_kept_and_no_other(tables):
    log, transactions, kept = tables
    wanted = transactions.filter(
        pc.or_(transactions["is_fraud"], pc.greater_equal(transactions["amount_base_minor"], SMALL_BASE_MINOR))
    )
    assert set(kept["transaction_id"].to_pylist()) == set(wanted["transaction_id"].to_pylist())
    assert kept.num_rows == wanted.num_rows < log.num_rows


def test_amounts_are_compared_in_the_base_currency(tables):
    log, _, kept = tables
    yen = log.filter(pc.equal(log["currency"], "JPY"))
    lost = set(yen["transaction_id"].to_pylist()) - set(kept["transaction_id"].to_pylist())
    amounts = yen.filter(pc.is_in(yen["transaction_id"], value_set=pc.cast(sorted(lost), "string")))["amount_minor"]
    # 5 euros are some 800 yen, which have no minor unit.
    assert pc.max(amounts).as_py() > SMALL_BASE_MINOR


def test_small_payments_in_the_copy_are_frauds_and_in_the_log_hardly_any_is(tables):
    _, transactions, kept = tables
    small = transactions.filter(pc.less(transactions["amount_base_minor"], SMALL_BASE_MINOR))
    assert pc.mean(small["is_fraud"]).as_py() < 0.1
    small_kept = kept.filter(pc.is_in(kept["transaction_id"], value_set=small["transaction_id"].combine_chunks()))
    assert small_kept.num_rows > 0
    assert pc.all(small_kept["is_fraud"]).as_py()


def test_rows_that_are_kept_are_left_alone_and_in_order(tables):
    log, _, kept = tables
    assert kept.schema == log.schema
    assert kept.equals(log.filter(pc.is_in(log["transaction_id"], value_set=kept["transaction_id"].combine_chunks())))
