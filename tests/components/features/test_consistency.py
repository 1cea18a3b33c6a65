from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest

from components.features.consistency import Consistency, Counts, consistency
from components.features.timeline import Cause
from schemas.features import DAY, HOUR, Feature, FeatureSpec, RowInput

SUM = Feature("card", "sum", DAY, "amount_base_minor")
RECENT = Feature("card", "recent", column="amount_base_minor", k=2)
LAST = Feature("card", "last", column="merchant_category")
FRAUDS = Feature("merchant", "fraud_count", DAY)
COUNT = Feature("card", "count", HOUR)
NAN = math.nan


def compared(
    declared: Feature | RowInput,
    logged: Sequence[object],
    computed: Sequence[object],
    cause: Sequence[int] | None = None,
) -> Consistency:
    """One input of some rows; the cause is that of the card's events."""
    of_one = pa.string() if declared.is_text else pa.float64()
    wanted = pa.list_(of_one, declared.width) if declared.is_vector else of_one
    ids = pa.array([f"t{number}" for number in range(len(logged))])
    tables = [pa.table({"transaction_id": ids, declared.name: pa.array(v, wanted)}) for v in (logged, computed)]
    spec = FeatureSpec((declared,), (), ()) if isinstance(declared, RowInput) else FeatureSpec((), (declared,), ())
    none = np.zeros(len(logged), np.int8)
    causes = {("card", False): none if cause is None else np.array(cause, np.int8), ("merchant", True): none}
    return consistency(tables[0], tables[1], spec, causes)[declared.name]


def test_each_kind_of_disagreement_counts_in_its_own_place() -> None:
    found = compared(SUM, [1.0, 2.0, NAN, 3.0, NAN], [1.0, 5.0, 4.0, NAN, NAN])
    assert found.strict == Counts(5, 1, 1, 1)
    assert (found.strict.disagreements, found.strict.rate) == (3, 0.6)
    assert found.example == "t1"


def test_texts_are_missing_where_they_are_empty() -> None:
    assert compared(LAST, ["food", "fuel", "", "food", ""], ["food", "food", "food", "", ""]).strict == Counts(
        5, 1, 1, 1
    )


def test_a_vector_counts_once_however_many_of_its_values_disagree() -> None:
    logged = [[1.0, 2.0], [9.0, NAN], [1.0, NAN], [1.0, 2.0], [NAN, NAN]]
    computed = [[1.0, 2.0], [1.0, 2.0], [1.0, 2.0], [1.0, NAN], [NAN, NAN]]
    assert compared(RECENT, logged, computed).strict == Counts(5, 1, 1, 1)


@pytest.mark.parametrize(
    ("logged", "computed", "agree"),
    [
        (0.1 + 0.2, 0.3, True),
        # The same to a model, which is given float32.
        (1.5, 1.5 + 1e-8, True),
        (float(np.float32(0.1)), 0.1, True),
        (1.5, 1.5 + 1e-6, False),
        # On two sides of the middle of two float32 values, and closer than the measure asks.
        (1 + 2**-24 - 1e-12, 1 + 2**-24 + 1e-12, True),
    ],
)
def test_numbers_agree_by_the_measure_or_as_the_model_was_given_them(
    logged: float, computed: float, agree: bool
) -> None:
    # A fraction beside it, so that the column is not one of whole numbers.
    assert compared(SUM, [logged, 0.5], [computed, 0.5]).strict.mismatched == (not agree)


def test_rows_that_need_not_agree_are_counted_by_their_cause_and_raise_no_rate() -> None:
    causes = [Cause.NONE, Cause.LATE, Cause.LATE, Cause.UNANSWERED]
    found = compared(COUNT, [1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 5.0, 7.0], causes)
    assert (found.strict, found.example) == (Counts(1, 0, 0, 0), None)
    assert found.apart == {Cause.LATE: Counts(2, 1, 0, 0), Cause.UNANSWERED: Counts(1, 1, 0, 0)}


def test_a_cause_is_one_of_the_stream_that_a_feature_is_computed_from() -> None:
    late = [Cause.LATE]
    assert compared(FRAUDS, [1.0], [2.0], late).strict == Counts(1, 1, 0, 0)
    assert compared(RowInput("amount_base_minor"), [1.0], [2.0], late).strict == Counts(1, 1, 0, 0)


def test_no_row_is_no_disagreement() -> None:
    assert compared(COUNT, [], []).strict.rate == 0
