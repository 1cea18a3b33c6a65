"""No feature is another once what came later is known, and one that would be is found."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from components.features.engine import compute_features
from schemas.features import FeatureSpec, specify
from schemas.transaction import COLUMN
from tests.components.features.future import leaking
from tests.components.features.logs import DAY_US, SECOND_US, log, logs

EVERYTHING = specify(COLUMN)


def of_later_labels(transactions: pa.Table, spec: FeatureSpec) -> pa.Table:
    """Features whose labels are known as soon as the payment is made."""
    known = transactions["event_time"]
    column = transactions.column_names.index("label_time")
    return compute_features(transactions.set_column(column, "label_time", known), spec)


@given(logs(min_size=1), st.data())
def test_what_comes_later_changes_no_feature(transactions: pa.Table, data: st.DataObject) -> None:
    moments = {*transactions["event_time"].cast(pa.int64()).to_pylist()}
    moments |= {known for known in transactions["label_time"].cast(pa.int64()).to_pylist() if known is not None}
    at_us = data.draw(st.sampled_from(sorted(moments))) + data.draw(st.sampled_from([-1, 0, 1]))
    assert leaking(compute_features, transactions, EVERYTHING, at_us) == set()


def test_a_feature_of_labels_that_are_not_known_yet_is_found_by_name() -> None:
    days = ((day * DAY_US, day > 1) for day in range(8))
    plain = {"device_id": "d"}
    transactions = log(
        [{**plain, "event_time": at, "is_fraud": is_fraud, "label_time": at + 5 * DAY_US} for at, is_fraud in days]
    )
    at_us = 6 * DAY_US + SECOND_US
    assert leaking(compute_features, transactions, EVERYTHING, at_us) == set()
    assert leaking(of_later_labels, transactions, EVERYTHING, at_us) == {
        name for name in (feature.name for feature in EVERYTHING.features) if "fraud" in name
    }


def test_a_feature_of_later_transactions_is_found_by_name() -> None:
    def of_all_days(transactions: pa.Table, spec: FeatureSpec) -> pa.Table:
        """Counts all of a card's payments, not those before alone."""
        counts = transactions.group_by("card_id").aggregate([("transaction_id", "count")])
        of_card = dict(zip(counts["card_id"].to_pylist(), counts["transaction_id_count"].to_pylist(), strict=True))
        found = [float(of_card[card]) for card in transactions["card_id"].to_pylist()]
        return pa.table({"transaction_id": transactions["transaction_id"], "payments": found})

    transactions = log([{"event_time": day * DAY_US} for day in range(4)])
    assert leaking(of_all_days, transactions, EVERYTHING, DAY_US) == {"payments"}
